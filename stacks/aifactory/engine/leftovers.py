"""What a killed run leaves: processes, a lock, and the region file it worked from."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from aifactory import paths
from aifactory.engine import locks
from aifactory.engine.events import Note
from aifactory.toolchain import enginelocks, processes

ORPHAN_WAIT_S = 60.0
"""How long an engine whose `aifactory` was killed may take to end in order before it is ended."""


def settle(region: str, backend: Path | None, project: str, say: Callable[[Note], None]) -> None:
    """Ends what still runs of a killed run and breaks its lock; call it only while holding the region.

    Raises ProblemError while a live owner holds the engine's lock. `backend` is the state's folder, None
    when the state is elsewhere: then the engine itself refuses what is locked.
    """
    run = locks.read_run(region)
    if run is not None:
        _end(region, run, say)
    if backend is None:
        return
    found = enginelocks.find(backend, project, region)
    for dead in enginelocks.break_dead(found):
        say(Note(f"broke the lock of a run that is no more (pid {dead.pid}, {locks.since(dead.started)})"))
        found.remove(dead)
    if found:
        raise locks.refuse(region, found[0])


def _end(region: str, run: locks.Run, say: Callable[[Note], None]) -> None:
    def lives() -> bool:
        return processes.alive(run.engine_pid, since=run.started, word="pulumi")

    if lives():
        say(
            Note(f"an earlier `{run.operation}` was killed; its engine (pid {run.engine_pid}) is still ending, waiting")
        )
        until = time.monotonic() + ORPHAN_WAIT_S
        while lives() and time.monotonic() < until:
            time.sleep(0.1)
    count = processes.end_session(run.engine_pid, run.started)
    if count:
        say(Note(f"ended {count} process{'' if count == 1 else 'es'} that a killed `{run.operation}` had left"))
    locks.clear_run(region)


def applied_file(region: str) -> Path:
    """The region file that the last `up` worked from; alone in its folder, as a regions folder is."""
    return paths.home() / "applied" / region / f"{region}.yaml"


def file_changed(region: str) -> bool:
    """True when the region's file is not the one that the last `up` worked from."""
    kept, now = applied_file(region), paths.region_file(region)
    return kept.exists() and now.exists() and kept.read_bytes() != now.read_bytes()


def keep_file(region: str) -> None:
    kept, now = applied_file(region), paths.region_file(region)
    if now.exists():
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = kept.with_suffix(".new")
        shutil.copyfile(now, fresh)
        fresh.replace(kept)
