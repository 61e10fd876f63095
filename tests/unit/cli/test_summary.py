"""What `up` says at its end, and how a person asks for a node. Real: the commands' own printing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aifactory.cli import lifecycle, regions, use
from aifactory.engine import Change, Outcome
from aifactory.errors import Exit, ProblemError
from aifactory.plan import build
from aifactory.provider import tokens
from aifactory.provider.local import driver, labels

from tests.unit.hosts.conftest import fleet_host
from tests.unit.plan.regions import example


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


def test_a_region_whose_first_up_failed_can_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    host = fleet_host("local-serve-000").to_dict()
    made = [
        (tokens.HOST_KEYS, {"ssh_private_key": "KEY", "client_key": "C", "ca_certificate": "CA"}),
        (tokens.LOCAL_NODE_POOL, {"hosts": [host]}),
    ]
    stack: Any = SimpleNamespace(resource_outputs=lambda **_: made)
    plan = build.plan(example("local"))
    raw = use._half_made(stack, plan, secrets=True)
    assert raw["fleet"] == {"hosts": [host]}
    assert (raw["ssh_private_key"], raw["endpoint"]) == ("KEY", None)
    assert [s["name"] for s in raw["services"]] == ["chat"]
    half = use.Standing("local", (), None, "", tuple(raw["services"]), (), "", None, None, None, None, {})
    monkeypatch.setattr(use, "standing", lambda _name: half)
    with pytest.raises(ProblemError, match="has no front door yet"):
        use.ask("local", "hi", service=None, as_json=False)
    use.logs("local", "chat", 1)
    stack.resource_outputs = lambda **_: made[:1]
    assert use._half_made(stack, plan, secrets=True)["fleet"] is None


@pytest.mark.parametrize("names", [(), ("oslo-serve-000", "oslo-front-000")])
def test_destroy_without_a_state_does_not_say_that_nothing_is_there(
    names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "oslo.yaml").write_text(
        "{version: 1, name: oslo, jurisdiction: {country: DE}, provider: {kind: local},"
        " pools: [{name: serve, shape: local-cpu, nodes: 1}]}"
    )
    (tmp_path / "Pulumi.oslo.yaml").write_text("config:\n  aifactory:deployment: d-1\n")
    monkeypatch.setenv("AIFACTORY_REGIONS", str(tmp_path))
    asked: list[dict[str, str]] = []

    def containers(wanted: dict[str, str]) -> list[SimpleNamespace]:
        asked.append(wanted)
        return [SimpleNamespace(name=name) for name in names]

    monkeypatch.setattr(driver, "find", lambda _engine: SimpleNamespace(containers=containers))
    loaded = regions.load("oslo")
    if not names:
        lifecycle._refuse_lost_state(loaded)
    else:
        with pytest.raises(ProblemError, match="oslo-front-000, oslo-serve-000") as caught:
            lifecycle._refuse_lost_state(loaded)
        assert caught.value.code == Exit.FAILED
    assert asked == [{labels.DEPLOYMENT: "d-1", labels.REGION: "oslo"}]
