"""Names and limits that the engine, the front door, the roles and acceptance agree on."""

from __future__ import annotations

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
