"""Memory arithmetic against published minimum GPU counts. Real: everything (pure functions)."""

from __future__ import annotations

import dataclasses

import pytest
from aifactory import catalog
from aifactory.plan import sizing
from aifactory.plan.sizing import Load

CLASSES_GB = (80, 141, 192)

LLAMA_8B = Load(16, "", 131_072, 32, 8, False)
LLAMA_70B = Load(141, "", 327_680, 64, 8, False)
QWEN_32B = Load(66, "", 262_144, 64, 8, False)
QWEN_235B = Load(470, "", 192_512, 64, 4, False)
MIXTRAL_8X7B = Load(93, "", 131_072, 32, 8, False)


def smallest(memory_gb: float, load: Load, *, gpus: int = 8, nodes: int = 1, tokens: int = 64_000) -> int | None:
    split = sizing.smallest(memory_gb, load, gpus, nodes, comfort=tokens, floor=tokens)
    return split.gpus * split.nodes if split else None


@pytest.mark.parametrize(
    ("load", "gpus"),
    [
        (LLAMA_8B, (1, 1, 1)),
        (LLAMA_70B, (4, 2, 1)),
        (dataclasses.replace(LLAMA_70B, weights_gb=74), (2, 1, 1)),
        (QWEN_32B, (2, 1, 1)),
        (QWEN_235B, (8, 4, 4)),
        (dataclasses.replace(QWEN_235B, weights_gb=247), (4, 4, 2)),
        (MIXTRAL_8X7B, (2, 1, 1)),
    ],
)
def test_smallest_published_models_match_the_published_minimum(load: Load, gpus: tuple[int, ...]) -> None:
    """64k tokens at BF16 cache on the 80, 141 and 192 GB classes (serving study, table 4.2)."""
    assert tuple(smallest(memory, load) for memory in CLASSES_GB) == gpus


def test_tokens_compressed_cache_is_held_whole_by_every_rank() -> None:
    shared = Load(690, "", 70_272, 128, 8, False)
    whole = dataclasses.replace(shared, mla=True)
    assert (sizing.tokens(141, shared, 8) or 0) > 7 * (sizing.tokens(141, whole, 8) or 0) > 0


def test_tokens_more_ranks_than_kv_heads_share_no_further() -> None:
    load = Load(0, "", 100_000, 64, 4, False)
    assert sizing.tokens(80, load, 8) == sizing.tokens(80, load, 4)


def test_tokens_weights_that_do_not_fit_are_negative() -> None:
    assert (sizing.tokens(80, LLAMA_70B, 1) or 0) < 0


def test_tokens_unknown_cache_wants_a_fifth_more_than_the_weights() -> None:
    budget_gb = sizing.budget_gb(80)
    tight = Load(budget_gb / 1.19, "", None, None, None, False)
    roomy = Load(budget_gb / 1.21, "", None, None, None, False)
    assert sizing.tokens(80, tight, 1) == -1
    assert sizing.tokens(80, roomy, 1) is None


@pytest.mark.parametrize(
    ("heads", "kv_heads", "allowed"), [(40, 10, [1, 2]), (64, 8, [1, 2, 4, 8]), (28, 4, [1, 2, 4])]
)
def test_may_split_follows_the_heads(heads: int, kv_heads: int, allowed: list[int]) -> None:
    load = Load(1, "", 1, heads, kv_heads, False)
    assert [n for n in (1, 2, 4, 8) if sizing.may_split(load, n)] == allowed


def test_smallest_takes_several_nodes_only_when_one_is_too_small() -> None:
    huge = Load(1_300, "", 70_272, 128, 8, False)
    assert smallest(80, huge, nodes=1) is None
    assert smallest(80, huge, nodes=8) == 24
    assert smallest(80, LLAMA_70B, nodes=8) == 4


def test_smallest_falls_back_to_the_floor_before_it_takes_a_second_node() -> None:
    load = Load(520, "", 327_680, 64, 8, False)
    comfort_only = sizing.smallest(80, load, 8, 4, comfort=400_000, floor=400_000)
    with_floor = sizing.smallest(80, load, 8, 4, comfort=400_000, floor=4_096)
    assert comfort_only is not None
    assert with_floor is not None
    assert (comfort_only.nodes, with_floor.nodes) == (2, 1)


def test_load_prefers_the_checkpoints_own_size() -> None:
    model = next(m for m in catalog.models().values() if m.params_b and m.weights_gb)
    precision = next(iter(model.weights_gb))
    load = sizing.load(model, precision)
    assert load is not None
    assert load.weights_gb == model.weights_gb[precision]
    computed = sizing.load(dataclasses.replace(model, weights_gb={}), precision)
    assert computed is not None
    assert computed.weights_gb == (model.params_b or 0) * sizing.BYTES_A_PARAMETER[precision]


def test_load_nothing_known_is_none() -> None:
    model = next(iter(catalog.models().values()))
    assert sizing.load(dataclasses.replace(model, weights_gb={}, params_b=None), "bf16") is None


def test_load_cache_follows_from_the_architecture() -> None:
    model = next(iter(catalog.models().values()))
    known = dataclasses.replace(
        model, kv_bytes_per_token=None, mla=False, layers=80, kv_heads=8, head_dim=128, weights_gb={"bf16": 1.0}
    )
    load = sizing.load(known, "bf16")
    assert load is not None
    assert load.cache_bytes_per_token == 327_680
