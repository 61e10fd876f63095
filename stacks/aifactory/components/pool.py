"""`Pool`: the nodes of one pool, made or found, and configured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi import Output, ResourceOptions

from aifactory.components.access import access, makes_nodes
from aifactory.components.aws import AwsGround
from aifactory.components.resources import (
    Configuration,
    Keys,
    LocalNetwork,
    LocalNodeImage,
    LocalNodePool,
    NodePool,
    StaticNodePool,
)
from aifactory.components.role_vars import role_vars
from aifactory.plan.model import NodePlan, PoolPlan, RegionPlan
from aifactory.provider import tokens


@dataclass(frozen=True)
class Ground:
    """What every pool of a region stands on. `network` and `image`: local only; `aws`: in a cloud only."""

    region: RegionPlan
    keys: Keys
    network: LocalNetwork | None = None
    image: LocalNodeImage | None = None
    aws: AwsGround | None = None


class Pool(pulumi.ComponentResource):
    """One pool. `hosts` is its part of the fleet, in rank order, known when the nodes answer.

    The hosts are not registered as an output of the component: each copy of them makes the state bigger.
    """

    hosts: Output[Sequence[Mapping[str, Any]]]

    def __init__(self, name: str, plan: PoolPlan, *, ground: Ground, opts: ResourceOptions | None = None) -> None:
        super().__init__(tokens.COMPONENT_POOL, name, None, opts)
        self.nodes = _nodes(name, plan, ground, ResourceOptions(parent=self))
        self.hosts = self.nodes.hosts
        self.configuration = Configuration(
            name,
            region=ground.region.region,
            pool=plan.name,
            hosts=self.hosts,
            access=access(ground.region, ground.keys),
            layers=plan.layers,
            role_vars=role_vars(ground.region, plan),
            opts=ResourceOptions(parent=self),
        )
        self.register_outputs({"nodes": len(plan.nodes)})


def _nodes(name: str, plan: PoolPlan, ground: Ground, opts: ResourceOptions) -> NodePool:
    """The pool of the region's provider, known by what there is: a network to make nodes in, or listed hosts."""
    region = ground.region
    if ground.aws:
        return ground.aws.nodes(name, plan, ground.keys, opts)
    if ground.network and ground.image:
        return LocalNodePool(
            name,
            region=region.region,
            pool=plan.name,
            engine=ground.network.engine,
            network=ground.network.network,
            image=ground.image.image,
            user=region.ssh_user,
            authorized_key=ground.keys.ssh_public_key,
            ssh_private_key=ground.keys.ssh_private_key,
            shape=plan.shape,
            nodes=[_node_input(node) for node in plan.nodes],
            generation=plan.generation,
            opts=opts,
        )
    if makes_nodes(region):
        raise pulumi.RunError(f"Nodes of provider {region.provider} cannot be made by this version.")
    return StaticNodePool(
        name,
        region=region.region,
        pool=plan.name,
        shape=plan.shape,
        user=region.ssh_user,
        hosts=[_host_input(node) for node in plan.nodes],
        access=access(region, ground.keys),
        opts=opts,
    )


def _node_input(node: NodePlan) -> dict[str, Any]:
    return {
        "name": node.name,
        "address": node.address,
        "rank": node.rank,
        "gpus": node.gpus,
        "labels": dict(node.labels),
        "publish": [{"host_port": host, "node_port": inside} for host, inside in node.publish],
    }


def _host_input(node: NodePlan) -> dict[str, Any]:
    return {
        "name": node.name,
        "address": node.ssh_address,
        "port": node.ssh_port,
        "host_key": node.host_key,
        "rank": node.rank,
        "gpus": node.gpus,
        "labels": dict(node.labels),
    }
