"""Faults 7, 8, 9 and 15: the service is unwell, throttles, or takes the keys no more. All with the real engine."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.emulator import EC2_BUCKETS, Emulator
from tests.faults import invariants, region, whole
from tests.faults.ledger import Notes, fault
from tests.faults.ledger import whole as of_whole_matrix
from tests.faults.stage import Answer, Stage, wait_for

pytestmark = [pytest.mark.engine, of_whole_matrix]

OUT = {"status": 503, "code": "ServiceUnavailable", "message": "Service is unavailable.", "count": -1}
LATENCY_MS = 150
MOST_REFUSED = 0.05


@fault(7, "all APIs answer 503 for 30 s", "done, by itself")
def test_out_for_half_a_minute(stage: Stage, emulator: Emulator, notes: Notes) -> None:
    stage.want(region.resources(emulator, 6))
    emulator.fault("*", "error", skip=25, **OUT)

    over = threading.Event()

    def end() -> None:
        while sum(emulator.requests().values()) <= 25 and not over.wait(0.1):
            continue
        over.wait(30)
        emulator.no_faults()

    ending = threading.Thread(target=end)
    ending.start()
    try:
        answer = stage.up().ok()
    finally:
        over.set()
        ending.join()
    notes(f"{answer.seconds:.0f} s in all")
    whole.settled(stage, 6, notes)


@fault(7, "all APIs answer 503 for ten minutes", "stops at its deadline, says so, and goes on later")
@pytest.mark.timeout(900)
def test_out_for_ten_minutes(stage: Stage, emulator: Emulator, notes: Notes) -> None:
    stage.want(region.resources(emulator, 6))
    emulator.fault("*", "error", skip=25, **OUT)
    answer = stage.up(timeout_s=700)
    assert answer.exit == 4, answer.text
    assert answer.seconds < 600
    assert "ServiceUnavailable" in answer.text
    notes(f"exit 4 after {answer.seconds:.0f} s")
    emulator.no_faults()
    whole.again(stage, 6, notes)


@pytest.mark.parametrize("nodes", [256, 1000])
@pytest.mark.timeout(600)
@fault(8, "EC2's published token buckets, 150 ms a call", "no failure, less than 5 % refused")
def test_token_buckets(stage: Stage, emulator: Emulator, notes: Notes, nodes: int) -> None:
    emulator.limits()
    emulator.latency(LATENCY_MS)
    stage.want(region.resources(emulator, nodes))
    answer = stage.up(timeout_s=500).ok()
    refused, asked = sum(emulator.throttled().values()), sum(emulator.requests().values())
    notes(f"{answer.seconds:.0f} s, {refused} of {asked} requests refused")
    assert refused < MOST_REFUSED * asked
    emulator.no_faults()
    whole.settled(stage, nodes, notes)


@pytest.mark.timeout(600)
@fault(
    9, "two regions are made at once in one account with EC2's buckets, 64 nodes each", "both end, in twice the time"
)
def test_two_runs_share_the_buckets(emulator: Emulator, tmp_path: Path, notes: Notes) -> None:
    alone = _made_at_once(emulator, tmp_path, "alone")["alone"]
    emulator.reset()
    both = _made_at_once(emulator, tmp_path, "one", "two")
    notes(f"alone {alone.seconds:.0f} s, together " + " and ".join(f"{each.seconds:.0f} s" for each in both.values()))
    assert all(each.exit == 0 for each in both.values()), [each.text for each in both.values()]
    assert max(each.seconds for each in both.values()) <= 2 * alone.seconds + 5
    assert invariants.there(emulator) == {kind: 2 * count for kind, count in invariants.expected(64).items()}


def _made_at_once(emulator: Emulator, folder: Path, *names: str) -> dict[str, Answer]:
    # A quarter of what EC2 gives, so that 64 nodes feel it.
    emulator.limits({action: (max(1, size / 4), refill / 4) for action, (size, refill) in EC2_BUCKETS.items()})
    emulator.latency(LATENCY_MS)
    answers: dict[str, Answer] = {}
    stages = {name: Stage(folder / name, emulator, name) for name in names}

    def make(name: str) -> None:
        stages[name].want(region.resources(emulator, 64, name=name))
        answers[name] = stages[name].up()

    threads = [threading.Thread(target=make, args=[name]) for name in names]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return answers


@fault(15, "the credentials expire when one of several launch calls is answered", "stops, says so, loses nothing")
def test_credentials_expire(stage: Stage, emulator: Emulator, notes: Notes) -> None:
    expired = {"status": 400, "code": "ExpiredToken", "message": "The security token in the request is expired"}
    stage.want(region.resources(emulator, 250))
    emulator.latency(100)
    emulator.fault("RunInstances", "error", skip=1, count=-1, **expired)
    process, begun = stage.start("up"), time.monotonic()
    wait_for(lambda: emulator.requests()["RunInstances"] > 1 and bool(invariants.nodes(emulator)), process)
    emulator.fault("*", "error", count=-1, **expired)
    answer = stage.end(process, begun)
    assert answer.exit == 4, answer.text
    assert "ExpiredToken" in answer.text
    assert answer.seconds <= 60
    emulator.no_faults()
    notes(f"exit 4 after {answer.seconds:.0f} s, {len(invariants.nodes(emulator))} of 250 nodes there")
    whole.again(stage, 250, notes)
