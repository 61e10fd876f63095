"""The VPC of a network and what stands in it alone: what is missing is made, what is there is adopted."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from functools import partial
from types import EllipsisType
from typing import Any

from aifactory import naming
from aifactory.provider.aws import endpoints_api, groups_api, network_drift, network_rules, owned, tags
from aifactory.provider.aws.endpoints_api import Offer
from aifactory.provider.aws.failures import CloudError
from aifactory.provider.aws.network_drift import (
    ADDRESS,
    DOOR,
    FLOW_LOG,
    NAT,
    NODES,
    VPC,
    endpoint_part,
    subnet_part,
    table_part,
)
from aifactory.provider.aws.network_types import (
    S3,
    NetworkInputs,
    NetworkOutputs,
    SubnetInput,
    needs_gateway,
    tables,
)
from aifactory.provider.aws.network_world import (
    DEFAULT,
    DNS,
    GONE,
    READERS,
    Group,
    Thing,
    World,
    groups_in,
    one,
)
from aifactory.provider.aws.owned import Work

WITH_TOKEN = ("CreateRouteTable", "CreateNatGateway", "CreateVpcEndpoint", "CreateFlowLogs")
"""Creates that take a client token. Source: botocore 1.44.8, ec2."""
READY_S = 900.0
"""How long a NAT gateway or an endpoint may take."""


class Parts:
    """One network under way. `world` is what was there, of this VPC only."""

    def __init__(self, work: Work[NetworkOutputs], news: NetworkInputs, world: World) -> None:
        self.work, self.api, self.news, self.world = work, work.api, news, world
        self.vpc_id = ""
        self.ids: dict[str, str] = {}
        """Part → id of what has been made or adopted by now."""
        self.before: dict[str, str] = {}
        """Part → id of what was there and is of use."""
        self.addresses = {found.id: found.address for found in world.addresses}
        self.s3_list: str | None = None
        self._offers: tuple[Offer, ...] = ()
        self._mutex = threading.Lock()

    # -- step one

    def vpc(self, known: Thing | None) -> None:
        if known is None:
            self.world = World(addresses=self.world.addresses)  # whatever else there was stands elsewhere
        self.vpc_id = known.id if known else ""
        made = self._made(
            "vpcs", VPC, "CreateVpc", "vpc", lambda a: a["Vpc"]["VpcId"], known=known, CidrBlock=self.news.cidr
        )
        self.vpc_id = made
        things = (*self.world.subnets, *self.world.groups, *self.world.tables, *self.world.addresses)
        self.before = {thing.part: thing.id for thing in things} | {
            nat.part: nat.id for nat in self.world.nats if nat.state not in GONE
        }
        self.work.exists(self.outputs())

    # -- step two: what stands in the VPC alone

    def parts(self) -> None:
        news = self.news
        here: dict[str, Any] = {"VpcId": self.vpc_id}
        self.api.ctx.progress(f"{self.vpc_id}: subnets, groups, route tables")
        name = naming.network(news.region)
        jobs: list[Callable[[], object]] = [
            *(partial(self._subnet, subnet) for subnet in news.subnets),
            *(partial(self._group, part, f"{name}-{part.partition('/')[2]}") for part in (NODES, DOOR)),
            *(
                partial(
                    self._made, "tables", table_part(kind), "CreateRouteTable", "route-table",
                    lambda a: a["RouteTable"]["RouteTableId"], **here,
                )
                for kind in tables(news)
            ),
            *(partial(self._dns, attribute) for attribute in DNS),
            self._default_group,
            self._lookups,
        ]  # fmt: skip
        jobs += [self._gateway] if needs_gateway(news) else []
        jobs += [self._address] if news.nat else []
        jobs += [self._flow_log] if news.flow_log_bucket_arn else []
        owned.at_once(*jobs)

    def _subnet(self, subnet: SubnetInput) -> None:
        self._made(
            "subnets", subnet_part(subnet.name), "CreateSubnet", "subnet", lambda a: a["Subnet"]["SubnetId"],
            VpcId=self.vpc_id, CidrBlock=subnet.cidr, AvailabilityZone=subnet.zone,
        )  # fmt: skip

    def _group(self, part: str, name: str) -> None:
        text = "Nodes, file systems and endpoints" if part == NODES else "Load balancer of the front door"
        self._made(
            "groups", part, "CreateSecurityGroup", "security-group", lambda a: a["GroupId"],
            VpcId=self.vpc_id, GroupName=name, Description=f"{text} of region {self.news.region}",
        )  # fmt: skip

    def _dns(self, attribute: str) -> None:
        """Support is on in a new VPC, names are not."""
        if not self.world.dns.get(attribute, attribute == DNS[0]):
            key = attribute[0].upper() + attribute[1:]
            self.api.call("ec2", "ModifyVpcAttribute", just_made=True, VpcId=self.vpc_id, **{key: {"Value": True}})

    def _default_group(self) -> None:
        """It is there with the VPC; nothing passes it: what names no group is cut off, not let through."""

        def read() -> Group | None:
            return one(groups_in(self.api, self.news.token, self.vpc_id), DEFAULT)

        group = one(self.world.groups, DEFAULT) or self.api.until(read, f"default group of {self.vpc_id}")
        groups_api.settle(self.api, group, network_rules.NOTHING, read)

    def _gateway(self) -> None:
        made = self._made(
            "gateways", network_drift.GATEWAY, "CreateInternetGateway", "internet-gateway",
            lambda a: a["InternetGateway"]["InternetGatewayId"],
        )  # fmt: skip
        known = one(self.world.gateways, network_drift.GATEWAY)
        if known is None or known.id != made or not known.vpc_id:
            self._unless_exists("AttachInternetGateway", InternetGatewayId=made, VpcId=self.vpc_id)

    def _address(self) -> None:
        nat = one(self.world.nats, NAT)
        used = next((a for a in self.world.addresses if nat and a.id == nat.allocation), None)

        def got(answer: dict[str, Any]) -> str:
            self.addresses[str(answer["AllocationId"])] = str(answer["PublicIp"])
            return str(answer["AllocationId"])

        made = self._made(
            "addresses", ADDRESS, "AllocateAddress", "elastic-ip", got,
            known=used or one(self.world.addresses, ADDRESS), Domain="vpc",
        )  # fmt: skip
        if made not in self.addresses:  # the answer was lost
            found = READERS["addresses"](self.api, self.news.token)
            self.addresses |= {address.id: address.address for address in found}

    def _flow_log(self) -> None:
        known = one(self.world.flow_logs, FLOW_LOG)

        def got(answer: dict[str, Any]) -> str:
            for item in answer.get("Unsuccessful") or ():
                raise CloudError("CreateFlowLogs", str(item["Error"]["Code"]), str(item["Error"].get("Message", "")))
            return str(answer["FlowLogIds"][0])

        if known is not None and known.destination != self.news.flow_log_bucket_arn:
            owned.removed(self.api, "ec2", "DeleteFlowLogs", FlowLogIds=[known.id])
            known = None
        self._made(
            "flow_logs", FLOW_LOG, "CreateFlowLogs", "vpc-flow-log", got, known=known,
            ResourceIds=[self.vpc_id], ResourceType="VPC", TrafficType="ALL", LogDestinationType="s3",
            LogDestination=self.news.flow_log_bucket_arn,
        )  # fmt: skip

    def _lookups(self) -> None:
        """What the region calls the services of endpoints, and where S3 is; nothing where all of it stands already."""
        news, cloud = self.news, self.news.cloud
        self.s3_list = network_drift.s3_list(self.world)
        if S3 in news.gateway_endpoints and self.s3_list is None:
            self.s3_list = endpoints_api.prefix_list(self.api, cloud.region, S3)
        wanted = (*news.gateway_endpoints, *news.interface_endpoints)
        if any(self._known("endpoints", endpoint_part(name)) is None for name in wanted) or self._subnets_differ():
            self._offers = endpoints_api.offers(self.api)

    def _subnets_differ(self) -> bool:
        wanted = frozenset(network_drift.endpoint_subnets(self.world, self.news).values())
        names = self.news.interface_endpoints
        found = [one(self.world.endpoints, endpoint_part(name)) for name in names]
        return any(endpoint is not None and endpoint.subnets != wanted for endpoint in found)

    # -- how

    def doubtful(self, world: World) -> bool:
        """Whether this run made something of which a lost answer may have left a twin, that `world` does not show."""
        before = {thing.id for things in (world.vpcs, world.gateways, world.addresses) for thing in things}
        parts = (VPC, network_drift.GATEWAY, ADDRESS)
        return any(self.ids[part] not in before for part in parts if part in self.ids)

    def outputs(self) -> NetworkOutputs:
        """From what is known by now, in the shape that a reading gives."""
        ids, news = {**self.before, **self.ids}, self.news
        subnets = {s.name: ids[subnet_part(s.name)] for s in news.subnets if subnet_part(s.name) in ids}
        linked = {name: ids[table_part(name)] for name in tables(news) if table_part(name) in ids}
        address = self.addresses.get(ids.get(ADDRESS, ""), "") if news.nat and NAT in ids else ""
        return NetworkOutputs(
            self.vpc_id, subnets, ids.get(NODES, ""), ids.get(DOOR, ""), address, linked, self.work.nonce
        )

    def _known(self, field: str, part: str) -> Thing | None:
        """What was there and is of use."""
        things: tuple[Thing, ...] = getattr(self.world, field)
        return one((thing for thing in things if getattr(thing, "state", "") not in GONE), part)

    def _made(
        self,
        field: str,
        part: str,
        action: str,
        kind: str,
        got: Callable[[dict[str, Any]], str],
        *,
        known: Thing | EllipsisType | None = ...,
        **params: Any,
    ) -> str:
        """Id of the thing of that part: the one that was there, one that a lost call made, or a new one.

        `known`: what was there, where that is not to be looked up by field and part.
        """
        known = self._known(field, part) if known is ... else known
        if known is not None:
            self.ids[part] = known.id
            return known.id
        looks = 0

        def find() -> str | None:
            nonlocal looks
            looks += 1
            if looks == 1:
                return None  # the world was read a moment ago
            read: dict[str, Any] = {field: READERS[field](self.api, self.news.token)}
            here = World(**read)
            here = here.of(self.vpc_id) if self.vpc_id else here
            things = [thing for thing in getattr(here, field) if getattr(thing, "state", "") not in GONE]
            found = one(things, part)
            return found.id if found else None

        name = f"{naming.network(self.news.region)}-{part.replace('/', '-')}"
        marks = tags.of(self.api.ctx, self.news.region, self.news.token, part, Name=name)
        token = self._client_token(part, params) if action in WITH_TOKEN else None
        self.ids[part] = self.api.create(
            "ec2", action, find, got, just_made=True, TagSpecifications=tags.specification(kind, marks), **params,
            **({"ClientToken": token} if token else {}),
        )  # fmt: skip
        if token:
            self._spent(part)
        with self._mutex:  # of two threads, the later one knows more
            if self.vpc_id:
                self.work.exists(self.outputs())
        return self.ids[part]

    def _client_token(self, part: str, params: Mapping[str, Any]) -> str:
        """Of what is made anew after it died, another one: the cloud answers an old one with what is dead."""
        times = int(self.work.journal.data.get(part, 0))
        return self.work.client_token(f"{part} {times} {json.dumps(params, sort_keys=True)}")

    def _spent(self, part: str) -> None:
        with self._mutex:
            data = self.work.journal.data
            data[part] = int(data.get(part, 0)) + 1
            self.work.journal.save()

    def _after_dead(self, field: str, part: str) -> None:
        """Waits for what is being deleted: it holds the address, or the name, that the next one is to have."""
        ids = {t.id for t in getattr(self.world, field) if t.part == part and t.state == "deleting"}
        if ids:
            self.api.ctx.progress(f"waiting for {', '.join(sorted(ids))} to be gone")
            self.api.until(
                lambda: None if ids & {t.id for t in READERS[field](self.api, self.news.token)} else True,
                f"{part} gone",
                timeout_s=READY_S,
            )

    def _unless_exists(self, action: str, **params: Any) -> bool:
        """Whether the call was made; False where the cloud says that it is so already."""
        try:
            self.api.call("ec2", action, just_made=True, **params)
        except CloudError as error:
            if error.kind != "exists":
                raise
            return False
        return True
