"""A stack's state as `pulumi stack export` gives it: what exists, and what a killed run had begun."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aifactory.engine import events
from aifactory.engine.events import urn_name, urn_type

PROVIDER_TYPE = "pulumi:providers:aifactory"


@dataclass(frozen=True)
class Pending:
    """An operation that a killed run had begun. Of a create nobody knows yet what exists."""

    urn: str
    operation: str

    @property
    def name(self) -> str:
        return urn_name(self.urn)

    @property
    def type(self) -> str:
        return urn_type(self.urn)


@dataclass(frozen=True)
class Snapshot:
    """The exported state; `text` is what was exported, ciphertext and all, for a later import."""

    text: str
    urns: frozenset[str]
    pending: tuple[Pending, ...]
    deployment: str | None
    """Deployment id that the provider was last configured with."""

    @property
    def creates(self) -> tuple[Pending, ...]:
        return tuple(p for p in self.pending if p.operation == "creating")


def parse(text: str) -> Snapshot:
    deployment: dict[str, Any] = json.loads(text).get("deployment") or {}
    resources: list[dict[str, Any]] = deployment.get("resources") or []
    operations: list[dict[str, Any]] = deployment.get("pending_operations") or []
    return Snapshot(
        text=text,
        urns=frozenset(r["urn"] for r in resources),
        pending=tuple(Pending(o["resource"]["urn"], o["type"]) for o in operations),
        deployment=_deployment(resources),
    )


def outputs(text: str) -> list[tuple[str, dict[str, Any]]]:
    """(type, outputs) of every resource of an exported state."""
    resources: list[dict[str, Any]] = (json.loads(text).get("deployment") or {}).get("resources") or []
    return [(str(r["type"]), events.unwrap(r.get("outputs") or {})) for r in resources]


def _deployment(resources: Iterable[dict[str, Any]]) -> str | None:
    for resource in resources:
        if resource.get("type") == PROVIDER_TYPE:
            value = (resource.get("inputs") or {}).get("deployment")
            if isinstance(value, str) and value:
                return value
    return None
