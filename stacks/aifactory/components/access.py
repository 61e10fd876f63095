"""How the controller logs into a region's hosts, as inputs of every resource that does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pulumi

from aifactory.components.resources import Keys, NodePool
from aifactory.plan.model import RegionPlan


def access(plan: RegionPlan, keys: Keys) -> dict[str, Any]:
    """The region's own key, or the user's key file where the hosts were there before; through the jump host, if any."""
    if makes_nodes(plan):
        through = {"bastion": plan.ssh_bastion, "bastion_host_key": plan.ssh_bastion_host_key}
        return {"ssh_private_key": keys.ssh_private_key, **(through if plan.ssh_bastion else {})}
    return {
        "ssh_private_key_path": plan.ssh_private_key,
        "bastion": plan.ssh_bastion,
        "bastion_host_key": plan.ssh_bastion_host_key,
    }


def going_with(plan: RegionPlan, pools: Sequence[NodePool]) -> pulumi.Resource | None:
    """The pool that takes what stands on its nodes along when it is deleted: then nothing need be removed first.

    None where hosts outlive the region (they must be cleared), or where the resource stands on several pools.
    """
    return pools[0] if makes_nodes(plan) and len(pools) == 1 else None


def makes_nodes(plan: RegionPlan) -> bool:
    """Whether the toolkit makes the nodes, and so decides who may log in."""
    return all(node.host_key is None for pool in plan.pools for node in pool.nodes)
