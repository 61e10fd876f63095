"""The end of every test of the matrix: the region is whole, nothing is beside it, a second run writes nothing."""

from __future__ import annotations

from tests.faults import invariants
from tests.faults.chain import Chain
from tests.faults.ledger import Notes
from tests.faults.stage import Answer, Stage


def again(stage: Stage, count: int, notes: Notes, **more: int) -> Answer:
    """A plain `up` after the fault: I1, I2, I3, I6, I7."""
    answer = stage.up().ok()
    settled(stage, count, notes, **more)
    notes(f"re-run right after {answer.seconds:.0f} s")
    return answer


def settled(stage: Stage, count: int, notes: Notes, **more: int) -> None:
    """The region as an `up` that ended well must leave it."""
    emulator = stage.emulator
    invariants.exactly(emulator, count, **more)
    invariants.known(emulator, invariants.hosts(stage.state()))
    before = emulator.requests()
    second = stage.up().ok()
    invariants.quiet(before, emulator.requests())
    assert second.writes == 0, f"I3: {second.changes}"
    assert not stage.lock_files(), "I6: a lock is left"
    invariants.kept(emulator.requests())


def in_process(chain: Chain, emulator: invariants.Emulator, count: int, **more: int) -> None:
    """The same of a Chain."""
    invariants.exactly(emulator, count, **more)
    stated = [host.id for host in chain.state("train").outputs.hosts] if "train" in chain.engines else []
    invariants.known(emulator, stated)
    before = emulator.requests()
    assert chain.would_change() == [], "I3"
    chain.up()
    invariants.quiet(before, emulator.requests())
    invariants.kept(emulator.requests())
