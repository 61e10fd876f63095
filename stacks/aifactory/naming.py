"""Every logical and physical name, with its length limit. One place, so that renames are visible.

Logical names are what the Pulumi engine puts into a URN; physical names are what a machine or cloud sees.
"""

from __future__ import annotations

import hashlib
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


def fitted(name: str, limit: int) -> str:
    """The name, or, where it is longer than `limit`, its beginning and eight digits that tell it from its like."""
    if len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: limit - 9].rstrip('-')}-{digest}"


def aws_key_alias(region: str) -> str:
    """KMS: at most 256 characters, `alias/` included, none of them `alias/aws`."""
    return f"alias/aifactory-{region}"


def aws_node_role(region: str) -> str:
    """Role and instance profile of the nodes; IAM takes 64 characters, this has at most 46."""
    return fitted(f"aifactory-{region}-node", 64)


def aws_bucket(region: str, storage: str, account: str) -> str:
    """Unique in a partition, hence the account; S3 takes 63 characters, this has at most 61."""
    return fitted(f"{region}-{storage}-{account}", 63)


def aws_file_system(region: str, storage: str) -> str:
    """The tag `Name`, 256 characters: file systems have no name of their own."""
    return f"{region}-{storage}"


def aws_launch_template(region: str, pool: str) -> str:
    """EC2 takes 3 to 128 characters, this has at most 48."""
    return fitted(f"{region}-{pool}", 128)


def aws_placement_group(region: str, pool: str) -> str:
    """EC2 takes 255 characters, this has at most 48."""
    return fitted(f"{region}-{pool}", 255)


def aws_load_balancer(region: str) -> str:
    """32 characters of a-z, 0-9 and -, without one at either end."""
    return fitted(f"aifactory-{region}", 32).rstrip("-")


def aws_subnet(purpose: str, cloud_region: str, zone: str) -> str:
    """`nodes-a` of zone `eusc-de-east-1a`: the part of the network that it is, and the end of its tag `Name`."""
    return f"{purpose}-{zone.removeprefix(cloud_region).strip('-') or zone}"


REGION = "region"
KEYS = "keys"
DOOR_KEYS = "door-keys"
NETWORK = "network"
KEY = "key"
IDENTITY = "identity"
GROUND = "ground"
DOOR = "door"
NODE_IMAGE = "node-image"
SERVING = "serving"
FRONT_DOOR = "front-door"
ACCEPTANCE = "acceptance"
"""Logical names of what a region has once; pools, services and engines go by their own names."""
