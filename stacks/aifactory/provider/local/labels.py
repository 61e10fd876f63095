"""Labels on everything that is made in a container engine: by them it is found, adopted and told apart."""

from __future__ import annotations

from collections.abc import Mapping

from aifactory.naming import LABEL
from aifactory.provider.resource import Context

DEPLOYMENT = f"{LABEL}deployment"
REGION = f"{LABEL}region"
URN = f"{LABEL}urn"
TOKEN = f"{LABEL}token"
POOL = f"{LABEL}pool"
SPEC = f"{LABEL}spec"
"""Digest of what a node cannot change without being made again."""
HOST_KEY = f"{LABEL}host-key"
CREATED_AT = f"{LABEL}created-at"
NESTING = f"{LABEL}nesting"
"""`yes` or `no`: whether the node may run containers of its own. Roles read it from the fleet."""


def of(ctx: Context, region: str, token: str) -> dict[str, str]:
    """What every object of one resource carries."""
    return {DEPLOYMENT: ctx.deployment, REGION: region, URN: ctx.urn, TOKEN: token}


def holder(labels: Mapping[str, str]) -> str:
    """Who holds an object, in words."""
    if not labels.get(DEPLOYMENT):
        return "something that this toolkit did not make"
    return f"region {labels.get(REGION, '?')} of deployment {labels[DEPLOYMENT]}"
