"""Memory arithmetic: how many GPUs one copy of a model needs, and what context and concurrency then fit.

Source: serving study §4.1 (formulas from engine code and recipes, checked against published deployments):
  weights      W = parameters × bytes (the checkpoint's own size where the catalogue has it)
  fits on n    memory × 0.9 − 4 GB ≥ W/n + cache per token × tokens × share
  share        max(1/n, 1/kv_heads); 1 where the cache is compressed and held whole by every rank (MLA)
  split        n divides the attention heads; n and the kv heads divide one another
All sizes in GB (10^9 bytes), as makers of GPUs and model cards count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from aifactory.catalog import Model

USABLE = 0.9
"""Share of GPU memory that the engines take."""
OVERHEAD_GB = 4.0
"""Activations and graphs, each GPU (3 to 5 GB seen)."""
COMFORT_TOKENS = 65_536
"""Tokens that should stay resident at once; what published minimum GPU counts assume."""
FLOOR_TOKENS = 4_096
"""Below this a service is of no use, unless a shorter context is asked for."""
UNKNOWN_CACHE = 1.2
"""Recipes ask 1.2 × W where the cache is not worked out."""
MAX_NODES = 16
"""One copy over more nodes than that has not been seen."""
BYTES_A_PARAMETER = {"bf16": 2.0, "fp8": 1.05, "nvfp4": 0.6, "mxfp4": 0.6, "int4": 0.6}
"""Scales, embeddings and unquantised parts included; ± 8 %."""


@dataclass(frozen=True)
class Load:
    """What one copy of a model weighs and what its cache costs. None = not known."""

    weights_gb: float
    weights_reason: str
    cache_bytes_per_token: int | None
    attention_heads: int | None
    kv_heads: int | None
    mla: bool


@dataclass(frozen=True)
class Split:
    """One copy on `gpus` GPUs of each of `nodes` nodes. `tokens` fit beside the weights (None = cannot be known)."""

    gpus: int
    nodes: int
    tokens: int | None


def load(model: Model, precision: str) -> Load | None:
    """The model's load at that precision, or None when neither file size nor parameters are known."""
    if (stated := {str(p): gb for p, gb in model.weights_gb.items()}.get(precision)) is not None:
        weights_gb, reason = stated, f"{precision} checkpoint of {model.key}"
    elif model.params_b is not None:
        weights_gb = model.params_b * BYTES_A_PARAMETER[precision]
        reason = f"{model.params_b:g} billion parameters × {BYTES_A_PARAMETER[precision]:g} bytes ({precision})"
    else:
        return None
    return Load(weights_gb, reason, _cache_bytes(model), model.attention_heads, model.kv_heads, model.mla)


def _cache_bytes(model: Model) -> int | None:
    """16-bit cache of all layers for one token."""
    if model.kv_bytes_per_token is not None:
        return model.kv_bytes_per_token
    if model.mla or model.layers is None or model.kv_heads is None or model.head_dim is None:
        return None
    return 2 * 2 * model.layers * model.kv_heads * model.head_dim


def budget_gb(memory_gb: float) -> float:
    """What one GPU has for weights and cache."""
    return memory_gb * USABLE - OVERHEAD_GB


def tokens(memory_gb: float, load: Load, gpus: int, nodes: int = 1) -> int | None:
    """Tokens of cache beside the weights; negative when the weights alone do not fit, None when it cannot be known."""
    free_gb = budget_gb(memory_gb) - load.weights_gb / (gpus * nodes)
    if free_gb < 0:
        return -1
    if load.cache_bytes_per_token is None:
        roomy = budget_gb(memory_gb) * gpus * nodes >= UNKNOWN_CACHE * load.weights_gb
        return None if roomy else -1
    share = 1.0 if load.mla else max(1 / gpus, 1 / load.kv_heads if load.kv_heads else 0.0)
    return math.floor(free_gb * 1e9 / (load.cache_bytes_per_token * share / nodes))


def may_split(load: Load, gpus: int) -> bool:
    """Whether the model's heads can be shared out over that many GPUs."""
    if load.attention_heads is not None and load.attention_heads % gpus:
        return False
    kv = load.kv_heads
    return load.mla or kv is None or kv % gpus == 0 or gpus % kv == 0


def splits(memory_gb: float, load: Load, gpus_per_node: int, nodes: int) -> Iterator[Split]:
    """Every way to spread one copy, the smallest first; several nodes only with all GPUs that one node can use."""
    inside = [n for n in range(1, gpus_per_node + 1) if gpus_per_node % n == 0 and may_split(load, n)]
    for gpus in inside:
        yield Split(gpus, 1, tokens(memory_gb, load, gpus))
    for count in range(2, min(nodes, MAX_NODES) + 1):
        yield Split(inside[-1], count, tokens(memory_gb, load, inside[-1], count))


def smallest(memory_gb: float, load: Load, gpus_per_node: int, nodes: int, *, comfort: int, floor: int) -> Split | None:
    """The smallest split that holds `comfort` tokens, else `floor` tokens; one node before several."""
    ways = list(splits(memory_gb, load, gpus_per_node, nodes))
    for several in (False, True):
        for wanted in (max(comfort, floor), floor):
            for way in ways:
                if (way.nodes > 1) == several and (way.tokens is None or way.tokens >= wanted):
                    return way
    return None
