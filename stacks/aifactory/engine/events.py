"""The engine's event stream (`pulumi up --json`), one JSON object a line, as typed data.

Debug diagnostics (two thirds of the lines) and bookkeeping events are dropped. Secrets never reach this stream
in clear: the engine writes `[secret]`, and so do we.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

_SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "[secret]"  # noqa: S105 - what is shown in a secret's place
STACK_TYPE = "pulumi:pulumi:Stack"


@dataclass(frozen=True)
class ResourceBegin:
    """An operation on a resource starts. `op` is the engine's word: create, update, delete, same, read, …"""

    op: str
    urn: str
    type: str
    changed: tuple[tuple[str, str], ...] = ()
    """(property path, kind of change), where the provider said so."""
    planning: bool = False

    @property
    def name(self) -> str:
        return urn_name(self.urn)


@dataclass(frozen=True)
class ResourceDone:
    """It ended well. `outputs` are those of the stack itself, empty for every other resource."""

    op: str
    urn: str
    type: str
    outputs: dict[str, Any] = field(default_factory=dict)
    planning: bool = False

    @property
    def name(self) -> str:
        return urn_name(self.urn)


@dataclass(frozen=True)
class ResourceFailed:
    """It ended badly. With an `id` the thing exists, half made, and is in the state with its `reasons`."""

    op: str
    urn: str
    type: str
    id: str = ""
    reasons: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return urn_name(self.urn)


@dataclass(frozen=True)
class Diagnostic:
    """A line for people. `ephemeral` ones are progress (`12/16 nodes reachable`) and need not be kept."""

    severity: str
    """info, warning or error"""
    message: str
    urn: str = ""
    ephemeral: bool = False

    @property
    def name(self) -> str:
        return urn_name(self.urn) if self.urn else ""


@dataclass(frozen=True)
class Summary:
    result: str
    """succeeded or failed"""
    changes: dict[str, int]
    seconds: float
    preview: bool = False


@dataclass(frozen=True)
class Note:
    """Said by the toolkit, not by the engine: a lock broken, a killed run settled."""

    message: str


Event = ResourceBegin | ResourceDone | ResourceFailed | Diagnostic | Summary | Note


def urn_name(urn: str) -> str:
    """The logical name at the end of a URN."""
    return urn.rsplit("::", 1)[-1]


def urn_type(urn: str) -> str:
    """The type in a URN, without those of its parents."""
    return urn.rsplit("::", 2)[-2].rsplit("$", 1)[-1] if urn.count("::") >= 2 else ""


def parse(line: str) -> Event | None:
    """The event in one line of the stream; None for what nobody needs to see.

    Raises ValueError when the line is not JSON: then it is not this stream.
    """
    data = json.loads(line)
    if body := data.get("diagnosticEvent"):
        return _diagnostic(body)
    if body := data.get("resourcePreEvent"):
        meta = body["metadata"]
        return ResourceBegin(meta["op"], meta["urn"], meta["type"], _changed(meta), bool(body.get("planning")))
    if body := data.get("resOutputsEvent"):
        meta = body["metadata"]
        outputs = unwrap((meta.get("new") or {}).get("outputs") or {}) if meta["type"] == STACK_TYPE else {}
        return ResourceDone(meta["op"], meta["urn"], meta["type"], outputs, bool(body.get("planning")))
    if body := data.get("resOpFailedEvent"):
        meta = body["metadata"]
        new = meta.get("new") or {}
        reasons = tuple(str(r) for r in new.get("initErrors") or ())
        return ResourceFailed(meta["op"], meta["urn"], meta["type"], new.get("id", ""), reasons)
    if body := data.get("summaryEvent"):
        return Summary(
            result=body.get("result", "failed"),
            changes={str(k): int(v) for k, v in (body.get("resourceChanges") or {}).items()},
            seconds=float(body.get("durationSeconds", 0)),
            preview=bool(body.get("isPreview")),
        )
    return None


def _diagnostic(body: dict[str, Any]) -> Diagnostic | None:
    severity = body.get("severity", "info")
    message = str(body.get("message", "")).strip()
    if severity == "debug" or not message:
        return None
    severity = {"info#err": "info"}.get(severity, severity)
    return Diagnostic(severity, message, body.get("urn", ""), bool(body.get("ephemeral")))


def _changed(meta: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    detailed = meta.get("detailedDiff") or {}
    return tuple(sorted((str(path), str((row or {}).get("diffKind", "update"))) for path, row in detailed.items()))


def unwrap(value: Any) -> Any:
    """The value with every wrapped secret in clear where the engine was asked for that, else as `[secret]`."""
    if isinstance(value, dict):
        if _SIGNATURE in value:
            return json.loads(value["plaintext"]) if "plaintext" in value else SECRET
        return {key: unwrap(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unwrap(item) for item in value]
    return value
