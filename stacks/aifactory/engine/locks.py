"""Who is at work on a region: our own lock, which the kernel lets go of, and a word on each run while it lasts."""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from aifactory import paths
from aifactory.errors import Exit, ProblemError, fail
from aifactory.toolchain.enginelocks import EngineLock


@dataclass(frozen=True)
class Run:
    """What is written down before the engine starts and removed when it has ended: a killed run leaves it."""

    operation: str
    pid: int
    """Our own process."""
    engine_pid: int
    """The engine's, which leads a session of its own."""
    started: float
    log: str


def _folder() -> Path:
    return paths.home() / "runs"


@contextmanager
def hold(region: str, operation: str) -> Iterator[None]:
    """Keeps every other operation of the toolkit off the region; raises ProblemError (exit 3) when one is at work."""
    _folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    with (_folder() / f"{region}.lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise _busy(region, file.read()) from None
        file.seek(0)
        file.truncate()
        json.dump({"operation": operation, "pid": os.getpid(), "started": time.time()}, file)
        file.flush()
        try:
            yield
        finally:
            file.seek(0)
            file.truncate()


def _busy(region: str, text: str) -> ProblemError:
    try:
        owner = json.loads(text)
        who = f"`{owner['operation']}` is running (pid {owner['pid']}, {since(owner['started'])})"
    except (ValueError, KeyError):
        who = "another operation is running"
    return fail(
        "ENG-010",
        f"Region {region}: {who}.",
        code=Exit.PREFLIGHT,
        fix="wait for it to end, or stop it with Ctrl-C there; then run this again",
    )


def since(started: float) -> str:
    minutes = int(max(0, time.time() - started) // 60)
    clock = dt.datetime.fromtimestamp(started).strftime("%H:%M:%S")
    return f"since {clock}, {minutes} min ago" if minutes else f"since {clock}"


def write_run(region: str, run: Run) -> None:
    path = _folder() / f"{region}.json"
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(run)), encoding="utf-8")
    fresh.replace(path)


def read_run(region: str) -> Run | None:
    """The run that did not end in order, None when the last one did."""
    try:
        return Run(**json.loads((_folder() / f"{region}.json").read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def clear_run(region: str) -> None:
    (_folder() / f"{region}.json").unlink(missing_ok=True)


_TOLD = re.compile(
    r"^\s*(?P<url>\S+): created by (?P<user>[^@\s]*)@(?P<host>\S+) \(pid (?P<pid>\d+)\) at (?P<at>\S+)$", re.MULTILINE
)


def told(text: str) -> list[EngineLock]:
    """The locks that the engine names when it refuses (`the stack is currently locked by …`), with their owners.

    The one way to see them where the state is not a folder here. Their times are whole seconds.
    """
    return [
        EngineLock(
            Path(m["url"]), int(m["pid"]), m["user"], m["host"], dt.datetime.fromisoformat(m["at"]).timestamp() + 1
        )
        for m in _TOLD.finditer(text)
    ]


def refuse(region: str, lock: EngineLock) -> ProblemError:
    """The problem of a lock that is not ours to break."""
    who = f"pid {lock.pid} of {lock.user} on {lock.host}, {since(lock.started)}"
    if lock.here:
        return fail(
            "ENG-011",
            f"Region {region}: another engine is at work on it ({who}).",
            code=Exit.PREFLIGHT,
            fix="wait for it to end, then run this again",
        )
    return fail(
        "ENG-012",
        f"Region {region}: locked from another host ({who}); whether that run still lives cannot be seen from here.",
        code=Exit.PREFLIGHT,
        fix=f'look there first; when it is dead: eval "$(aifactory env {region})" && pulumi cancel -s {region} --yes',
    )
