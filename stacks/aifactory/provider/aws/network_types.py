"""Inputs and outputs of `aifactory:aws:Network`."""

from __future__ import annotations

from dataclasses import dataclass

from aifactory.provider.aws.cloud import CloudInput
from aifactory.provider.resource import prop

ANYWHERE = "0.0.0.0/0"
S3 = "s3"
GATEWAY_SERVICES = (S3, "dynamodb")
"""What a gateway endpoint can lead to. Source: Amazon VPC User Guide, Gateway endpoints, read 2026-11."""
PUBLIC, PRIVATE = "public", "private"


@dataclass(frozen=True)
class SubnetInput:
    name: str = prop(doc="`<purpose>-<zone>`, unique in the region.")
    zone: str = prop(doc="Availability zone.")
    cidr: str = prop(doc="IPv4 network inside the region's.")
    public: bool = prop(doc="Its way out is the internet gateway: for load balancer and NAT, never for nodes.")


@dataclass(frozen=True)
class EgressInput:
    cidr: str = prop(doc="IPv4 network that may be spoken to.")
    port: int = prop(doc="TCP port.")


@dataclass(frozen=True)
class NetworkInputs:
    region: str = prop(doc="Region name.", replaces=True)
    cloud: CloudInput = prop(doc="Where the API is; another key, region or account replaces.")
    cidr: str = prop(doc="IPv4 network of the region, /16 to /28.", replaces=True)
    subnets: tuple[SubnetInput, ...] = prop(doc="Its parts.")
    nat: bool = prop(False, doc="Whether nodes have a way out, through one address.")
    gateway_endpoints: tuple[str, ...] = prop((), doc="Services reached by a route: s3, dynamodb.")
    interface_endpoints: tuple[str, ...] = prop((), doc="Services reached by an address inside: ec2, ssm and so on.")
    egress_ports: tuple[int, ...] = prop((), doc="TCP ports that nodes may reach anywhere.")
    egress: tuple[EgressInput, ...] = prop((), doc="TCP that nodes may reach, by network and port.")
    api_port: int = prop(443, doc="Port of the front door on its nodes, open to the load balancer.")
    door_port: int = prop(0, doc="Port of the load balancer; 0 = api_port.")
    api_from: tuple[str, ...] = prop((), doc="IPv4 networks that may speak to the load balancer.")
    ssh_from: tuple[str, ...] = prop((), doc="IPv4 networks that may log in on nodes.")
    lustre: bool = prop(False, doc="Whether nodes speak to a file system for Lustre.")
    flow_log_bucket_arn: str = prop("", doc="Bucket that gets the record of every connection; empty = none.")
    token: str = prop("", doc="Identity of the resource.", check=True)


@dataclass(frozen=True)
class NetworkOutputs:
    vpc_id: str = prop(doc="The network's id.")
    subnet_ids: dict[str, str] = prop(doc="Name → id of each subnet.")
    node_group: str = prop(doc="Security group of nodes, file systems and endpoints.")
    door_group: str = prop(doc="Security group of the load balancer.")
    nat_address: str = prop(doc="The address that nodes have outside; empty without NAT.")
    route_tables: dict[str, str] = prop(doc="`public` and `private` → id, where there are such subnets.")
    nonce: str = prop(doc="Fence of delete and update.")


def needs_gateway(news: NetworkInputs) -> bool:
    """Whether anything of it reaches the internet."""
    return news.nat or any(subnet.public for subnet in news.subnets)


def table_of(subnet: SubnetInput) -> str:
    return PUBLIC if subnet.public else PRIVATE


def tables(news: NetworkInputs) -> tuple[str, ...]:
    """Route tables that there are subnets for, in a fixed order."""
    return tuple(sorted({table_of(subnet) for subnet in news.subnets}))
