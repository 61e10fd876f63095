"""JSON lines of the result callback → what happened on each host, and the progress line meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .fleet import FleetHost
from .play import HostOutcome, Status

_LOST = "see whether the node is up and can be reached, then run again: what is done stays done"


@dataclass
class _Host:
    started: bool = False
    ended: bool = False
    ok: int = 0
    changed: int = 0
    failed_task: str | None = None
    message: str | None = None
    broken: Status | None = None


@dataclass
class Results:
    """Running totals of one run, over all its shards. Feed it lines, ask for `progress` and `outcomes`."""

    hosts: tuple[FleetHost, ...]
    notes: dict[str, None] = field(default_factory=dict)
    progress: str = ""
    _state: dict[str, _Host] = field(default_factory=dict)
    _task: str = ""
    _task_done: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._state = {host.name: _Host() for host in self.hosts}

    @property
    def started(self) -> bool:
        """Whether any host answered at all."""
        return any(host.started for host in self._state.values())

    def feed(self, lines: Iterable[str]) -> None:
        """Takes whole lines; anything that is not a line of ours is a bug and raises ValueError."""
        for line in lines:
            event = json.loads(line)
            getattr(self, f"_on_{event['kind']}", self._ignore)(event)

    def outcomes(self, why_aborted: str) -> dict[str, HostOutcome]:
        """Per host, in fleet order. `why_aborted` is said of hosts that started and did not reach the end."""
        return {host.name: self._outcome(host, why_aborted) for host in self.hosts}

    def _ignore(self, _event: dict[str, Any]) -> None:
        """Kinds of a later callback."""

    def _on_task(self, event: dict[str, Any]) -> None:
        if event["task"] != self._task:
            self._task, self._task_done = event["task"], set()
        self._show(event["task"])

    def _on_host(self, event: dict[str, Any]) -> None:
        host = self._state.get(event["host"])
        if host is None:
            return
        host.started = True
        status = event["status"]
        if status in ("ok", "changed"):
            host.ok += 1
            host.changed += status == "changed"
        elif status in ("failed", "unreachable"):
            host.broken, host.failed_task, host.message = status, event["task"], event.get("message")
        if event["task"] == self._task:
            self._task_done.add(event["host"])
            self._show(event["task"])

    def _on_note(self, event: dict[str, Any]) -> None:
        self.notes.setdefault(f"{event['layer']}: {event['message']}")

    def _on_end(self, event: dict[str, Any]) -> None:
        if event["host"] in self._state:
            self._state[event["host"]].ended = True

    def _show(self, task: str) -> None:
        layer, _, name = task.partition(" : ")
        if not name:
            layer, name = "", layer
        alive = sum(1 for host in self._state.values() if host.broken is None or host.ended)
        text = f"{layer}: {name[:1].lower()}{name[1:]}" if layer else name
        self.progress = f"{text} ({min(len(self._task_done), alive)}/{alive} hosts)"

    def _outcome(self, host: FleetHost, why_aborted: str) -> HostOutcome:
        state = self._state[host.name]
        if state.ended:
            return HostOutcome("changed" if state.changed else "converged", state.changed, state.ok)
        if state.broken:
            message = plain(host, state.message or "") if state.broken == "unreachable" else state.message
            return HostOutcome(state.broken, state.changed, state.ok, state.failed_task, message)
        if state.started:
            return HostOutcome("aborted", state.changed, state.ok, message=why_aborted)
        return HostOutcome("never_started", message=why_aborted)


def plain(host: FleetHost, message: str) -> str:
    """An SSH error in one sentence that says what to look at."""
    where = f"{host.address} port {host.port}"
    if "Host key verification failed" in message or "HOST IDENTIFICATION HAS CHANGED" in message:
        return f"{where} presents another SSH host key than the fleet says; nothing was sent to it"
    if "Permission denied" in message:
        return f"{where} does not accept the SSH key for user {host.user}"
    for sign, text in (
        ("Not allowed at this time", "sshd turns this address away for a while, after failed logins; wait a minute"),
        (
            "kex_exchange_identification",
            "sshd closed the connection at once; it may turn this address away for a while",
        ),
        ("Connection refused", f"nothing listens there (connection refused); {_LOST}"),
        ("timed out", f"no answer (timed out); {_LOST}"),
        ("No route to host", f"no route to the host; {_LOST}"),
        ("Could not resolve hostname", "the name does not resolve"),
    ):
        if sign in message:
            return f"{where}: {text}"
    return f"{where}: {' '.join(message.split())[:300] or 'SSH ended without a message'}; {_LOST}"
