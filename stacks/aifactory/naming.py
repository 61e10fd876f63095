"""Every logical and physical name, with its length limit. One place, so that renames are visible.

Logical names are what the Pulumi engine puts into a URN; physical names are what a machine or cloud sees.
"""

from __future__ import annotations

import re

REGION_RE = re.compile(r"[a-z][a-z0-9-]{1,30}")
HOST_RE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

FRONT_POOL = "front"
"""Pool name of the front door's own nodes; reserved (a user's pool may not take it)."""

LABEL = "aifactory."
"""Prefix of every label or tag the toolkit writes on an object."""


def node(region: str, pool: str, index: int) -> str:
    """`<region>-<pool>-<000>`: at most 31 + 1 + 16 + 1 + 4 = 53 characters, a valid host name."""
    return f"{region}-{pool}-{index:03d}"


def network(region: str) -> str:
    return f"aifactory-{region}"


def volume(node_name: str, purpose: str) -> str:
    return f"{node_name}-{purpose}"


REGION = "region"
KEYS = "keys"
NETWORK = "network"
NODE_IMAGE = "node-image"
SERVING = "serving"
FRONT_DOOR = "front-door"
ACCEPTANCE = "acceptance"
"""Logical names of what a region has once; pools, services and engines go by their own names."""
