"""The engine's lock files of a file backend: who made them, and whether he still lives.

The engine never takes back the lock of a run that was killed. One is broken only when it was made on this host
by a process that is no more.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import socket
from dataclasses import dataclass
from pathlib import Path

from aifactory.toolchain import processes


@dataclass(frozen=True)
class EngineLock:
    """One lock file of the engine's file backend."""

    path: Path
    pid: int
    user: str
    host: str
    started: float

    @property
    def region(self) -> str:
        return self.path.parent.name

    @property
    def here(self) -> bool:
        return self.host == socket.gethostname()

    @property
    def owner_lives(self) -> bool:
        return processes.alive(self.pid, since=self.started, word="pulumi")


def find(backend: Path, project: str = "*", region: str = "*") -> list[EngineLock]:
    """The engine's locks on one stack or all. One that cannot be read counts as another host's: not ours to break."""
    found = []
    for path in sorted((backend / ".pulumi" / "locks" / "organization").glob(f"{project}/{region}/*.json")):
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            started = dt.datetime.fromisoformat(_micro(data["timestamp"])).timestamp()
            found.append(EngineLock(path, int(data["pid"]), data["username"], data["hostname"], started))
        except FileNotFoundError:
            continue
        except (ValueError, KeyError):
            found.append(EngineLock(path, 0, "?", "?", path.stat().st_mtime))
    return found


def _micro(text: str) -> str:
    """Go writes nanoseconds; Python reads at most microseconds."""
    head, dot, tail = text.replace("Z", "+00:00").partition(".")
    if not dot:
        return head
    digits = "".join(c for c in tail.split("+")[0] if c.isdigit())[:6]
    return f"{head}.{digits:0<6}+00:00" if "+" in tail else f"{head}.{digits:0<6}"


def break_dead(locks: list[EngineLock]) -> list[EngineLock]:
    """Removes the locks of dead processes of this host; returns them."""
    dead = [lock for lock in locks if lock.here and not lock.owner_lives]
    for lock in dead:
        for path in (lock.path, lock.path.with_name(lock.path.name + ".attrs")):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
    return dead
