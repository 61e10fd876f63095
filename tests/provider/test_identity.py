"""Tokens by the rules the engine forces on us. Pure."""

from __future__ import annotations

from aifactory.provider import identity
from aifactory.provider.identity import Tokens
from aifactory.provider.resource import UNKNOWN

URN = "urn:pulumi:s::p::t::n"


def fill(tokens: Tokens, **given: object) -> str:
    return tokens.fill("d", URN, **{"generation": 1, **given})  # type: ignore[arg-type]


def test_token_is_the_same_in_every_process() -> None:
    assert fill(Tokens()) == fill(Tokens())


def test_token_depends_on_each_part() -> None:
    parts = [("d", "u", 1, ""), ("e", "u", 1, ""), ("d", "v", 1, ""), ("d", "u", 2, ""), ("d", "u", 1, "p")]
    assert len({identity.token(*p) for p in parts}) == len(parts)
    assert identity.token("a", "bc") != identity.token("ab", "c")


def test_old_token_is_kept() -> None:
    assert fill(Tokens(), old_token="t0", old_generation=1) == "t0"


def test_replacement_chains_from_the_live_token_and_repeats() -> None:
    tokens = Tokens()
    fill(tokens, old_token="t0", old_generation=1)
    replacement = fill(tokens)
    assert replacement not in ("t0", fill(Tokens()))
    assert fill(tokens) == replacement


def test_killed_replacement_gets_its_token_again_in_the_next_run() -> None:
    first, second = Tokens(), Tokens()
    fill(first, old_token="t0", old_generation=1)
    fill(second, old_token="t0", old_generation=1)
    assert fill(first) == fill(second)


def test_new_generation_gives_both_checks_the_same_new_token() -> None:
    tokens = Tokens()
    with_olds = fill(tokens, generation=2, old_token="t0", old_generation=1)
    assert with_olds != "t0"
    assert fill(tokens, generation=2) == with_olds


def test_generation_and_back_never_repeats_a_token() -> None:
    seen = ["t0"]
    for generation in (2, 1, 2, 1):
        tokens = Tokens()
        fill(tokens, generation=generation, old_token=seen[-1], old_generation=3 - generation)
        seen.append(fill(tokens, generation=generation))
    assert len(set(seen)) == 5


def test_unknown_generation_or_deployment_gives_unknown() -> None:
    assert fill(Tokens(), generation=UNKNOWN) is UNKNOWN
    assert Tokens().fill("", URN, generation=1) is UNKNOWN


def test_given_token_counts_only_without_olds() -> None:
    assert fill(Tokens(), given="imported") == "imported"
    assert fill(Tokens(), given="imported", old_token="t0", old_generation=1) == "t0"
