"""Makes a network: what is missing is made, what is there is adopted, what drifted is mended.

Four steps, whose calls are made at the same time: the VPC; what stands in it alone (network_parts.py); what joins
those; what takes the cloud a minute or two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from aifactory.provider.aws import endpoints_api, groups_api, network_drift, network_rules, owned
from aifactory.provider.aws.endpoints_api import GATEWAY, INTERFACE
from aifactory.provider.aws.failures import CloudError
from aifactory.provider.aws.network_drift import (
    ADDRESS,
    DOOR,
    NAT,
    NODES,
    endpoint_part,
    subnet_part,
    table_part,
)
from aifactory.provider.aws.network_parts import READY_S, Parts
from aifactory.provider.aws.network_types import (
    ANYWHERE,
    PRIVATE,
    PUBLIC,
    SubnetInput,
    table_of,
    tables,
)
from aifactory.provider.aws.network_world import (
    GONE,
    READERS,
    READY,
    Endpoint,
    Group,
    Nat,
    groups_in,
    one,
)


class Site(Parts):
    """One network under way: `vpc`, `parts`, `joints`, `waits`, in that order."""

    # -- step three: what joins them

    def joints(self) -> None:
        news = self.news
        jobs: list[Callable[[], object]] = [partial(self._associate, subnet) for subnet in news.subnets]
        if PUBLIC in tables(news):
            jobs.append(partial(self._routes, PUBLIC, {ANYWHERE: self.ids[network_drift.GATEWAY]}))
        if PRIVATE in tables(news) and not news.nat:
            jobs.append(partial(self._routes, PRIVATE, {}))
        jobs += [partial(self._endpoint, name, GATEWAY) for name in news.gateway_endpoints]
        jobs += [partial(self._endpoint, name, INTERFACE) for name in news.interface_endpoints]
        nodes, door = self.ids[NODES], self.ids[DOOR]
        jobs.append(partial(self._rules, NODES, network_rules.of_nodes(news, nodes, door, self.s3_list)))
        jobs.append(partial(self._rules, DOOR, network_rules.of_door(news, nodes)))
        jobs += [self._nat] if news.nat else []
        owned.at_once(*jobs)

    def _associate(self, subnet: SubnetInput) -> None:
        name, table_id = self.ids[subnet_part(subnet.name)], self.ids[table_part(table_of(subnet))]
        link = next((t.associations[name] for t in self.world.tables if name in t.associations), None)
        known = one(self.world.tables, table_part(table_of(subnet)))
        if known is not None and name in known.associations:
            return
        if link is not None:
            self.api.call("ec2", "ReplaceRouteTableAssociation", AssociationId=link, RouteTableId=table_id)
            return
        try:
            self.api.call("ec2", "AssociateRouteTable", just_made=True, SubnetId=name, RouteTableId=table_id)
        except CloudError as error:
            if error.kind != "exists":
                raise
            self._move(name, table_id)

    def _move(self, subnet_id: str, table_id: str) -> None:
        """A subnet has one table: from one that is not ours it is taken away."""
        asked = [{"Name": "association.subnet-id", "Values": [subnet_id]}]
        for table in self.api.pages("ec2", "DescribeRouteTables", "RouteTables", Filters=asked):
            for link in table["Associations"]:
                if link.get("SubnetId") == subnet_id and table["RouteTableId"] != table_id:
                    self.api.call(
                        "ec2", "ReplaceRouteTableAssociation",
                        AssociationId=link["RouteTableAssociationId"], RouteTableId=table_id,
                    )  # fmt: skip

    def _routes(self, name: str, wanted: Mapping[str, str]) -> None:
        known = one(self.world.tables, table_part(name))
        table: dict[str, Any] = {"RouteTableId": self.ids[table_part(name)]}
        found = known.routes if known else {}
        for where, target in wanted.items():
            if found.get(where) == target:
                continue
            route = {**table, "DestinationCidrBlock": where, **_target(target)}
            if where in found or not self._unless_exists("CreateRoute", **route):
                self.api.call("ec2", "ReplaceRoute", **route)
        for where in found.keys() - wanted.keys():
            owned.removed(self.api, "ec2", "DeleteRoute", **table, **_destination(where))

    def _endpoint(self, service: str, kind: str) -> None:
        region, part = self.news.cloud.region, endpoint_part(service)
        known = self._known("endpoints", part)
        if kind == GATEWAY:
            linked = {"RouteTable": frozenset(self.ids[table_part(name)] for name in tables(self.news))}
        else:
            linked = {
                "Subnet": frozenset(self._endpoint_subnets(service)),
                "SecurityGroup": frozenset({self.ids[NODES]}),
            }
        if isinstance(known, Endpoint):
            endpoints_api.mend(self.api, known, linked)
            self.ids[part] = known.id
            return
        self._after_dead("endpoints", part)
        offer = endpoints_api.offer(self._offers, region, service, kind)
        more: dict[str, Any] = {f"{key}Ids": sorted(ids) for key, ids in linked.items()}
        if kind == INTERFACE:
            more["PrivateDnsEnabled"] = True
        self._made(
            "endpoints", part, "CreateVpcEndpoint", "vpc-endpoint", lambda a: a["VpcEndpoint"]["VpcEndpointId"],
            VpcId=self.vpc_id, ServiceName=offer.name, VpcEndpointType=kind, **more,
        )  # fmt: skip

    def _endpoint_subnets(self, service: str) -> list[str]:
        """One a zone, in the zones where the service is; what is there where nothing was looked up."""
        chosen: dict[str, str] = {}
        for subnet in sorted(self.news.subnets, key=lambda s: s.public):
            chosen.setdefault(subnet.zone, self.ids[subnet_part(subnet.name)])
        if not self._offers:
            return list(chosen.values())
        zones = endpoints_api.offer(self._offers, self.news.cloud.region, service, INTERFACE).zones
        return [name for zone, name in chosen.items() if not zones or zone in zones]

    def _rules(self, part: str, wanted: network_rules.Wanted) -> None:
        fresh = Group(self.ids[part], part, self.vpc_id, frozenset(), network_rules.DEFAULT_EGRESS)
        known = one(self.world.groups, part) or fresh
        groups_api.settle(self.api, known, wanted, lambda: one(groups_in(self.api, self.news.token, self.vpc_id), part))

    def _nat(self) -> None:
        self._after_dead("nats", NAT)
        subnet = next(s for s in self.news.subnets if s.public)
        self._made(
            "nats", NAT, "CreateNatGateway", "natgateway", lambda a: a["NatGateway"]["NatGatewayId"],
            SubnetId=self.ids[subnet_part(subnet.name)], AllocationId=self.ids[ADDRESS],
        )  # fmt: skip

    # -- step four: what takes the cloud a while

    def waits(self) -> None:
        jobs: list[Callable[[], object]] = []
        jobs += [self._nat_ready] if self.news.nat else []
        jobs += [self._endpoints_ready] if self.news.interface_endpoints else []
        owned.at_once(*jobs)

    def _nat_ready(self) -> None:
        nat = one(self.world.nats, NAT)
        if nat is None or nat.state != READY:
            self.api.ctx.progress(f"waiting for NAT gateway {self.ids[NAT]}")
            self.api.until(lambda: self._ready("nats", {self.ids[NAT]}), "NAT gateway", timeout_s=READY_S)
        if PRIVATE in tables(self.news):
            self._routes(PRIVATE, {ANYWHERE: self.ids[NAT]})

    def _endpoints_ready(self) -> None:
        parts = {endpoint_part(name) for name in self.news.interface_endpoints}
        known = {found.part for found in self.world.endpoints if found.state == READY}
        if parts - known:
            self.api.ctx.progress(f"waiting for {len(parts - known)} endpoints")
            ids = {self.ids[part] for part in parts}
            self.api.until(lambda: self._ready("endpoints", ids), "endpoints", timeout_s=READY_S)

    def _ready(self, field: str, ids: set[str]) -> bool | None:
        found: list[Nat | Endpoint] = [thing for thing in READERS[field](self.api, self.news.token) if thing.id in ids]
        for thing in found:
            if thing.state in GONE:
                why = f"; {thing.why}" if thing.why else ""
                raise CloudError(thing.part, thing.state, f"{thing.id} cannot be used{why}", kind="other")
        return True if {thing.id for thing in found if thing.state == READY} == ids else None


def _target(target: str) -> dict[str, Any]:
    return {"NatGatewayId" if target.startswith("nat-") else "GatewayId": target}


def _destination(where: str) -> dict[str, Any]:
    if where.startswith("pl-"):
        return {"DestinationPrefixListId": where}
    return {"DestinationIpv6CidrBlock" if ":" in where else "DestinationCidrBlock": where}
