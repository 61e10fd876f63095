"""`service:Acceptance`. Real: the resource and its journal. Not real: what is asked (tests/unit/acceptance and
tests/roles/test_inference.py have the checks themselves).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aifactory.acceptance.verdict import Verdict
from aifactory.provider.resource import UNKNOWN, HalfMade
from aifactory.provider.service import acceptance
from aifactory.provider.service.acceptance import Acceptance

from tests.provider.harness import Engine
from tests.unit.hosts.conftest import fleet_host

PASS = Verdict("door.ready", "https://x", "pass", "200", "200")
FAIL = Verdict("host.units", "t-a", "fail", "0 of 1 running", "all running", "aifactory-chat-0.service: failed")
SILENT = Verdict("service.stream", "chat", "not_proved", "", "a text", "https://x cannot be reached")


class World:
    def __init__(self) -> None:
        self.verdicts = [PASS]
        self.asked: list[dict[str, Any]] = []

    def verify_region(self, **asked: Any) -> list[Verdict]:
        self.asked.append(asked)
        return self.verdicts


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path))
    world = World()
    monkeypatch.setattr(acceptance, "verify_region", world.verify_region)
    return world


def given(**changes: Any) -> dict[str, Any]:
    values = {
        "region": "t-region", "hosts": (fleet_host("t-a"),), "endpoint": "https://x", "ca_certificate": "CA",
        "client_key": "t-client-key", "services": ({"name": "chat"},), "units": {"t-a": ("u.service",)},
        "after": ("run-1",),
    }  # fmt: skip
    return {**values, **changes}


def test_create_all_pass_keeps_the_verdicts(world: World) -> None:
    outputs = Engine(Acceptance()).up(given()).outputs
    assert [(p.check, p.verdict, p.measured) for p in outputs.verdicts] == [("door.ready", "pass", "200")]


def test_create_one_fails_is_half_made_with_a_line_for_each(world: World) -> None:
    world.verdicts = [PASS, FAIL, SILENT]
    engine = Engine(Acceptance())
    with pytest.raises(HalfMade) as caught:
        engine.up(given())
    assert caught.value.reasons == [
        "failed: host.units: t-a: 0 of 1 running (needed: all running): aifactory-chat-0.service: failed",
        "not proved: service.stream: chat: not measured: https://x cannot be reached",
    ]
    assert engine.state is not None
    assert len(engine.state.outputs.verdicts) == 3


def test_unchanged_is_not_asked_again(world: World) -> None:
    engine = Engine(Acceptance())
    engine.up(given())
    engine.up(given())
    assert len(world.asked) == 1


def test_failed_is_asked_again_by_the_next_run(world: World) -> None:
    world.verdicts = [FAIL]
    engine = Engine(Acceptance())
    with pytest.raises(HalfMade):
        engine.up(given())
    world.verdicts = [PASS]
    engine.up(given())
    assert len(world.asked) == 2


@pytest.mark.parametrize("changes", [{"after": ("run-2",)}, {"endpoint": "https://y"}, {"client_key": "other"}])
def test_change_is_accepted_anew(world: World, changes: dict[str, Any]) -> None:
    engine = Engine(Acceptance())
    engine.up(given())
    engine.up(given(**changes))
    assert engine.operations == ["create", "update"]
    assert len(world.asked) == 2


def test_preview_promises_no_verdict(world: World) -> None:
    assert Engine(Acceptance()).preview(given(after=UNKNOWN))[1].verdicts is UNKNOWN
    assert world.asked == []


def test_key_is_in_no_repr(world: World) -> None:
    state = Engine(Acceptance()).up(given())
    assert "t-client-key" not in repr(state)
