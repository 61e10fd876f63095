"""Child processes that do not outlive us: the parent-death signal, and a stop that takes the whole group."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def die_with_parent(signum: signal.Signals) -> Callable[[], None] | None:
    """A `preexec_fn` that has the kernel send `signum` to the child when we die, kill -9 included.

    None where the system has no such thing. The library is loaded here, before the fork, so that the
    child calls one C function and nothing else.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    number = int(signum)

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)

    return arm


def start(argv: list[str], signum: signal.Signals = signal.SIGTERM, **kwargs: object) -> subprocess.Popen[bytes]:
    """A child in a session of its own (a Ctrl-C of the terminal reaches only us) that dies with us."""
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        argv,
        start_new_session=True,
        preexec_fn=die_with_parent(signum),  # noqa: PLW1509 - one C call, prepared before the fork
        **kwargs,
    )


def stop_group(process: subprocess.Popen[bytes], *, grace_s: float = 5.0) -> None:
    """Ends the child and everything in its process group: SIGTERM, after `grace_s` SIGKILL."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
        try:
            process.wait(timeout=grace_s)
        except subprocess.TimeoutExpired:
            continue
        break
