"""What an operation came to: gathered from its events, told as data and as an exit code."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aifactory.engine.events import (
    STACK_TYPE,
    Diagnostic,
    Event,
    ResourceBegin,
    ResourceDone,
    ResourceFailed,
    Summary,
    urn_name,
    urn_type,
)
from aifactory.errors import Exit

_GENERIC = re.compile(r"^(update|preview|refresh|destroy|resource import) (failed|canceled)$")
_COUNTED = re.compile(r"^\d+ errors? occurred:\s*")
NOT_PROVED = "not proved:"


@dataclass(frozen=True)
class Failure:
    """A resource that failed, or (without a URN) the program or the engine itself."""

    urn: str
    type: str
    name: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """A resource that was, or in a preview would be, changed."""

    op: str
    urn: str
    type: str
    name: str
    changed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """The end of one operation. `outputs` are the stack's, with `[secret]` for secrets."""

    operation: str
    exit: Exit
    changes: dict[str, int]
    changed: tuple[Change, ...]
    failures: tuple[Failure, ...]
    warnings: tuple[str, ...]
    outputs: dict[str, Any]
    seconds: float
    log: Path | None = None
    """The engine's whole event stream, kept for the case that somebody asks."""
    touched: frozenset[str] = frozenset()
    """URNs that the engine has settled in this run: made, found unchanged, or kept half made."""

    @property
    def ok(self) -> bool:
        return self.exit == Exit.OK


@dataclass
class Watch:
    """Reads events as they come and says at the end what they came to."""

    operation: str
    begun: dict[str, ResourceBegin] = field(default_factory=dict)
    failed: dict[str, ResourceFailed] = field(default_factory=dict)
    errors: list[Diagnostic] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    outputs: dict[str, Any] = field(default_factory=dict)
    summary: Summary | None = None

    def see(self, event: Event) -> None:
        if isinstance(event, ResourceBegin):
            self.begun[event.urn] = event
        elif isinstance(event, ResourceDone):
            self.touched.add(event.urn)
            if event.type == STACK_TYPE:
                self.outputs = event.outputs
        elif isinstance(event, ResourceFailed):
            self.failed[event.urn] = event
            if event.id:
                self.touched.add(event.urn)
        elif isinstance(event, Summary):
            self.summary = event
        elif isinstance(event, Diagnostic) and not event.ephemeral:
            if event.severity == "error" and not _GENERIC.match(event.message):
                self.errors.append(event)
            elif event.severity == "warning":
                self.warnings.append(event.message)

    def end(self, code: int, stopped: signal.Signals | None, last_words: str, log: Path | None) -> Outcome:
        """The outcome of a process that ended with `code`, asked to stop by `stopped`."""
        failures = self._failures(code, last_words)
        return Outcome(
            operation=self.operation,
            exit=_exit(code, stopped, failures),
            changes=dict(self.summary.changes) if self.summary else {},
            changed=tuple(
                Change(e.op, e.urn, e.type, e.name, e.changed)
                for e in self.begun.values()
                if e.op not in {"same", "read"}
            ),
            failures=failures,
            warnings=tuple(dict.fromkeys(self.warnings)),
            outputs=self.outputs,
            seconds=self.summary.seconds if self.summary else 0.0,
            log=log,
            touched=frozenset(self.touched),
        )

    def _failures(self, code: int, last_words: str) -> tuple[Failure, ...]:
        found = []
        said: dict[str, list[str]] = {}
        for error in self.errors:
            said.setdefault(error.urn, []).extend(split_reasons(error.message))
        for urn, event in self.failed.items():
            reasons = event.reasons or tuple(said.get(urn, ())) or ("no reason was given",)
            found.append(Failure(urn, event.type, event.name, reasons))
        for urn, reasons_said in said.items():
            if urn not in self.failed:
                name = urn_name(urn) if urn else ""
                found.append(Failure(urn, urn_type(urn), name, tuple(dict.fromkeys(reasons_said))))
        if code and not found:
            found.append(Failure("", "", "", (last_words or f"the engine ended with code {code}",)))
        return tuple(found)


def split_reasons(message: str) -> list[str]:
    """`2 errors occurred:\\n\\t* a\\n\\t* b` → [a, b]; any other message stays whole."""
    text = message.strip()
    if not _COUNTED.match(text):
        return [text]
    return [part.strip() for part in re.split(r"(?:^|\n)\s*\* ", _COUNTED.sub("", text)) if part.strip()]


def _exit(code: int, stopped: signal.Signals | None, failures: tuple[Failure, ...]) -> Exit:
    if stopped is not None:  # with code 0 too: an engine stopped between two steps says that it succeeded
        return Exit.INTERRUPTED if stopped == signal.SIGINT else Exit.TERMINATED
    if code == 0:
        return Exit.OK
    reasons = [reason for failure in failures for reason in failure.reasons]
    return Exit.NOT_PROVED if reasons and all(r.startswith(NOT_PROVED) for r in reasons) else Exit.FAILED
