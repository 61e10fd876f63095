"""A network load balancer with its target group and listeners, as the service names and answers them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from aifactory.provider.aws import owned, tags
from aifactory.provider.aws.api import Api

SERVICE = "elbv2"
GOING = ("draining", "unhealthy.draining")
"""States of a target that is registered no longer. Source: botocore 1.44.8, elbv2, TargetHealthStateEnum."""


@dataclass(frozen=True)
class Balancer:
    arn: str
    dns_name: str
    state: str
    why: str
    scheme: str
    vpc_id: str
    kind: str
    subnets: frozenset[str]
    groups: frozenset[str]


@dataclass(frozen=True)
class TargetGroup:
    arn: str
    vpc_id: str
    protocol: str
    kind: str


@dataclass(frozen=True)
class Listener:
    arn: str
    port: int
    protocol: str
    group: str
    """Target group that it leads to; empty where it does something else."""


@dataclass(frozen=True, order=True)
class Target:
    id: str
    port: int


def balancer(api: Api, name: str) -> Balancer | None:
    found = owned.absent_is_none(lambda: api.call(SERVICE, "DescribeLoadBalancers", Names=[name]))
    return next((parsed_balancer(item) for item in (found or {}).get("LoadBalancers", ())), None)


def parsed_balancer(item: dict[str, Any]) -> Balancer:
    state = item.get("State") or {}
    return Balancer(
        str(item["LoadBalancerArn"]), str(item.get("DNSName", "")),
        str(state.get("Code", "")), str(state.get("Reason", "")),
        str(item.get("Scheme", "")), str(item.get("VpcId", "")), str(item.get("Type", "")),
        frozenset(str(zone["SubnetId"]) for zone in item.get("AvailabilityZones") or ()),
        frozenset(map(str, item.get("SecurityGroups") or ())),
    )  # fmt: skip


def group(api: Api, name: str) -> TargetGroup | None:
    found = owned.absent_is_none(lambda: api.call(SERVICE, "DescribeTargetGroups", Names=[name]))
    return next((parsed_group(item) for item in (found or {}).get("TargetGroups", ())), None)


def parsed_group(item: dict[str, Any]) -> TargetGroup:
    return TargetGroup(
        str(item["TargetGroupArn"]), str(item.get("VpcId", "")), str(item.get("Protocol", "")),
        str(item.get("TargetType", "")),
    )  # fmt: skip


def listeners(api: Api, arn: str) -> tuple[Listener, ...]:
    """Of a balancer; none where it is gone."""
    found = owned.absent_is_none(
        lambda: list(api.pages(SERVICE, "DescribeListeners", "Listeners", LoadBalancerArn=arn))
    )
    return tuple(parsed_listener(item) for item in found or ())


def parsed_listener(item: dict[str, Any]) -> Listener:
    actions = item.get("DefaultActions") or [{}]
    leads = str(actions[0].get("TargetGroupArn", "")) if len(actions) == 1 else ""
    return Listener(str(item["ListenerArn"]), int(item["Port"]), str(item["Protocol"]), leads)


def targets(api: Api, arn: str) -> frozenset[Target]:
    """What a target group holds, the leaving ones apart."""
    found = owned.absent_is_none(lambda: api.call(SERVICE, "DescribeTargetHealth", TargetGroupArn=arn)) or {}
    return frozenset(
        Target(str(item["Target"]["Id"]), int(item["Target"].get("Port", 0)))
        for item in found.get("TargetHealthDescriptions", ())
        if (item.get("TargetHealth") or {}).get("State") not in GOING
    )


def marks(api: Api, arn: str) -> dict[str, str]:
    """Tags of a balancer or a target group."""
    answer = api.call(SERVICE, "DescribeTags", just_made=True, ResourceArns=[arn])
    return tags.read(answer["TagDescriptions"][0]["Tags"])


def claimed(api: Api, what: str, found: Callable[[], Any], mine: dict[str, str]) -> Callable[[], Any]:
    """`found`, which raises Refused where what it finds is somebody else's; of an earlier token it is marked anew."""

    def look() -> Any:
        thing = found()
        if thing is not None:
            there = marks(api, thing.arn)
            owned.claim(what, there, mine)
            if there.get(tags.TOKEN) != mine[tags.TOKEN]:
                api.call(SERVICE, "AddTags", ResourceArns=[thing.arn], Tags=tags.pairs(mine))
        return thing

    return look


def register(api: Api, arn: str, wanted: Iterable[Target]) -> None:
    given = [{"Id": target.id, "Port": target.port} for target in sorted(wanted)]
    if given:
        api.call(SERVICE, "RegisterTargets", just_made=True, TargetGroupArn=arn, Targets=given)


def deregister(api: Api, arn: str, gone: Iterable[Target]) -> None:
    given = [{"Id": target.id, "Port": target.port} for target in sorted(gone)]
    if given:
        api.call(SERVICE, "DeregisterTargets", TargetGroupArn=arn, Targets=given)
