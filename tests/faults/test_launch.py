"""Faults 1 to 4 and 13: killed, stopped and short of capacity in the middle of a launch. All with the real engine."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
from aifactory.provider.server import descendants

from tests.emulator import Emulator
from tests.faults import invariants, region, whole
from tests.faults.ledger import Notes, fault
from tests.faults.ledger import whole as of_whole_matrix
from tests.faults.plugin import DIE
from tests.faults.stage import Stage, kill, wait_for

pytestmark = pytest.mark.engine

NEVER = 600
"""Seconds that a call hangs: until the test lets it go."""
KILLS: dict[str, tuple[int, str, dict[str, Any]]] = {
    "6 nodes, the answer unheard": (6, "RunInstances", {"kind": "hang-after"}),
    "6 nodes, the call lost": (6, "RunInstances", {"kind": "hang-drop"}),
    "6 nodes, the call arrives after the kill": (6, "RunInstances", {"kind": "hang"}),
    "250 nodes, one call answered, the others lost": (
        250,
        "RunInstances",
        {"kind": "hang-drop", "skip": 1, "count": -1},
    ),
    "250 nodes, two calls answered, the others unheard": (
        250,
        "RunInstances",
        {"kind": "hang-after", "skip": 2, "count": -1},
    ),
    "in the network, a subnet's answer unheard": (2, "CreateSubnet", {"kind": "hang-after", "skip": 1}),
    "key, its answer unheard": (2, "CreateKey", {"kind": "hang-after"}),
}
QUICK = "6 nodes, the answer unheard"


@pytest.mark.parametrize("case", [pytest.param(c, marks=() if c == QUICK else of_whole_matrix) for c in KILLS])
@fault(1, "kill -9 of everything in mid-launch", "the re-run adopts by token and tag: I1, I2, I3")
def test_killed_in_mid_launch(stage: Stage, emulator: Emulator, notes: Notes, case: str) -> None:
    nodes, action, rule = KILLS[case]
    stage.want(region.resources(emulator, nodes))
    emulator.fault(action, seconds=NEVER, **rule)
    before = rule.get("skip", 0)
    stage.killed(lambda: emulator.requests()[action] > before)
    emulator.no_faults()
    time.sleep(0.5)
    notes(f"{len(invariants.nodes(emulator))} of {nodes} nodes ran after the kill")
    whole.again(stage, nodes, notes)


@of_whole_matrix
@fault(1, "kill -9 of everything while the nodes boot", "the re-run adopts by token and tag: I1, I2, I3")
def test_killed_while_they_boot(stage: Stage, emulator: Emulator, notes: Notes) -> None:
    stage.want(region.resources(emulator, 6))
    emulator.pending(15)
    stage.killed(lambda: bool(emulator.requests()["RunInstances"]) and len(invariants.nodes(emulator)) == 6)
    notes("6 of 6 nodes ran after the kill")
    whole.again(stage, 6, notes)


@of_whole_matrix
@pytest.mark.parametrize("action", ["RunInstances", "CreateVpc", "CreateLaunchTemplate"])
@fault(2, "the plugin dies between the answer and the journal", "the re-run adopts by token and tag: I1, I2, I3")
def test_dies_between_answer_and_journal(
    stage: Stage, emulator: Emulator, notes: Notes, tmp_path: Path, action: str
) -> None:
    bullet = tmp_path / "bullet"
    bullet.touch()
    stage.env_more[DIE] = f"{action}:{bullet}"
    stage.want(region.resources(emulator, 6))
    first = stage.up()
    assert first.exit != 0, "it must say that it failed"
    assert not bullet.exists(), "it did not die where it should"
    notes(f"exit {first.exit}")
    whole.again(stage, 6, notes)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, id="SIGINT", marks=of_whole_matrix),
        pytest.param(signal.SIGTERM, 143, id="SIGTERM"),
    ],
)
@fault(3, "SIGINT or SIGTERM once, a launch in flight", "ends within 30 s, exit 130 or 143; I1, I2, I3 after a re-run")
def test_stopped_once(stage: Stage, emulator: Emulator, notes: Notes, number: int, code: int) -> None:
    stage.want(region.resources(emulator, 6))
    emulator.fault("RunInstances", "hang", seconds=3)
    answer, seconds = stage.interrupted(number, lambda: bool(emulator.requests()["RunInstances"]))
    assert answer.exit == code, answer.text
    assert seconds <= 30
    notes(f"exit {answer.exit} {seconds:.0f} s after the signal")
    whole.again(stage, 6, notes)


@of_whole_matrix
@fault(3, "SIGINT once, a launch that is never answered", "ends within 30 s, exit 130; I1, I2, I3 after a re-run")
def test_stopped_once_with_an_unanswered_call(stage: Stage, emulator: Emulator, notes: Notes) -> None:
    stage.want(region.resources(emulator, 6))
    emulator.fault("RunInstances", "hang-after", seconds=NEVER)
    answer, seconds = stage.interrupted(signal.SIGINT, lambda: bool(emulator.requests()["RunInstances"]))
    emulator.no_faults()
    assert answer.exit == 130, answer.text
    assert seconds <= 30
    notes(f"exit {answer.exit} {seconds:.0f} s after the signal")
    whole.again(stage, 6, notes)


@of_whole_matrix
@fault(4, "CI cancel: SIGTERM, ten seconds later SIGKILL to all", "no lock is left for more than 60 s; I1, I2, I3")
def test_cancelled_by_ci(stage: Stage, emulator: Emulator, notes: Notes) -> None:
    stage.want(region.resources(emulator, 6))
    emulator.fault("RunInstances", "hang-after", seconds=NEVER)
    process = stage.start("up")
    wait_for(lambda: bool(emulator.requests()["RunInstances"]), process)
    family = [process.pid, *descendants(process.pid)]
    process.send_signal(signal.SIGTERM)
    until = time.monotonic() + 10
    while time.monotonic() < until and process.poll() is None:
        time.sleep(0.1)
    notes("ended by itself in time" if process.poll() is not None else "had to be killed")
    for pid in family:
        kill(pid)
    process.communicate()
    emulator.no_faults()
    answer = whole.again(stage, 6, notes)
    assert answer.seconds <= 60, "I6"


@of_whole_matrix
@pytest.mark.parametrize(("policy", "left"), [("keep", 32), ("release", 0)])
@fault(13, "capacity gone after half of 64 nodes", "within 2 min: what came, where, the policy; a later run makes 64")
def test_capacity_gone_half_way(stage: Stage, emulator: Emulator, notes: Notes, policy: str, left: int) -> None:
    stage.want(region.resources(emulator, 64, on_partial=policy))
    emulator.capacity(f"{region.ZONE}/{region.SHAPE}", 32)
    answer = stage.up()
    assert answer.exit == 4, answer.text
    assert answer.seconds <= 120
    assert f"32 of 64 in zone {region.ZONE}; policy: {policy}" in answer.text, answer.text
    assert len(invariants.nodes(emulator)) == left
    notes(f"exit 4 after {answer.seconds:.0f} s, {left} nodes left, {emulator.requests()['RunInstances']} launch calls")
    emulator.capacity(f"{region.ZONE}/{region.SHAPE}", 1000)
    whole.again(stage, 64, notes)
