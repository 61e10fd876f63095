"""Which engine serves a model on a pool, and in which weight format."""

from __future__ import annotations

from collections.abc import Iterable

from aifactory import catalog
from aifactory.catalog import Engine, Gpu, Model
from aifactory.plan.lookup import refuse, row
from aifactory.plan.model import Derived
from aifactory.region.spec import Service

AUTO = "auto"
CPU = "cpu"
EXACTNESS = ("bf16", "fp8", "mxfp4", "nvfp4", "int4")


def exact_first(formats: Iterable[str]) -> tuple[str, ...]:
    """Weight formats from the most exact to the least."""
    return tuple(sorted(formats, key=EXACTNESS.index))


def choose(service: Service, model: Model, gpu: Gpu | None, path: str) -> Derived[str]:
    """The engine asked for, else the first in the model's list that runs on the pool's hardware.

    Raises ProblemError PLAN-005 when it does not serve the model there.
    """
    vendor = gpu.vendor if gpu else CPU
    where = f"{gpu.name}" if gpu else "CPUs"
    fitting = [key for key in model.engines if vendor in catalog.engines()[key].vendors]
    if service.engine != AUTO:
        engine = row(catalog.engines(), service.engine, what="engine", path=f"{path}.engine")
        if engine.key in fitting:
            return Derived(engine.key, "as asked")
        wrong = f"does not serve {model.key}" if engine.key not in model.engines else f"does not run on {where}"
        raise refuse("PLAN-005", f"{path}.engine", f"{engine.name} {wrong}.", nearest=tuple(fitting))
    if not fitting:
        raise refuse(
            "PLAN-005", f"{path}.pool", f"No engine serves {model.key} on {where}.",
            nearest=_pools_hint(model), allowed=f"engines of {model.key}: {', '.join(model.engines)}",
        )  # fmt: skip
    return Derived(str(fitting[0]), f"the first of {model.key}'s engines that runs on {where}")


def _pools_hint(model: Model) -> tuple[str, ...]:
    vendors = {v for key in model.engines for v in catalog.engines()[key].vendors if v != CPU}
    return (f"a pool with GPUs of {' or '.join(sorted(vendors))}",) if vendors else ("a pool without GPUs",)


def precisions(service: Service, model: Model, engine: Engine, gpu: Gpu | None, path: str) -> tuple[str, ...]:
    """Formats to try, the most exact first; one when it is asked for.

    Raises ProblemError PLAN-006 when there is none that model, engine and GPU share.
    """
    shared = exact_first(p for p in model.precisions if p in engine.precisions and (gpu is None or p in gpu.precisions))
    if service.precision == AUTO and shared:
        return shared
    if service.precision in shared:
        return (service.precision,)
    if service.precision == AUTO:
        raise refuse(
            "PLAN-006", f"{path}.model",
            f"{model.key} comes in {', '.join(model.precisions)}; "
            f"{engine.name}{f' on {gpu.name}' if gpu else ''} serves none of them.",
        )  # fmt: skip
    if service.precision not in model.precisions:
        wrong = f"{model.key} does not come in {service.precision}."
    elif service.precision not in engine.precisions:
        wrong = f"{engine.name} does not serve {service.precision}."
    else:
        wrong = f"{gpu.name if gpu else 'This hardware'} has no {service.precision}."
    raise refuse("PLAN-006", f"{path}.precision", wrong, nearest=shared)
