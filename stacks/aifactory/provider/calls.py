"""One call of the engine: its context, its secrets, and what its failure is answered with."""

from __future__ import annotations

import dataclasses
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2, struct_pb2  # type: ignore[import-untyped]
from pulumi.runtime.proto import provider_pb2, status_pb2

from aifactory.provider import coerce, wire
from aifactory.provider.engine_log import EngineLog, Mask, Throttle
from aifactory.provider.resource import Cancelled, Context, HalfMade, Refused, Resource, TimedOut

Rpc = Any
"""grpc.ServicerContext, which carries no types."""

UNKNOWN_CODE = 2
"""grpc.StatusCode.UNKNOWN as a number: the only pairing the engine was seen to accept with the details."""


@dataclass
class Operation:
    """One verb on one resource. Secrets of everything that is loaded are masked in all it says."""

    verb: str
    urn: str
    name: str
    engine_log: EngineLog
    resource: Resource[Any, Any] = dataclasses.field(init=False)
    inputs: struct_pb2.Struct | None = None
    """The inputs that the state is to have if the verb half succeeds."""
    progress: Throttle | None = None
    secret_texts: list[str] = dataclasses.field(default_factory=list)
    secret_names: set[str] = dataclasses.field(default_factory=set)
    """Top-level names that came with a secret: an output of the same name is one too."""

    def load(self, cls: type, message: struct_pb2.Struct, *, lenient: bool = False) -> coerce.Loaded:
        """The message as an instance of `cls`, its secrets noted."""
        tree = wire.decode(message)
        loaded = coerce.load(cls, tree, lenient=lenient)
        self.secret_names |= {str(path[0]) for path in loaded.secrets}
        self.secret_texts += [text for p in loaded.secrets for text in _texts(wire.at(tree, p))]
        self.secret_texts += list(wire.secret_texts(tree))
        return loaded

    def state(self, cls: type, message: struct_pb2.Struct) -> Any:
        """What a state holds, or None where it holds nothing. Old and new versions are both read."""
        return self.load(cls, message, lenient=True).value if message.fields else None

    def wanted(self, message: struct_pb2.Struct) -> Any:
        """Inputs that Check has seen. Raises Refused where they are wrong all the same."""
        loaded = self.load(self.resource.Inputs, message)
        if loaded.failures:
            raise Refused("; ".join(f"{wire.show(f.path)} {f.reason}" for f in loaded.failures))
        return loaded.value

    def outputs(self, value: Any, *, preview: bool = False) -> struct_pb2.Struct:
        return wire.dump(value, [(name,) for name in self.secret_names], preview=preview)

    def context(self, deployment: str, cancel: threading.Event, timeout_s: float, *, preview: bool) -> Context:
        self.progress = Throttle(lambda text: self.engine_log.status(self.urn, self.mask(text)))
        return Context(
            urn=self.urn,
            name=self.name,
            preview=preview,
            deployment=deployment,
            deadline=time.monotonic() + timeout_s if timeout_s > 0 else None,
            cancel=cancel,
            log=lambda text: self.engine_log.info(self.urn, self.mask(text)),
            progress=self.progress,
        )

    def close(self) -> None:
        if self.progress is not None:
            self.progress.close()

    def mask(self, text: str) -> str:
        return Mask(self.secret_texts)(text)


def _texts(value: Any) -> Iterator[str]:
    return wire.secret_texts(value, inside=True)


def answer(rpc: Rpc, call: Operation, error: Exception) -> NoReturn:
    """Ends the call with what the engine is to make of `error`; see docs/provider.md."""
    if isinstance(error, HalfMade) and call.inputs is not None:
        try:
            detail = _init_failed(call, error, call.inputs)
        except TypeError as bug:
            _answer_bug(rpc, call, bug)
        _answer_half_made(rpc, detail)
    text = call.mask(str(error))
    if isinstance(error, HalfMade):
        rpc.abort(grpc.StatusCode.ABORTED, text)
    if isinstance(error, Refused):
        rpc.abort(grpc.StatusCode.FAILED_PRECONDITION, text)
    if isinstance(error, TimedOut):
        rpc.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"{call.verb} of {call.name} {text}")
    if isinstance(error, Cancelled):
        rpc.abort(grpc.StatusCode.CANCELLED, f"{call.verb} of {call.name} was cancelled; run it again")
    _answer_bug(rpc, call, error)


def _init_failed(call: Operation, error: HalfMade, inputs: struct_pb2.Struct) -> provider_pb2.ErrorResourceInitFailed:
    return provider_pb2.ErrorResourceInitFailed(
        id=error.id,
        properties=call.outputs(error.outputs),
        inputs=inputs,
        reasons=[call.mask(reason) for reason in error.reasons] or ["not ready"],
    )


def _answer_half_made(rpc: Rpc, detail: provider_pb2.ErrorResourceInitFailed) -> NoReturn:
    """The state keeps id, outputs and inputs; the next `up` updates (seen with the real engine)."""
    packed = any_pb2.Any()
    packed.Pack(detail)
    text = "; ".join(detail.reasons)
    status = status_pb2.Status(code=UNKNOWN_CODE, message=text, details=[packed])
    rpc.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    rpc.abort(grpc.StatusCode.UNKNOWN, text)
    raise AssertionError("abort raises")


def _answer_bug(rpc: Rpc, call: Operation, error: Exception) -> NoReturn:
    trace = "".join(traceback.format_exception(error))
    call.engine_log.debug(call.urn, call.mask(trace))
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
    first = (call.mask(str(error)).splitlines() or [""])[0][:200]
    rpc.abort(
        grpc.StatusCode.INTERNAL,
        f"internal error in {call.verb} of {call.name} ({place}): {type(error).__name__}: {first}; "
        "`pulumi up --debug` shows the traceback",
    )
    raise AssertionError("abort raises")
