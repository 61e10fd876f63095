"""The plugin's process: `pulumi-resource-aifactory ENGINE_ADDRESS`. Prints its port, serves, dies well.

Measured: the engine sends Cancel, then SIGINT, at the end of every run and kills after 5 s; after a SIGKILL of
the engine a plugin that does not watch its parent works on as an orphan.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from concurrent import futures
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

import grpc
from pulumi.runtime.proto import provider_pb2_grpc

from aifactory.provider import registry as registry_module
from aifactory.provider.engine_log import CHANNEL_OPTIONS
from aifactory.provider.registry import Registry
from aifactory.provider.servicer import Servicer

VERSION = "0.1.0"
DEFAULT_PARALLEL = 32
MOST_PARALLEL = 512
SPARE_THREADS = 8
"""For Cancel, checks and diffs while every other thread waits for a node."""

QUEUE_S = 30 * 60
"""How long a call may wait for a thread; grpc's default of 30 s would fail the last ones of a large region."""

GRACE_S = 2.0
"""For running verbs to hear the cancel, stop their children and answer. Below the engine's 5 s."""

PARENT_POLL_S = 0.5
PR_SET_PDEATHSIG = 1
DEATH_SIGNAL = signal.SIGUSR1
"""Not SIGTERM: the kernel also sends it when the parent's THREAD ends, which is to be told apart."""


def main() -> NoReturn:
    """Console script: serves the toolkit's own resources."""
    serve(registry_module.default(), sys.argv[1:])


def serve(registry: Registry, arguments: Sequence[str]) -> NoReturn:
    """Serves `registry` until the engine or its death ends the process."""
    servicer = Servicer(registry, VERSION, engine_address(arguments))
    leaver = Leaver(servicer)
    leaver.install()
    leaver.server, port = start(servicer)
    print(port, flush=True)
    while True:
        time.sleep(PARENT_POLL_S)
        leaver.leave_when_orphaned()


def start(servicer: Servicer) -> tuple[grpc.Server, int]:
    """A running server on a free port of 127.0.0.1."""
    server = grpc.server(  # type: ignore[no-untyped-call]
        futures.ThreadPoolExecutor(threads(os.environ.get("PULUMI_PARALLEL", ""))),
        options=(*CHANNEL_OPTIONS, ("grpc.server_max_unrequested_time_in_server", QUEUE_S)),
    )
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def threads(parallel: str) -> int:
    """Pool size for the engine's `--parallel`; a pool below it makes creates wait for each other."""
    wanted = int(parallel) if parallel.isdigit() and int(parallel) > 0 else DEFAULT_PARALLEL
    return min(wanted, MOST_PARALLEL) + SPARE_THREADS


def engine_address(arguments: Sequence[str]) -> str:
    """The engine's address among the arguments; flags of the engine's logging are passed over."""
    address, rest = "", iter(arguments)
    for argument in rest:
        if argument in ("--tracing", "-tracing"):
            next(rest, None)
        elif not argument.startswith("-"):
            address = argument
    return address


class Leaver:
    """Ends the process at once when told to, with all its children; running verbs are cancelled first."""

    def __init__(self, servicer: Servicer) -> None:
        self.server: grpc.Server | None = None
        self._servicer = servicer
        self._parent = os.getppid()
        self._leaving = threading.Lock()

    def install(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        signal.signal(DEATH_SIGNAL, self._on_death_signal)
        self._watch_parent()

    def leave_when_orphaned(self) -> None:
        if os.getppid() != self._parent:
            self.leave()

    def leave(self) -> NoReturn:
        """Cancels, waits GRACE_S at most for running verbs to answer, ends. A second call does not wait."""
        if self._leaving.acquire(blocking=False):
            self._servicer.cancel.set()
            if self.server is not None:
                self.server.stop(GRACE_S).wait()  # type: ignore[no-untyped-call]  # at once when no call runs
        for child in descendants(os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)
        os._exit(0)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.leave()

    def _on_death_signal(self, number: int, frame: FrameType | None) -> None:
        self.leave_when_orphaned()
        self._watch_parent()

    def _watch_parent(self) -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(DEATH_SIGNAL))
            self.leave_when_orphaned()


def descendants(pid: int) -> list[int]:
    """Processes below `pid`, nearest first. What has become a daemon (a container's monitor) is none of them."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *descendants(child)]
    return found
