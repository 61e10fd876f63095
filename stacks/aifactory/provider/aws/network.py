"""`aifactory:aws:Network`: the network of a region, closed but for what its inputs name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import replace

from aifactory import naming
from aifactory.provider import tokens
from aifactory.provider.aws import network_checks, network_world, owned, tags
from aifactory.provider.aws.api import Api
from aifactory.provider.aws.failures import CloudError
from aifactory.provider.aws.network_api import Site
from aifactory.provider.aws.network_drift import VPC, drift, outputs, surplus
from aifactory.provider.aws.network_removal import holders, take_down
from aifactory.provider.aws.network_types import NetworkInputs, NetworkOutputs, needs_gateway, tables
from aifactory.provider.aws.network_world import DNS, main_vpc
from aifactory.provider.aws.owned import Owned, Work
from aifactory.provider.journal import Journal
from aifactory.provider.resource import UNKNOWN, CheckFailure, Context, HalfMade, Refused


class Network(Owned[NetworkInputs, NetworkOutputs]):
    """Create takes a few seconds, and as long as the cloud's NAT gateway and endpoints (a minute or two); delete alike.

    A diff reads the world in ten requests at most.
    """

    token = tokens.AWS_NETWORK
    Inputs = NetworkInputs
    Outputs = NetworkOutputs

    def id_of(self, news: NetworkInputs) -> str:
        return naming.network(news.region)

    def check(
        self, ctx: Context, news: NetworkInputs, olds: NetworkInputs | None
    ) -> tuple[NetworkInputs, list[CheckFailure]]:
        return news, network_checks.failures(news, olds)

    def preview(self, ctx: Context, news: NetworkInputs, outs: NetworkOutputs | None) -> NetworkOutputs:
        """Ids of what is there; those of parts that are to be made are not known."""
        if outs is None:
            return NetworkOutputs(*[UNKNOWN] * len(dataclasses.fields(NetworkOutputs)))
        if news.subnets is UNKNOWN or outs.subnet_ids.keys() != {subnet.name for subnet in news.subnets}:
            outs = replace(outs, subnet_ids=UNKNOWN, route_tables=UNKNOWN)
        return outs if bool(outs.nat_address) == news.nat else replace(outs, nat_address=UNKNOWN)

    def changed(self, api: Api, olds: NetworkInputs, outs: NetworkOutputs) -> tuple[str, ...]:
        world = network_world.read(api, olds.token, outs.vpc_id, without=_not_asked(olds))
        if outs.vpc_id not in {vpc.id for vpc in world.vpcs}:
            return ("vpc_id",)
        here = world.of(outs.vpc_id)
        now = outputs(here, outs.vpc_id, olds, outs.nonce)
        differs = [f.name for f in dataclasses.fields(outs) if getattr(now, f.name) != getattr(outs, f.name)]
        return tuple(dict.fromkeys(difference.path for difference in drift(here, olds))) or tuple(differs)

    def found(self, api: Api, olds: NetworkInputs, outs: NetworkOutputs) -> NetworkOutputs | None:
        world = network_world.read(api, olds.token, outs.vpc_id, without=_not_asked(olds))
        vpc = main_vpc(world, outs.vpc_id)
        if vpc is None:
            return None
        here = world.of(vpc.id)
        made = outputs(here, vpc.id, olds, outs.nonce)
        states = [(f"{thing.part} {thing.id}", thing.state) for thing in here.nats]
        states += [(f"{thing.part} {thing.id}", thing.state) for thing in here.endpoints]
        waited = [f"{name} is {state}" for name, state in states if state.startswith("pending")]
        if waited:
            raise HalfMade(self.id_of(olds), made, waited)
        return made

    def make(self, work: Work[NetworkOutputs], news: NetworkInputs) -> NetworkOutputs:
        known = work.outs.vpc_id if work.outs else ""
        if work.outs is not None:
            work.exists(work.outs)
        world = network_world.read(work.api, news.token, known)
        vpc = main_vpc(world, known)
        here = world.of(vpc.id) if vpc else world
        if work.outs is None and vpc is None:
            _refuse_other(work.api, news.region, work.tags)
        if work.outs is not None:
            for line in drift(here, news) if vpc else (f"vpc_id: {known or 'none'} is gone → another one",):
                work.api.ctx.log(str(line))
        if vpc is not None and vpc.id != known:  # adopted: what is read by its id was not
            switches = owned.at_once(*(lambda name=name: network_world.dns(work.api, vpc.id, name) for name in DNS))
            here = replace(here, dns={name: on for name, on in zip(DNS, switches, strict=True) if on is not None})
        site = Site(work, news, here)
        site.vpc(vpc)
        site.parts()
        site.joints()
        site.waits()
        if site.doubtful(world):
            world = network_world.read(work.api, news.token)
        take_down(work.api, news.token, surplus(world, set(site.ids.values())))
        return site.outputs()

    def remove(self, api: Api, journal: Journal, olds: NetworkInputs, outs: NetworkOutputs) -> None:
        world = network_world.read(api, olds.token)
        try:
            take_down(api, olds.token, world)
        except CloudError as error:
            if error.kind != "in_use":
                raise
            inside = holders(api, [vpc.id for vpc in world.vpcs]) or error.message
            raise Refused(
                f"network {self.id_of(olds)} still has something in it: {inside}; remove that and destroy again"
            ) from error


def _refuse_other(api: Api, region: str, mine: Mapping[str, str]) -> None:
    """A VPC has no name that only one may have: the region's network of another deployment is looked for by its tags.

    Whoever has lost the deployment's id would make a second one beside it. Raises Refused, with the holder.
    """
    asked = tags.filters({tags.REGION: region, tags.PART: VPC})
    for vpc in api.pages("ec2", "DescribeVpcs", "Vpcs", Filters=asked):
        owned.claim(f"network {vpc['VpcId']} of region {region}", tags.read(vpc.get("Tags")), mine)


def _not_asked(olds: NetworkInputs) -> list[str]:
    """What a network of these inputs has none of, or what is known from elsewhere."""
    there = {
        "gateways": needs_gateway(olds),
        "nats": olds.nat,
        "addresses": False,
        "tables": bool(tables(olds)),
        "endpoints": bool(olds.gateway_endpoints or olds.interface_endpoints),
        "flow_logs": bool(olds.flow_log_bucket_arn),
    }
    return [name for name, asked in there.items() if not asked]
