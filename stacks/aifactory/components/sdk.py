"""What the toolkit asks of the Pulumi SDK beyond its interface, and why."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import pulumi
from pulumi.runtime import resource
from pulumi.runtime.proto import source_pb2

SDK_VERSION = "3.259.0"
"""The version that was looked at. With another one nothing is changed."""

SHOWN = 32
"""Exit code by which the language host knows that the user has been told: it adds no message of its own."""


def stop(text: str) -> NoReturn:
    """Ends the program with a message and nothing else: no traceback, no second error."""
    pulumi.log.error(f"\n{text}")
    sys.exit(SHOWN)


def end_with_the_engine() -> None:
    """Makes the program end at once when the engine stops it, and not outlive an engine that was killed.

    The SDK's own handling of SIGINT makes the engine wait five seconds after every failed run. Of a killed engine
    the language host (our parent) and the program would stay for ever.
    """
    signal.signal(signal.SIGINT, lambda *_: os._exit(SHOWN))
    host = os.getppid()
    engine = _parent(host)
    if engine is not None and b"pulumi-language-python" in Path(f"/proc/{host}/cmdline").read_bytes():
        threading.Thread(target=_watch, args=(host, engine), daemon=True).start()


def _watch(host: int, engine: int) -> None:
    while os.getppid() == host and _parent(host) == engine:
        time.sleep(1)
    if os.getppid() == host:
        os.kill(host, signal.SIGINT)
    os._exit(SHOWN)


def _parent(pid: int) -> int | None:
    """Parent of a process, None where that cannot be read (no /proc, no such process)."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return None


def leave_out_stack_traces() -> bool:
    """Makes the SDK send no stack traces with resources; returns whether it did.

    They are 55 % of the state and put paths of this machine into it. The SDK has no switch.
    """
    if metadata.version("pulumi") != SDK_VERSION:
        return False

    def empty() -> Any:
        return source_pb2.StackTrace()

    resource._get_stack_trace = empty
    return True
