"""How one copy of a service runs on one node of its pool: weight format, GPUs, context, requests at once."""

from __future__ import annotations

from dataclasses import dataclass

from aifactory import catalog
from aifactory.catalog import Gpu, Model, Shape
from aifactory.errors import ProblemError
from aifactory.plan import engines, sizing
from aifactory.plan.lookup import refuse
from aifactory.plan.model import Derived
from aifactory.plan.sizing import Load, Split
from aifactory.region.spec import Service

MAX_PARALLEL = 256
"""Requests an engine batches at once at most; its own default ceiling."""
CPU_PARALLEL = 4
"""Requests at once on a CPU node: more only wait for the same cores."""
UNKNOWN_PARALLEL = 16
"""Requests at once where the cache per token is not known: the engine queues the rest."""
FALLBACK_CONTEXT_TOKENS = 8_192
"""Where neither the file nor the catalogue says."""
ROUND_TOKENS = 1_024
GIB_A_GB = 1e9 / 2**30


@dataclass(frozen=True)
class Ask:
    """A service and everything its fit depends on.

    `formats` are the weight formats allowed, the most exact first; `path` is the service's place in the region file.
    """

    service: Service
    model: Model
    shape: Shape
    gpu: Gpu | None
    formats: tuple[str, ...]
    nodes: int
    provider: str
    path: str

    @property
    def floor_tokens(self) -> int:
        """Tokens without which the copy is refused: the context asked for, else the least that is of use."""
        return self.service.context_tokens or min(self.model.context_tokens or sizing.FLOOR_TOKENS, sizing.FLOOR_TOKENS)

    @property
    def comfort_tokens(self) -> int:
        """Tokens worth one more doubling of the GPUs."""
        return min(sizing.COMFORT_TOKENS, self.model.context_tokens or sizing.COMFORT_TOKENS)


@dataclass(frozen=True)
class Fit:
    """One copy of a service as it will run."""

    precision: Derived[str]
    split: Split
    tensor_parallel: Derived[int]
    context_tokens: Derived[int]
    parallel_requests: Derived[int]
    weights_gib: Derived[float | None]


def fit(ask: Ask) -> Fit:
    """How the copy runs. Raises ProblemError PLAN-007 (does not fit) or PLAN-009 (longer than the model's context)."""
    asked, own = ask.service.context_tokens, ask.model.context_tokens
    if asked and own and asked > own:
        raise refuse(
            "PLAN-009",
            f"{ask.path}.context_tokens",
            f"{ask.model.key} was made for {own:,} tokens of context; {asked:,} are asked for.",
            nearest=(str(own),),
        )
    return _on_gpus(ask, ask.gpu) if ask.gpu else _on_cpus(ask)


def _on_gpus(ask: Ask, gpu: Gpu) -> Fit:
    """The most exact format that one node holds, else the most exact that several hold."""
    if gpu.memory_gb is None:
        raise refuse("PLAN-007", f"{ask.path}.pool", f"The memory of {gpu.name} is not known: nothing can be placed.")
    found = [f for f in (_split(ask, gpu.memory_gb, p) for p in ask.formats) if f]
    if not found:
        raise _too_big(ask, gpu)
    precision, load, split = next((f for f in found if f[2].nodes == 1), found[0])
    context = _context(ask, split)
    return Fit(
        precision=_precision(ask, precision),
        split=split,
        tensor_parallel=Derived(split.gpus, _split_reason(gpu, gpu.memory_gb, load, split)),
        context_tokens=context,
        parallel_requests=_parallel(split, context.value),
        weights_gib=Derived(round(load.weights_gb * GIB_A_GB, 1), load.weights_reason),
    )


def _split(ask: Ask, memory_gb: float, precision: str) -> tuple[str, Load, Split] | None:
    load = sizing.load(ask.model, precision)
    if load is None:
        return None
    split = sizing.smallest(
        memory_gb, load, ask.shape.gpus, ask.nodes, comfort=ask.comfort_tokens, floor=ask.floor_tokens
    )
    return (precision, load, split) if split else None


def _on_cpus(ask: Ask) -> Fit:
    """On the CPUs of one node; refused when the node's memory is known and too small."""
    precision = ask.formats[0]
    load = sizing.load(ask.model, precision)
    asked = ask.service.context_tokens
    context = Derived(asked, "as asked") if asked else _own_context(ask.model)
    if load and ask.shape.memory_gib is not None:
        cache_gb = (load.cache_bytes_per_token or 0) * context.value * CPU_PARALLEL / 1e9
        have_gb = ask.shape.memory_gib / GIB_A_GB * sizing.USABLE
        if load.weights_gb + cache_gb > have_gb:
            raise refuse(
                "PLAN-007",
                f"{ask.path}.model",
                f"{ask.model.key} in {precision} needs {load.weights_gb + cache_gb:,.1f} GB of memory; "
                f"a {ask.shape.key} has {have_gb:,.1f} GB to spare.",
                nearest=_shorter_on_cpus(context.value, load, have_gb),
            )
    weights: Derived[float | None] = Derived(None, "neither size nor parameters are known")
    if load:
        weights = Derived(round(load.weights_gb * GIB_A_GB, 3), load.weights_reason)
    return Fit(
        precision=_precision(ask, precision),
        split=Split(0, 1, None),
        tensor_parallel=Derived(1, "the nodes have no GPUs"),
        context_tokens=context,
        parallel_requests=Derived(CPU_PARALLEL, "CPU node: more only wait for the same cores"),
        weights_gib=weights,
    )


def _shorter_on_cpus(context: int, load: Load, have_gb: float) -> tuple[str, ...]:
    if not load.cache_bytes_per_token or load.weights_gb >= have_gb:
        return ()
    tokens = int((have_gb - load.weights_gb) * 1e9 / load.cache_bytes_per_token / CPU_PARALLEL)
    fits = tokens // ROUND_TOKENS * ROUND_TOKENS
    return (f"context_tokens: {fits}",) if 0 < fits < context else ()


def _precision(ask: Ask, precision: str) -> Derived[str]:
    if ask.service.precision == precision:
        return Derived(precision, "as asked")
    if len(ask.formats) == 1:
        return Derived(precision, "the one format that model, engine and hardware share")
    passed = ask.formats[: ask.formats.index(precision)]
    more = f"; {', '.join(passed)} takes more than one node" if passed else ""
    return Derived(precision, f"the most exact of {', '.join(ask.formats)} that fits{more}")


def _own_context(model: Model) -> Derived[int]:
    if model.context_tokens:
        return Derived(model.context_tokens, f"{model.key}'s own")
    return Derived(FALLBACK_CONTEXT_TOKENS, f"{model.key}'s own is not known and none was asked for")


def _context(ask: Ask, split: Split) -> Derived[int]:
    if ask.service.context_tokens:
        return Derived(ask.service.context_tokens, "as asked")
    own = _own_context(ask.model)
    if split.tokens is None or own.value <= split.tokens:
        return own
    fits = split.tokens - split.tokens % ROUND_TOKENS
    return Derived(fits, f"what fits beside the weights; {ask.model.key}'s own is {own.value:,}")


def _parallel(split: Split, context: int) -> Derived[int]:
    if split.tokens is None:
        return Derived(UNKNOWN_PARALLEL, "the cache per token is not known; the engine queues the rest")
    fits = split.tokens // context
    if fits > MAX_PARALLEL:
        return Derived(MAX_PARALLEL, f"{fits:,} of {context:,} tokens would fit; engines batch at most {MAX_PARALLEL}")
    return Derived(fits, f"{split.tokens:,} tokens fit ÷ {context:,} a request")


def _split_reason(gpu: Gpu, memory_gb: float, load: Load, split: Split) -> str:
    ranks = split.gpus * split.nodes
    each = f"{load.weights_gb:g} GB of weights" + (f" ÷ {ranks}" if ranks > 1 else "")
    budget = f"{sizing.budget_gb(memory_gb):g} GB ({memory_gb:g} × {sizing.USABLE} − {sizing.OVERHEAD_GB:g})"
    have = f"{budget} of a {gpu.name}"
    if split.tokens is None:
        return f"{have} hold {each} and a fifth more; the cache per token is not known"
    over = f", over {split.nodes} nodes" if split.nodes > 1 else ""
    return f"{have} hold {each}; {split.tokens:,} tokens of cache fit{over}"


def _too_big(ask: Ask, gpu: Gpu) -> ProblemError:
    """Says how big, and what would fit: another format or a shorter context here, then shapes of the provider."""
    precision = ask.formats[-1]
    load = sizing.load(ask.model, precision)
    if load is None:
        return refuse("PLAN-007", f"{ask.path}.model", f"The size of {ask.model.key} is not known.")
    tokens = f" with {ask.service.context_tokens:,} tokens of context" if ask.service.context_tokens else ""
    return refuse(
        "PLAN-007",
        f"{ask.path}.model",
        f"{ask.model.key} in {precision} ({load.weights_gb:g} GB){tokens} does not fit on "
        f"{ask.nodes} × {ask.shape.key} ({ask.shape.gpus} × {gpu.name} each).",
        nearest=(*_fits_here(ask, gpu), *_fits_there(ask))[:4],
    )


def _fits_here(ask: Ask, gpu: Gpu) -> list[str]:
    """Edits of the service with which it fits on the same pool."""
    found = []
    engine_formats = {str(p) for key in ask.model.engines for p in catalog.engines()[key].precisions}
    for precision in engines.exact_first(p for p in ask.model.precisions if p in gpu.precisions):
        if precision not in engine_formats or gpu.memory_gb is None:
            continue
        if precision not in ask.formats and _split(ask, gpu.memory_gb, precision):
            found.append(f"precision: {precision}")
        load = sizing.load(ask.model, precision)
        if load and ask.service.context_tokens and precision in ask.formats:
            ways = sizing.splits(gpu.memory_gb, load, ask.shape.gpus, ask.nodes)
            most = max((way.tokens or 0 for way in ways), default=0) // ROUND_TOKENS * ROUND_TOKENS
            if most:
                found.append(f"context_tokens: {most}")
    return found


def _fits_there(ask: Ask) -> list[str]:
    """Shapes of the provider on which as many nodes would hold it, the one with the least GPU memory first."""
    found = []
    for shape in catalog.shapes().values():
        gpu = catalog.gpus()[shape.gpu] if shape.gpu and ask.provider in shape.providers else None
        if gpu is None or gpu.memory_gb is None or shape.key == ask.shape.key:
            continue
        loads = [sizing.load(ask.model, p) for p in ask.formats if p in gpu.precisions]
        limits = {"comfort": ask.floor_tokens, "floor": ask.floor_tokens}
        if any(load and sizing.smallest(gpu.memory_gb, load, shape.gpus, ask.nodes, **limits) for load in loads):
            found.append((gpu.memory_gb * shape.gpus, shape.key))
    return [f"shape: {key}" for _, key in sorted(found)]
