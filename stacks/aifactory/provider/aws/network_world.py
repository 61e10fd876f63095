"""What a network consists of in the cloud, found by its tag: one paged read a kind, all at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from aifactory.provider.aws import network_rules, owned, tags
from aifactory.provider.aws.api import Api
from aifactory.provider.aws.network_rules import Rules

DEFAULT = "default"
GONE = ("deleting", "deleted", "failed", "rejected", "expired")
"""States of what is of no use any more. Source: botocore 1.44.8, ec2, NatGatewayState and State (of an endpoint)."""
READY = "available"
DNS = ("enableDnsSupport", "enableDnsHostnames")
"""Attributes of a VPC that names of endpoints and file systems need."""


@dataclass(frozen=True)
class Thing:
    id: str
    part: str
    """Its tag: `vpc`, `subnet/nodes-a`; DEFAULT for the group that EC2 makes with a VPC."""
    vpc_id: str


@dataclass(frozen=True)
class Nat(Thing):
    state: str
    allocation: str
    address: str
    why: str


@dataclass(frozen=True)
class Address(Thing):
    address: str


@dataclass(frozen=True)
class Table(Thing):
    routes: Mapping[str, str]
    """Destination → target, without those inside the network and those to gateway endpoints."""
    lists: Mapping[str, str]
    """Gateway endpoint → prefix list whose route leads to it."""
    associations: Mapping[str, str]
    """Subnet → association."""


@dataclass(frozen=True)
class Endpoint(Thing):
    state: str
    tables: frozenset[str]
    subnets: frozenset[str]
    groups: frozenset[str]
    why: str


@dataclass(frozen=True)
class Group(Thing):
    ingress: Rules
    egress: Rules


@dataclass(frozen=True)
class FlowLog(Thing):
    destination: str


T = TypeVar("T", bound=Thing)


@dataclass(frozen=True)
class World:
    """Everything that carries the token of a network, and the default group of its VPC."""

    vpcs: tuple[Thing, ...] = ()
    subnets: tuple[Thing, ...] = ()
    gateways: tuple[Thing, ...] = ()
    """`vpc_id` is empty while one is attached to none."""
    nats: tuple[Nat, ...] = ()
    addresses: tuple[Address, ...] = ()
    tables: tuple[Table, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    groups: tuple[Group, ...] = ()
    flow_logs: tuple[FlowLog, ...] = ()
    dns: Mapping[str, bool] = field(default_factory=dict)
    """Attribute → whether it is on."""

    def of(self, vpc_id: str) -> World:
        """Without what is of another VPC: the twin that a lost answer left."""
        kept: dict[str, Any] = {
            name: tuple(thing for thing in getattr(self, name) if thing.vpc_id in ("", vpc_id))
            for name in ("vpcs", "subnets", "gateways", "nats", "tables", "endpoints", "groups", "flow_logs")
        }
        return replace(self, **kept)


def one(things: Iterable[T], part: str) -> T | None:
    """The thing of that part; of twins the one with the smaller id, so that every run takes the same."""
    return min((thing for thing in things if thing.part == part), key=lambda thing: thing.id, default=None)


def main_vpc(world: World, known: str) -> Thing | None:
    """The network's VPC: the one that the state knows, else the one with the most in it."""

    def weight(vpc: Thing) -> tuple[bool, int, str]:
        return vpc.id != known, -sum(subnet.vpc_id == vpc.id for subnet in world.subnets), vpc.id

    return min(world.vpcs, key=weight, default=None)


# -- reading


def read(api: Api, token: str, vpc_id: str = "", *, without: Iterable[str] = ()) -> World:
    """The world by token; groups and DNS of `vpc_id` too where one is given. `without`: fields of World not to read."""
    names = [name for name in READERS if name not in without]
    jobs: list[Callable[[], Any]] = [
        partial(READERS[name], api, token) for name in names if name != "groups" or not vpc_id
    ]
    if vpc_id:
        names = [*(name for name in names if name != "groups"), "groups", *DNS]
        jobs.append(partial(groups_in, api, token, vpc_id))
        jobs += [partial(dns, api, vpc_id, name) for name in DNS]
    found: dict[str, Any] = dict(zip(names, owned.at_once(*jobs), strict=True))
    attributes = {name: on for name in DNS if (on := found.pop(name, None)) is not None}
    return World(**found, dns=attributes)


def _by_token(
    action: str, key: str, parse: Callable[[Mapping[str, Any], str], T | None], filters: str = "Filters"
) -> Callable[[Api, str], tuple[T, ...]]:
    def reader(api: Api, token: str) -> tuple[T, ...]:
        asked = {filters: tags.filters({tags.TOKEN: token})}
        return _parsed(api.pages("ec2", action, key, **asked), token, parse)

    return reader


def _parsed(
    items: Iterable[Mapping[str, Any]], token: str, parse: Callable[[Mapping[str, Any], str], T | None]
) -> tuple[T, ...]:
    """Items of this token: a filter that a cloud does not know must not make others' things ours."""
    found = []
    for item in items:
        marks = tags.read(item.get("Tags"))
        thing = parse(item, marks.get(tags.PART, "")) if marks.get(tags.TOKEN) == token else None
        if thing is not None:
            found.append(thing)
    return tuple(found)


def _plain(key: str) -> Callable[[Mapping[str, Any], str], Thing]:
    return lambda item, part: Thing(str(item[key]), part, str(item.get("VpcId", "")))


def _gateway(item: Mapping[str, Any], part: str) -> Thing:
    attached = [str(where["VpcId"]) for where in item.get("Attachments") or ()]
    return Thing(str(item["InternetGatewayId"]), part, attached[0] if attached else "")


def _nat(item: Mapping[str, Any], part: str) -> Nat | None:
    if item["State"] == "deleted":
        return None
    first = (item.get("NatGatewayAddresses") or [{}])[0]
    return Nat(
        str(item["NatGatewayId"]), part, str(item["VpcId"]), str(item["State"]), str(first.get("AllocationId", "")),
        str(first.get("PublicIp", "")), str(item.get("FailureMessage", "")),
    )  # fmt: skip


def _address(item: Mapping[str, Any], part: str) -> Address:
    return Address(str(item["AllocationId"]), part, "", str(item["PublicIp"]))


def _table(item: Mapping[str, Any], part: str) -> Table:
    routes, lists = {}, {}
    for route in item.get("Routes") or ():
        target = next((str(route[key]) for key in TARGETS if route.get(key)), str(route.get("State", "")))
        where = next((str(route[key]) for key in DESTINATIONS if route.get(key)), "")
        if where.startswith("pl-") and target.startswith("vpce-"):
            lists[target] = where
        elif target != "local":
            routes[where] = target if route.get("State", "active") == "active" else f"{target} (blackhole)"
    linked = {
        str(a["SubnetId"]): str(a["RouteTableAssociationId"]) for a in item.get("Associations") or () if "SubnetId" in a
    }
    return Table(str(item["RouteTableId"]), part, str(item["VpcId"]), routes, lists, linked)


TARGETS = (
    "GatewayId", "NatGatewayId", "TransitGatewayId", "VpcPeeringConnectionId", "NetworkInterfaceId", "InstanceId",
    "EgressOnlyInternetGatewayId", "LocalGatewayId", "CarrierGatewayId", "CoreNetworkArn", "OdbNetworkArn",
)  # fmt: skip
DESTINATIONS = ("DestinationCidrBlock", "DestinationIpv6CidrBlock", "DestinationPrefixListId")
"""Where a route may lead and what it may be for. Source: botocore 1.44.8, ec2, Route."""


def _endpoint(item: Mapping[str, Any], part: str) -> Endpoint | None:
    state = str(item["State"]).lower()
    if state == "deleted":
        return None
    groups = frozenset(str(group["GroupId"]) for group in item.get("Groups") or ())
    tables, subnets = (frozenset(map(str, item.get(key) or ())) for key in ("RouteTableIds", "SubnetIds"))
    why = str((item.get("LastError") or {}).get("Message", ""))
    return Endpoint(str(item["VpcEndpointId"]), part, str(item["VpcId"]), state, tables, subnets, groups, why)


def _group(item: Mapping[str, Any], part: str) -> Group:
    ingress, egress = (network_rules.read(item.get(key) or ()) for key in ("IpPermissions", "IpPermissionsEgress"))
    return Group(str(item["GroupId"]), part, str(item["VpcId"]), ingress, egress)


def _flow_log(item: Mapping[str, Any], part: str) -> FlowLog:
    return FlowLog(str(item["FlowLogId"]), part, str(item["ResourceId"]), str(item.get("LogDestination", "")))


READERS: Mapping[str, Callable[[Api, str], tuple[Any, ...]]] = {
    "vpcs": _by_token("DescribeVpcs", "Vpcs", _plain("VpcId")),
    "subnets": _by_token("DescribeSubnets", "Subnets", _plain("SubnetId")),
    "gateways": _by_token("DescribeInternetGateways", "InternetGateways", _gateway),
    "nats": _by_token("DescribeNatGateways", "NatGateways", _nat, filters="Filter"),
    "addresses": _by_token("DescribeAddresses", "Addresses", _address),
    "tables": _by_token("DescribeRouteTables", "RouteTables", _table),
    "endpoints": _by_token("DescribeVpcEndpoints", "VpcEndpoints", _endpoint),
    "groups": _by_token("DescribeSecurityGroups", "SecurityGroups", _group),
    "flow_logs": _by_token("DescribeFlowLogs", "FlowLogs", _flow_log),
}
"""Field of World → how it is read, by token. Each also finds one thing again whose create was not answered."""


def groups_in(api: Api, token: str, vpc_id: str) -> tuple[Group, ...]:
    """Our groups and the default one. None where the VPC is gone, or not seen yet."""
    asked = [{"Name": "vpc-id", "Values": [vpc_id]}]
    items = list(api.pages("ec2", "DescribeSecurityGroups", "SecurityGroups", Filters=asked))
    own = _parsed(items, token, _group)
    return (*own, *(_group(item, DEFAULT) for item in items if item["GroupName"] == DEFAULT))


def dns(api: Api, vpc_id: str, attribute: str) -> bool | None:
    """Whether an attribute is on; None where the VPC is gone."""
    answer = owned.absent_is_none(lambda: api.call("ec2", "DescribeVpcAttribute", VpcId=vpc_id, Attribute=attribute))
    return None if answer is None else bool(answer[attribute[0].upper() + attribute[1:]]["Value"])
