"""Where a network is no longer, or not yet, what its inputs say. Pure: the world has been read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aifactory.provider.aws import network_rules
from aifactory.provider.aws.network_types import (
    ANYWHERE,
    GATEWAY_SERVICES,
    PUBLIC,
    S3,
    NetworkInputs,
    NetworkOutputs,
    needs_gateway,
    table_of,
    tables,
)
from aifactory.provider.aws.network_world import DEFAULT, DNS, GONE, Group, World, one

VPC, GATEWAY, NAT, ADDRESS, FLOW_LOG = "vpc", "gateway", "nat", "address", "flow-log"
NODES, DOOR = "group/nodes", "group/door"
MISSING, UNWANTED = "missing", "unwanted"


def subnet_part(name: str) -> str:
    return f"subnet/{name}"


def table_part(name: str) -> str:
    return f"table/{name}"


def endpoint_part(service: str) -> str:
    return f"endpoint/{service}"


@dataclass(frozen=True)
class Drift:
    """`path` is one of the outputs where there is such a one."""

    path: str
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.path}: {self.found} → {self.wanted}"


def outputs(world: World, vpc_id: str, news: NetworkInputs, nonce: str) -> NetworkOutputs:
    """As far as the world has them."""
    subnets = {s.name: found.id for s in news.subnets if (found := one(world.subnets, subnet_part(s.name)))}
    groups = [found.id if (found := one(world.groups, part)) else "" for part in (NODES, DOOR)]
    nat = one(world.nats, NAT) if news.nat else None
    linked = {name: found.id for name in tables(news) if (found := one(world.tables, table_part(name)))}
    return NetworkOutputs(vpc_id, subnets, groups[0], groups[1], nat.address if nat else "", linked, nonce)


def drift(world: World, news: NetworkInputs) -> list[Drift]:
    """Of a network whose VPC is there; `world` holds that VPC's things only."""
    return [
        *_dns(world),
        *_subnets(world, news),
        *_gateway(world, news),
        *_nat(world, news),
        *_tables(world, news),
        *_endpoints(world, news),
        *_groups(world, news),
        *_flow_log(world, news),
    ]


def routes(world: World, news: NetworkInputs, name: str) -> Mapping[str, str]:
    """What a table leads to, besides the network itself and gateway endpoints."""
    way_out = one(world.gateways, GATEWAY) if name == PUBLIC else one(world.nats, NAT) if news.nat else None
    return {ANYWHERE: way_out.id} if way_out else {}


def s3_list(world: World) -> str | None:
    """Prefix list of S3, as the routes to its endpoint name it."""
    endpoint = one(world.endpoints, endpoint_part(S3))
    found = [table.lists[endpoint.id] for table in world.tables if endpoint and endpoint.id in table.lists]
    return found[0] if found else None


def endpoint_subnets(world: World, news: NetworkInputs) -> dict[str, str]:
    """Zone → subnet in which endpoints have an address: one a zone, of nodes where there is such a one."""
    chosen: dict[str, str] = {}
    for subnet in sorted(news.subnets, key=lambda s: s.public):
        found = one(world.subnets, subnet_part(subnet.name))
        if found is not None:
            chosen.setdefault(subnet.zone, found.id)
    return chosen


def surplus(world: World, kept: Collection[str]) -> World:
    """What carries the token and is none of `kept`: parts no longer asked for, and twins that a lost answer left.

    What is being deleted already is left to itself.
    """
    names = ("vpcs", "subnets", "gateways", "nats", "addresses", "tables", "endpoints", "groups", "flow_logs")
    others: dict[str, Any] = {
        name: tuple(
            thing
            for thing in getattr(world, name)
            if thing.id not in kept and thing.part != DEFAULT and getattr(thing, "state", "") != "deleting"
        )
        for name in names
    }
    return World(**others)


def _dns(world: World) -> Iterator[Drift]:
    for name in DNS:
        if not world.dns.get(name, True):
            yield Drift(name, "off", "on")


def _subnets(world: World, news: NetworkInputs) -> Iterator[Drift]:
    wanted = {subnet_part(s.name): s for s in news.subnets}
    for part, subnet in wanted.items():
        if one(world.subnets, part) is None:
            yield Drift(f'subnet_ids["{subnet.name}"]', MISSING, subnet.cidr)
    for found in world.subnets:
        if found.part not in wanted:
            yield Drift(f'subnet_ids["{found.part.partition("/")[2]}"]', found.id, UNWANTED)


def _gateway(world: World, news: NetworkInputs) -> Iterator[Drift]:
    found = one(world.gateways, GATEWAY)
    if needs_gateway(news) and (found is None or not found.vpc_id):
        yield Drift("internet_gateway", "detached" if found else MISSING, "attached")
    if found is not None and not needs_gateway(news):
        yield Drift("internet_gateway", found.id, UNWANTED)


def _nat(world: World, news: NetworkInputs) -> Iterator[Drift]:
    found = one(world.nats, NAT)
    if news.nat and (found is None or found.state in GONE):
        yield Drift("nat_address", f"{found.id} is {found.state}" if found else MISSING, "available")
    if found is not None and not news.nat:
        yield Drift("nat_address", found.id, UNWANTED)


def _tables(world: World, news: NetworkInputs) -> Iterator[Drift]:
    for name in tables(news):
        path, table = f'route_tables["{name}"]', one(world.tables, table_part(name))
        if table is None:
            yield Drift(path, MISSING, "there")
            continue
        wanted = routes(world, news, name)
        if dict(table.routes) != wanted:
            yield Drift(f"{path}.routes", _pairs(table.routes), _pairs(wanted))
        mine = {s.name: one(world.subnets, subnet_part(s.name)) for s in news.subnets if table_of(s) == name}
        loose = [subnet for subnet, found in mine.items() if found and found.id not in table.associations]
        if loose:
            yield Drift(f"{path}.subnets", f"without {', '.join(loose)}", "all")
    for found in world.tables:
        if found.part not in {table_part(name) for name in tables(news)}:
            yield Drift(f'route_tables["{found.part.partition("/")[2]}"]', found.id, UNWANTED)


def _endpoints(world: World, news: NetworkInputs) -> Iterator[Drift]:
    wanted = {endpoint_part(name) for name in (*news.gateway_endpoints, *news.interface_endpoints)}
    group = one(world.groups, NODES)
    linked = {table.id for name in tables(news) if (table := one(world.tables, table_part(name)))}
    ours = {subnet.id for subnet in world.subnets}
    for service in (*news.gateway_endpoints, *news.interface_endpoints):
        path, found = f'endpoints["{service}"]', one(world.endpoints, endpoint_part(service))
        if found is None or found.state in GONE:
            yield Drift(path, f"{found.id} is {found.state}" if found else MISSING, "available")
        elif service in GATEWAY_SERVICES and found.tables != linked:
            yield Drift(f"{path}.route_tables", _listed(found.tables), _listed(linked))
        elif service not in GATEWAY_SERVICES and group and found.groups != {group.id}:
            yield Drift(f"{path}.groups", _listed(found.groups), group.id)
        elif service not in GATEWAY_SERVICES and not (found.subnets and found.subnets <= ours):
            yield Drift(f"{path}.subnets", _listed(found.subnets), _listed(endpoint_subnets(world, news).values()))
    for other in world.endpoints:
        if other.part not in wanted:
            yield Drift(f'endpoints["{other.part.partition("/")[2]}"]', other.id, UNWANTED)


def _groups(world: World, news: NetworkInputs) -> Iterator[Drift]:
    nodes, door = one(world.groups, NODES), one(world.groups, DOOR)
    for path, group in (("node_group", nodes), ("door_group", door)):
        if group is None:
            yield Drift(path, MISSING, "there")
    if nodes and door:
        yield from _rules("node_group", nodes, network_rules.of_nodes(news, nodes.id, door.id, s3_list(world)))
        yield from _rules("door_group", door, network_rules.of_door(news, nodes.id))
    default = one(world.groups, DEFAULT)
    if default is not None:
        yield from _rules("default_group", default, network_rules.NOTHING)


def _rules(path: str, group: Group, wanted: network_rules.Wanted) -> Iterator[Drift]:
    for way, found, asked in (("ingress", group.ingress, wanted.ingress), ("egress", group.egress, wanted.egress)):
        if found != asked:
            yield Drift(f"{path}.{way}", network_rules.shown(found), network_rules.shown(asked))


def _flow_log(world: World, news: NetworkInputs) -> Iterator[Drift]:
    found = one(world.flow_logs, FLOW_LOG)
    is_there = found.destination if found else "none"
    if is_there != (news.flow_log_bucket_arn or "none"):
        yield Drift("flow_log", is_there, news.flow_log_bucket_arn or "none")


def _pairs(found: Mapping[str, str]) -> str:
    return ", ".join(f"{where} → {target}" for where, target in sorted(found.items())) or "none"


def _listed(found: Iterable[str]) -> str:
    return ", ".join(sorted(found)) or "none"
