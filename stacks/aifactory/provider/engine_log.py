"""What a verb says to the engine: final facts, status lines, tracebacks; never a secret."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

import grpc
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

MESSAGE_BYTES = 400 * 1024 * 1024
"""The engine's own limit; grpc's default of 4 MB is too small for a big region's properties."""

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
)
PROGRESS_INTERVAL_S = 1.0
LOG_TIMEOUT_S = 2.0
SHORTEST_SECRET = 6
"""Shorter texts are not masked: they occur everywhere by chance."""


class Mask:
    """Replaces the secrets of one call wherever they turn up in a text."""

    def __init__(self, secrets: Iterable[str]) -> None:
        lines = {line for secret in secrets for line in (secret, *secret.splitlines())}
        lines = {line for line in lines if len(line) >= SHORTEST_SECRET and not line.startswith("-----")}
        self._secrets = sorted(lines, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        return text


class EngineLog:
    """The engine's log. `connect` may be called again (an attached process meets a new engine each run)."""

    def __init__(self, address: str) -> None:
        self._channel: grpc.Channel | None = None
        self._address = ""
        self._mutex = threading.Lock()
        self.connect(address)

    def connect(self, address: str) -> None:
        with self._mutex:
            if address and address != self._address:
                self._address = address
                self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)  # type: ignore[no-untyped-call]

    def info(self, urn: str, text: str) -> None:
        self._send(engine_pb2.INFO, urn, text, ephemeral=False)

    def status(self, urn: str, text: str) -> None:
        self._send(engine_pb2.INFO, urn, text, ephemeral=True)

    def debug(self, urn: str, text: str) -> None:
        self._send(engine_pb2.DEBUG, urn, text, ephemeral=False)

    def _send(self, severity: engine_pb2.LogSeverity.ValueType, urn: str, text: str, *, ephemeral: bool) -> None:
        if self._channel is None:
            return
        request = engine_pb2.LogRequest(severity=severity, urn=urn, message=text, ephemeral=ephemeral)
        try:
            engine_pb2_grpc.EngineStub(self._channel).Log(request, timeout=LOG_TIMEOUT_S)
        except grpc.RpcError:
            # The engine is gone or going: a line less must not fail the operation that it is about.
            return


class Throttle:
    """Status lines of one call: at most one a second, and the newest one always comes, late rather than never.

    `later` starts a function after some seconds and returns what cancels it.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], threading.Timer] | None = None,
    ) -> None:
        self._say, self._clock, self._later = say, clock, later or _timer
        self._mutex = threading.Lock()
        self._said, self._time = "", float("-inf")
        self._waiting: str | None = None
        self._timer: threading.Timer | None = None
        self._closed = False

    def __call__(self, text: str) -> None:
        with self._mutex:
            self._waiting = text
            if self._timer is not None or self._closed:
                return
            wait = self._time + PROGRESS_INTERVAL_S - self._clock()
            if wait > 0:
                self._timer = self._later(wait, self._say_waiting)
                return
        self._say_waiting()

    def close(self) -> None:
        """The call is over: what still waits would be shown on a resource that is done."""
        with self._mutex:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()

    def _say_waiting(self) -> None:
        with self._mutex:
            self._timer = None
            text, self._waiting = self._waiting, None
            if text is None or text == self._said or self._closed:
                return
            self._said, self._time = text, self._clock()
        self._say(text)


def _timer(seconds: float, function: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()
    return timer
