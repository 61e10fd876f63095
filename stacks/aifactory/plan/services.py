"""Each service worked out: engine, format, GPUs, context, requests at once, and where its copies stand."""

from __future__ import annotations

from aifactory import catalog
from aifactory.errors import Problem, ProblemError
from aifactory.plan import engines
from aifactory.plan.fit import Ask, fit
from aifactory.plan.lookup import refuse, row
from aifactory.plan.model import PoolPlan, ServicePlan
from aifactory.plan.placement import Ledger
from aifactory.region.spec import Region, Service


def services(spec: Region, pools: tuple[PoolPlan, ...]) -> tuple[ServicePlan, ...]:
    """All services in file order. Raises one ProblemError with everything that does not fit."""
    ledgers = {p.name: Ledger(p) for p in pools if p.purpose == "serve"}
    planned: list[ServicePlan] = []
    problems: list[Problem] = []
    for index, service in enumerate(spec.services):
        try:
            planned.append(_service(service, f"services[{index}]", ledgers, spec.provider.kind))
        except ProblemError as error:
            problems.extend(error.problems)
    if problems:
        raise ProblemError(problems)
    return tuple(planned)


def _service(service: Service, path: str, ledgers: dict[str, Ledger], provider: str) -> ServicePlan:
    if service.pool not in ledgers:
        near = catalog.nearest(service.pool, ledgers) or tuple(ledgers)
        raise refuse("PLAN-004", f"{path}.pool", f"The region has no pool {service.pool}.", nearest=near)
    ledger = ledgers[service.pool]
    model = row(catalog.models(), service.model, what="model", path=f"{path}.model")
    shape = catalog.shapes()[ledger.pool.shape]
    gpu = catalog.gpus()[shape.gpu] if shape.gpu else None
    engine = engines.choose(service, model, gpu, path)
    formats = engines.precisions(service, model, catalog.engines()[engine.value], gpu, path)
    how = fit(Ask(service, model, shape, gpu, formats, len(ledger.pool.nodes), provider, path))
    return ServicePlan(
        name=service.name,
        model=model.key,
        pool=service.pool,
        engine=engine,
        precision=how.precision,
        context_tokens=how.context_tokens,
        parallel_requests=how.parallel_requests,
        tensor_parallel=how.tensor_parallel,
        replicas=ledger.place(service, how.split, path),
        model_file=model.file,
        model_sha256=model.sha256,
        weights_gib=how.weights_gib,
    )
