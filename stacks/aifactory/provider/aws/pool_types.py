"""Inputs and outputs of `aifactory:aws:NodePool`, and what a node cannot change without being made again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

from aifactory.hosts.fleet import FleetHost
from aifactory.provider.aws.capacity import CapacityKind
from aifactory.provider.aws.cloud import CloudInput
from aifactory.provider.aws.instances_api import Instance
from aifactory.provider.resource import prop

SSH_PORT = 22
LAYOUT = 1
"""Raised when instances made by this code differ in a way that old nodes must follow."""


@dataclass(frozen=True)
class AwsNodeInput:
    name: str = prop(doc="Name of the node, `<region>-<pool>-<000>`.")
    rank: int = prop(doc="Place in the region, from 0.")
    gpus: int = prop(0, doc="GPUs of the node.")
    labels: dict[str, str] = prop(doc="Free labels for the fleet.", default_factory=dict)


@dataclass(frozen=True)
class NodePoolInputs:
    region: str = prop(doc="Region name.", replaces=True)
    cloud: CloudInput = prop(doc="Where the API is; another key, region or account replaces.")
    pool: str = prop(doc="Pool name.", replaces=True)
    shape: str = prop(doc="Shape of the nodes; a change rebuilds them one by one.")
    user: str = prop(doc="Login of the nodes; a change rebuilds them one by one.")
    template_id: str = prop(doc="Launch template.")
    template_version: int = prop(doc="Its version, for new nodes; those that exist keep theirs.")
    subnet_id: str = prop(doc="Subnet of the template's interfaces; a change rebuilds the nodes one by one.")
    zone: str = prop(doc="Availability zone of that subnet.")
    nodes: tuple[AwsNodeInput, ...] = prop(
        doc="The nodes in rank order; the place in this list is the node's identity."
    )
    capacity_kind: CapacityKind = prop("on_demand", doc="How new nodes are asked for.")
    capacity_id: str = prop("", doc="Reservation or capacity block; its id, or the ARN of a group of them.")
    on_partial: Literal["keep", "release"] = prop("release", doc="What happens to what came when not all could be had.")
    generation: int = prop(1, doc="Raising it rebuilds the pool node by node.")
    rebuild_on: str = prop("", doc="A change rebuilds the nodes one by one: a digest of what else they cannot change.")
    host_keys: Literal["console", "none"] = prop("console", doc="Where a new node's SSH host key is learnt.")
    ready_timeout_s: int = prop(900, doc="How long a node may take until it is ready, seconds.")
    ssh_private_key: str = prop("", doc="Key for the test login; without it none is made.", secret=True)
    bastion: str = prop("", doc="Jump host, `[user@]host[:port]`.")
    bastion_host_key: str = prop("", doc="SSH public host key of the jump host.")
    token: str = prop("", doc="Identity of the resource.", check=True)


@dataclass(frozen=True)
class NodePoolOutputs:
    hosts: tuple[FleetHost, ...] = prop(doc="The nodes that exist, in rank order.")
    run_id: str = prop(doc="Last run that made, started or asked a node: what was proved before it is proved anew.")
    nonce: str = prop(doc="Fence of delete and update.")


SPEC_FIELDS = ("shape", "user", "subnet_id", "generation", "rebuild_on")


def spec_digest(news: NodePoolInputs) -> str:
    """Equal as long as nodes may stay. The template's version is not part of it: a new one must not cost a node."""
    parts = [LAYOUT, *(getattr(news, name) for name in SPEC_FIELDS)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def fleet_host(
    news: NodePoolInputs, node: AwsNodeInput, instance: Instance, *, host_key: str, created_at: str, urn: str
) -> FleetHost:
    return FleetHost(
        id=instance.id,
        name=node.name,
        address=instance.address,
        port=SSH_PORT,
        user=news.user,
        host_key=host_key,
        pool=news.pool,
        shape=news.shape,
        rank=node.rank,
        gpus=node.gpus,
        node_address=instance.address,
        zone=instance.zone or news.zone,
        serial=instance.id,
        created_at=created_at or instance.launched,
        labels=node.labels,
        urn=urn,
    )
