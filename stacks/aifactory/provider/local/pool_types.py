"""Inputs and outputs of `aifactory:local:NodePool`, and what a node cannot change without being made again."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from dataclasses import dataclass

from aifactory import naming
from aifactory.hosts.fleet import FleetHost
from aifactory.provider.local import labels
from aifactory.provider.local.driver import LOOPBACK
from aifactory.provider.local.engine_output import Container
from aifactory.provider.resource import prop

SSH_PORT = 22
LAYOUT = 1
"""Raised when containers made by this code differ in a way that old nodes must follow."""


@dataclass(frozen=True)
class Publish:
    """A port of the node that this machine's loopback address forwards."""

    host_port: int = prop(doc="TCP port on 127.0.0.1 of this machine.")
    node_port: int = prop(doc="TCP port of the node.")


@dataclass(frozen=True)
class NodeInput:
    name: str = prop(doc="Container and host name.")
    address: str = prop(doc="IPv4 address inside the region's network.")
    rank: int = prop(doc="Place in the region, from 0.")
    gpus: int = prop(0, doc="GPUs of the node.")
    labels: dict[str, str] = prop(doc="Free labels for the fleet.", default_factory=dict)
    publish: tuple[Publish, ...] = prop((), doc="Ports that this machine forwards, besides SSH.")


@dataclass(frozen=True)
class NodePoolInputs:
    region: str = prop(doc="Region name.", replaces=True)
    pool: str = prop(doc="Pool name.", replaces=True)
    engine: str = prop(doc="Container engine, as the network found it.", replaces=True)
    network: str = prop(doc="Network of the nodes.", replaces=True)
    image: str = prop(doc="Image id; used for new nodes, running ones keep theirs.")
    user: str = prop(doc="Login of the nodes.")
    authorized_key: str = prop(doc="SSH public key that may log in.")
    shape: str = prop(doc="Shape of the nodes; a change rebuilds them one by one.")
    nodes: tuple[NodeInput, ...] = prop(doc="The nodes in rank order.")
    generation: int = prop(1, doc="Raising it rebuilds the pool node by node.")
    ready_timeout_s: int = prop(90, doc="How long a node may take until SSH answers, seconds.")
    ssh_private_key: str = prop("", doc="Key for the test login; without it only the host key is checked.", secret=True)
    token: str = prop("", doc="Identity of the resource.", check=True)


@dataclass(frozen=True)
class NodePoolOutputs:
    hosts: tuple[FleetHost, ...] = prop(doc="The nodes that exist, in rank order.")
    run_id: str = prop(doc="Last run that made, started or asked a node: what was proved before it is proved anew.")
    nonce: str = prop(doc="Fence of delete and update.")


def spec_digest(news: NodePoolInputs, node: NodeInput) -> str:
    """Equal as long as the node may stay. The image is not part of it: a rebuilt image must not cost a node."""
    ports = sorted((p.host_port, p.node_port) for p in node.publish)
    parts = [LAYOUT, news.network, news.shape, news.generation, node.address, ports]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def mac(address: str) -> str:
    """A MAC address that belongs to the IP address: neighbours need not relearn it when the node restarts.

    Source: local-region rehearsal, 2026-11: without it SSH to a restarted node was dead for 45 s.
    """
    return "02:42:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(address).packed)


def volume(node: str) -> str:
    return naming.volume(node, "containers")


def ssh_port(container: Container) -> int:
    """Port of this machine that leads to the node's sshd; 0 where the container has none."""
    return next((outside for outside, inside in container.ports if inside == SSH_PORT), 0)


def fleet_host(news: NodePoolInputs, node: NodeInput, container: Container, urn: str) -> FleetHost:
    return FleetHost(
        id=container.id,
        name=node.name,
        address=LOOPBACK,
        port=ssh_port(container),
        user=news.user,
        host_key=container.labels.get(labels.HOST_KEY, ""),
        pool=news.pool,
        shape=news.shape,
        rank=node.rank,
        gpus=node.gpus,
        node_address=node.address,
        created_at=container.labels.get(labels.CREATED_AT, ""),
        labels={**node.labels, labels.NESTING: container.labels.get(labels.NESTING, "no")},
        urn=urn,
    )
