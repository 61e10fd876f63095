"""What `up` says at its end, and how a person asks for a node. Real: the commands' own printing."""

from __future__ import annotations

import pytest
from aifactory.cli import lifecycle, use
from aifactory.engine import Change, Outcome
from aifactory.errors import Exit, ProblemError
from aifactory.provider import tokens

from tests.unit.hosts.conftest import fleet_host


def ended(*changed: str) -> Outcome:
    changes = tuple(Change("update", f"urn::{kind}::x", kind, "x") for kind in changed)
    outputs = {"verdicts": [{"verdict": "pass"}, {"verdict": "pass"}]}
    return Outcome("up", Exit.OK, {"same": 9}, changes, (), (), outputs, 1.0)


@pytest.mark.parametrize(("changed", "anew"), [((tokens.SERVICE_ACCEPTANCE,), True), ((tokens.HOST_KEYS,), False)])
def test_old_verdicts_are_not_told_as_proof_of_now(
    capsys: pytest.CaptureFixture[str], changed: tuple[str, ...], anew: bool
) -> None:
    lifecycle._print_summary("oslo", ended(*changed), 1.0)
    line = next(line for line in capsys.readouterr().out.splitlines() if "checks proved" in line)
    assert line.startswith("  2 of 2 checks proved")
    assert ("aifactory verify oslo" in line) is not anew


@pytest.mark.parametrize(("given", "nearest"), [("", ()), ("oslo-serve-00", ("oslo-serve-000",))])
def test_a_node_that_is_not_named_right_is_answered_with_all_names(given: str, nearest: tuple[str, ...]) -> None:
    region = use.Standing(
        "oslo", (fleet_host("oslo-serve-000"), fleet_host("front")), None, "", (), (), "", None, None, None, None, {}
    )
    with pytest.raises(ProblemError) as caught:
        use._host(region, given)
    (problem,) = caught.value.problems
    assert (problem.nearest, problem.allowed) == (nearest, "oslo-serve-000, front")
