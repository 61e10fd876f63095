"""Names and limits that the engine, the front door, the roles and acceptance agree on."""

from __future__ import annotations

from aifactory.plan.model import RegionPlan

CONNECTIONS = 64
"""Requests a replica holds at once, waiting ones included; the front door queues what goes beyond.

The engine keeps one thread for each, and eight more for health checks, which must never wait behind answers.
"""

DRAIN_S = 20
"""Seconds that running answers get when a replica is stopped."""

FRONT_DOOR = "haproxy.service"
"""Unit of the front door on its nodes."""

LISTEN_PORT = 443
"""TCP port of the front door on its nodes."""


def replica(service: str, index: int) -> str:
    """Unit of one replica on its node: `aifactory-chat-0.service`."""
    return f"aifactory-{service}-{index}.service"


def of(plan: RegionPlan) -> dict[str, list[str]]:
    """Node → the units that must be healthy on it, services before the front door."""
    found: dict[str, list[str]] = {}
    for service in plan.services:
        for copy in service.replicas:
            found.setdefault(copy.nodes[0], []).append(replica(service.name, copy.index))
    for node in plan.front_door.nodes if plan.front_door else ():
        found.setdefault(node, []).append(FRONT_DOOR)
    return found
