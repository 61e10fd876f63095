"""Processes of this machine, looked at through /proc: is it alive, since when, what is left of a killed run."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

_OURS = re.compile(r"(^|/)(pulumi|ansible)[a-z0-9._-]*$")
"""Programs that only a run of the engine starts. Never a container's monitor or its name server, which a run
leaves behind on purpose."""


@dataclass(frozen=True)
class Process:
    pid: int
    session: int
    started: float
    """Unix time, to about a second."""
    argv: tuple[str, ...]

    def is_engine(self) -> bool:
        """True for the engine, its language host and program, its plugins, Ansible: not for a shell that names them."""
        return any(_OURS.search(word) for word in self.argv[:3])


def look(pid: int) -> Process | None:
    """The process, or None when there is none (or it is a zombie, or this system has no /proc)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return None
    fields = stat.rsplit(")", 1)[1].split()
    if fields[0] in {"Z", "X"}:
        return None
    started = _boot_time() + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return Process(pid, int(fields[3]), started, tuple(word for word in argv if word))


def _boot_time() -> float:
    for line in Path("/proc/stat").read_text(encoding="utf-8").splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0


def alive(pid: int, *, since: float, word: str) -> bool:
    """True when `pid` is a process whose command line has `word` and that began before `since` (Unix time).

    One that began later has been given a dead one's number. Without /proc the number alone decides.
    """
    if not Path("/proc/self/stat").exists():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            return True
        return False
    process = look(pid)
    return process is not None and process.started <= since + 5 and any(word in part for part in process.argv)


def session_left(session: int, since: float) -> list[Process]:
    """Engine processes that still run in a session whose leader was started at `since`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*") if Path("/proc").exists() else ():
        process = look(int(entry.name))
        if process and process.session == session and process.started >= since - 5 and process.is_engine():
            found.append(process)
    return found


def end_session(session: int, since: float, *, grace_s: float = 3.0) -> int:
    """Ends what is left of a run, SIGTERM first, SIGKILL after `grace_s`; returns how many there were."""
    left = session_left(session, since)
    count = len(left)
    for signum, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 1.0)):
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signum)
        until = time.monotonic() + wait_s
        while left and time.monotonic() < until:
            time.sleep(0.05)
            left = session_left(session, since)
    return count
