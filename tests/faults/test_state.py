"""Faults 17 to 20: state and journals damaged, lost, on a full disk; two writers. With the real engine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.emulator import Emulator
from tests.faults import invariants, region, whole
from tests.faults.ledger import Notes, fault
from tests.faults.ledger import whole as of_whole_matrix
from tests.faults.stage import Stage, wait_for

pytestmark = [pytest.mark.engine, of_whole_matrix]


def made(stage: Stage, nodes: int = 4) -> None:
    stage.want(region.resources(stage.emulator, nodes))
    stage.up().ok()


def state_file(stage: Stage) -> Path:
    folder = stage.home / "state" / ".pulumi" / "stacks"
    found = [path for path in folder.glob(f"*/{stage.name}.json*") if path.suffix in (".json", ".zst", ".gz")]
    assert len(found) == 1, found
    return found[0]


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [_cut, _flip], ids=["cut in half", "a bit flipped"])
@fault(17, "the state file is damaged", "refused: the file, the last good copy; nothing is planned or written")
def test_damaged_state(stage: Stage, emulator: Emulator, notes: Notes, damage: object) -> None:
    made(stage)
    path = state_file(stage)
    good = path.read_bytes()
    assert callable(damage)
    damage(path)
    before = emulator.requests()
    answer = stage.up()
    invariants.quiet(before, emulator.requests())
    invariants.exactly(emulator, 4)
    notes(f"exit {answer.exit}: {answer.brief}")
    assert answer.exit == 3, answer.text
    assert f"{path}.bak" in answer.text, answer.text
    if damage is _cut:
        shutil.copy(f"{path}.bak", path)  # as the error says
        whole.again(stage, 4, notes)
    else:
        path.write_bytes(good)
    whole.settled(stage, 4, notes)


@pytest.mark.parametrize("damage", [_cut, None], ids=["cut in half", "from a newer version"])
@fault(17, "a journal is damaged", "refused by name; nothing is written; moved away, the next run is whole")
def test_damaged_journal(stage: Stage, emulator: Emulator, notes: Notes, damage: object) -> None:
    made(stage)
    paths = sorted(stage.home.glob(f"journals/{stage.name}/*.json"))
    for path in paths:
        if callable(damage):
            damage(path)
        else:
            path.write_text(json.dumps({"version": 99, "what": json.loads(path.read_text())}))
    before = emulator.requests()
    stage.want(region.resources(emulator, 5))
    answer = stage.up()
    invariants.quiet(before, emulator.requests())
    assert answer.exit == 4, answer.text
    assert "damaged; move it away and run again" in answer.text
    notes(f"exit 4: {answer.brief}")
    for path in paths:
        path.rename(path.with_suffix(".moved"))
    whole.again(stage, 5, notes)


@pytest.mark.parametrize("lost", ["journals", "state", "state journals"])
@fault(18, "journals, state or both are lost", "found again by tags; the run makes nothing anew")
def test_lost_state(stage: Stage, emulator: Emulator, notes: Notes, lost: str) -> None:
    made(stage)
    there = emulator.inventory()
    for name in lost.split():
        shutil.rmtree(stage.home / name)
    before = emulator.requests()
    answer = stage.up().ok()
    assert emulator.inventory() == there, "I2"
    made_anew = {
        action: count
        for action, count in invariants.writes(emulator.requests() - before).items()
        if action.startswith(("Create", "Run", "Allocate", "Delete", "Terminate"))
    }
    assert not made_anew, made_anew
    counts = [f"{count} {'unchanged' if op == 'same' else 'adopted'}" for op, count in answer.changes.items()]
    notes(", ".join(counts))
    whole.settled(stage, 4, notes)


@fault(18, "home and configuration are lost, the deployment's id with them", "refused, holder named; nothing is made")
def test_lost_deployment(stage: Stage, emulator: Emulator, notes: Notes) -> None:
    made(stage)
    there = emulator.inventory()
    shutil.rmtree(stage.home)
    stage.home.mkdir()
    for path in stage.regions.glob("Pulumi.*.yaml"):
        path.unlink()
    answer = stage.up()
    notes(f"exit {answer.exit}: {answer.brief}")
    grown = {kind: len(names) - len(there.get(kind, [])) for kind, names in emulator.inventory().items()}
    beside = {kind: count for kind, count in grown.items() if count}
    assert answer.exit == 4, answer.text
    assert "of deployment" in answer.text, "the holder is not named"
    assert not beside, f"made beside what is there: {beside}"


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """The folder on a file system of a mebibyte that has no room left; what was in it stays in it."""
    if os.geteuid() != 0:
        pytest.skip("a file system is mounted by root only")
    kept = folder.with_name(folder.name + ".kept")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, kept)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], check=True)
    try:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        with (folder / "ballast").open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"\0" * 4096):
                continue
        yield
        (folder / "ballast").unlink()
        shutil.rmtree(kept)
        shutil.copytree(folder, kept)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        shutil.rmtree(folder)
        kept.rename(folder)


@fault(19, "the disk of the journals is full", "clear error before a node is asked for; old files whole")
def test_journals_disk_is_full(stage: Stage, emulator: Emulator, notes: Notes) -> None:
    made(stage)
    old = stage.journals()
    stage.want(region.resources(emulator, 6))
    before = emulator.requests()
    with full_disk(stage.home / "journals"):
        answer = stage.up()
        assert stage.journals() == old, "an old file is not whole"
    assert answer.exit != 0
    assert "No space left on device" in answer.text, answer.text
    assert not (emulator.requests() - before)["RunInstances"], "a launch that no journal knows"
    notes(f"exit {answer.exit}, no launch asked for")
    whole.again(stage, 6, notes)


@fault(19, "the disk of the state is full", "clear error; old state whole; the next run is whole")
def test_states_disk_is_full(stage: Stage, emulator: Emulator, notes: Notes) -> None:
    made(stage)
    old = state_file(stage).read_bytes()
    stage.want(region.resources(emulator, 6))
    with full_disk(stage.home / "state"):
        answer = stage.up()
        assert state_file(stage).read_bytes() == old, "the old state is not whole"
    assert answer.exit != 0
    assert "no space left on device" in answer.text.lower(), answer.text
    notes(f"exit {answer.exit}, {len(invariants.nodes(emulator))} nodes there")
    whole.again(stage, 6, notes)


@fault(20, "a second writer; then the first is killed", "the second names the holder in 2 s; after the kill it is free")
def test_two_writers(stage: Stage, emulator: Emulator, notes: Notes) -> None:
    stage.want(region.resources(emulator, 6))
    emulator.fault("RunInstances", "hang-after", seconds=600)
    first = stage.start("up")
    wait_for(lambda: bool(emulator.requests()["RunInstances"]), first)
    second = stage.up()
    assert second.exit == 3, second.text
    assert str(first.pid) in second.text
    assert second.seconds <= 2.5, "with the start of Python"
    first.send_signal(signal.SIGKILL)
    first.communicate()
    emulator.no_faults()
    begun = time.monotonic()
    third = stage.up().ok()
    assert third.seconds <= 60, "I6"
    notes(f"refused in {second.seconds:.1f} s; {time.monotonic() - begun:.0f} s after the kill the next run had ended")
    whole.settled(stage, 6, notes)
