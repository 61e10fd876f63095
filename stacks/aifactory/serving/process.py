"""Runs a tool to its end, line by line, in its own process group; a stop ends the whole group.

The tool also ends when this process is killed, where util-linux is there to arrange it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import IO

_GRACE_S = 10


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    check: Callable[[], None],
    line: Callable[[str], None] = lambda _: None,
) -> tuple[int, list[str]]:
    """Exit code and the lines of stderr (each is also given to `line` as it comes).

    `check` is called five times a second and may raise: the tool is then ended and the exception goes on.
    """
    guard = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
    process = subprocess.Popen(
        [*guard, *command],
        env=None if environment is None else dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    lines: list[str] = []
    reader = threading.Thread(target=_follow, args=(process.stderr, lines, line), daemon=True)
    reader.start()
    try:
        while process.poll() is None:
            check()
            _wait(process, 0.2)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            if not _wait(process, _GRACE_S):
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        reader.join(5)
    return process.returncode, lines


def _wait(process: subprocess.Popen[str], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _follow(stream: IO[str] | None, lines: list[str], line: Callable[[str], None]) -> None:
    for text in stream or ():
        lines.append(text.rstrip())
        line(text.rstrip())
