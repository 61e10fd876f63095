"""The contract of every resource of the plugin: typed inputs and outputs, seven verbs, honest failures.

A resource is a class with two frozen dataclasses, `Inputs` and `Outputs`. The server (provider/server.py)
turns the engine's wire values into them (numbers arrive as floats and are coerced by the field types),
calls the verbs, and turns what they return or raise into answers of the protocol.

Field metadata, made with `prop(...)`:
  doc       one line for the schema
  secret    the value is wrapped as a secret in state, never named in a failure
  replaces  a change forces a replacement
  check     filled by Check (token, digest); users do not set it
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar


class Unknown:
    """A value that only exists after the operation; shown as `[unknown]` in a preview."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Any = Unknown()


def prop(
    default: Any = dataclasses.MISSING,
    *,
    doc: str,
    secret: bool = False,
    replaces: bool = False,
    check: bool = False,
    default_factory: Callable[[], Any] | None = None,
) -> Any:
    """A dataclass field with the metadata that the server and the schema read. Secrets stay out of its repr."""
    metadata = {"doc": doc, "secret": secret, "replaces": replaces, "check": check}
    if default_factory is not None:
        return field(default_factory=default_factory, metadata=metadata, repr=not secret)
    if default is dataclasses.MISSING:
        return field(metadata=metadata, repr=not secret)
    return field(default=default, metadata=metadata, repr=not secret)


I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741


class Cancelled(Exception):
    """The engine asked to stop. Raised by `Context.check_cancelled` and `Context.wait`.

    A verb that has made something catches it and raises HalfMade with `str(error)` as the reason.
    """

    def __init__(self, message: str = "cancelled") -> None:
        super().__init__(message)


class TimedOut(Cancelled):
    """The resource's time is up (`custom_timeouts`); to be treated like a cancel."""


class HalfMade(Exception):
    """Something exists but is not ready: the state keeps `id` and `outputs`, the next `up` goes on from there."""

    def __init__(self, id: str, outputs: Any, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.id, self.outputs, self.reasons = id, outputs, reasons


class Refused(Exception):
    """The operation was not begun and nothing was changed. The message is shown as it is."""


@dataclass(frozen=True)
class CheckFailure:
    """A wrong input. `property` is a path inside the inputs, never that of a secret (the engine prints its value)."""

    property: str
    reason: str


@dataclass(frozen=True)
class Diff:
    """What an update would do. Keys are property paths of the inputs (or of the outputs where `output` is named)."""

    updates: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    output_updates: tuple[str, ...] = ()
    """Paths in the outputs that the world no longer matches (a node that died)."""
    delete_before_replace: bool = False

    @property
    def changes(self) -> bool:
        return bool(self.updates or self.replaces or self.output_updates)


@dataclass
class Context:
    """One call of the engine: who is asked about, for how long, and how to say or hear something meanwhile."""

    urn: str
    name: str
    preview: bool
    deployment: str
    """Id of this region's deployment; part of every token and label."""
    deadline: float | None
    """time.monotonic() value after which the verb must have returned; None = no limit."""
    cancel: threading.Event
    log: Callable[[str], None]
    """Final fact, one line, kept in the diagnostics."""
    progress: Callable[[str], None]
    """Status line of the resource (`12/16 nodes reachable`); the server drops more than one a second."""

    def remaining(self) -> float:
        """Seconds until the deadline, never negative; infinite without one."""
        return math.inf if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def check_cancelled(self) -> None:
        """Raises Cancelled when the engine has asked to stop, TimedOut when the deadline has passed."""
        self.wait(0)

    def wait(self, seconds: float) -> None:
        """Sleeps, but raises Cancelled at once when the engine asks to stop, TimedOut at the deadline."""
        remaining = self.remaining()
        if self.cancel.wait(min(seconds, remaining)):
            raise Cancelled
        if self.remaining() <= 0:
            raise TimedOut("timed out: the time set for this operation is over")


class Resource(ABC, Generic[I, O]):
    """One resource type. An instance is made once a process and is called from many threads."""

    token: ClassVar[str]
    Inputs: ClassVar[type]
    Outputs: ClassVar[type]

    def check(self, ctx: Context, news: I, olds: I | None) -> tuple[I, list[CheckFailure]]:
        """Inputs completed with what Check fills in, and everything that is wrong with them.

        `news` may hold UNKNOWN values. Never blocks, never writes.
        """
        return news, []

    def diff(self, ctx: Context, id: str, olds: I, outs: O, news: I) -> Diff:
        """What changed. Default: field by field, `replaces` from the metadata. May look at the world cheaply.

        The token is no change of its own: it follows `generation`, which forces the replacement.
        """
        updates: list[str] = []
        replaces: list[str] = []
        for f in dataclasses.fields(news):  # type: ignore[arg-type]
            if f.name != "token" and getattr(olds, f.name) != getattr(news, f.name):
                (replaces if f.metadata.get("replaces") else updates).append(f.name)
        return Diff(tuple(updates), tuple(replaces))

    @abstractmethod
    def preview(self, ctx: Context, news: I, outs: O | None) -> O:
        """Outputs as far as they are known before the operation (`outs` is None for a create). No side effects."""

    @abstractmethod
    def create(self, ctx: Context, news: I) -> tuple[str, O]:
        """Make it, or adopt what an earlier killed run made (same token). Safe to repeat.

        Raises HalfMade when something exists but is not ready, Refused when nothing was begun, Cancelled.
        """

    @abstractmethod
    def read(self, ctx: Context, id: str, olds: I | None, outs: O | None) -> tuple[I, O] | None:
        """What is there now, or None when it is gone. `olds` is None for an import."""

    @abstractmethod
    def update(self, ctx: Context, id: str, olds: I, outs: O, news: I) -> O:
        """Bring it to `news`; also called with equal inputs after a HalfMade. Safe to repeat."""

    @abstractmethod
    def delete(self, ctx: Context, id: str, olds: I, outs: O) -> None:
        """Remove what this create made and nothing a newer create owns (nonce fence). Gone already = success."""
