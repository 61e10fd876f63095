"""`aifactory:aws:Door`: the load balancer before the nodes of the front door. It passes TCP on, unread."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Any

from aifactory.provider import tokens
from aifactory.provider.aws import door_api, owned, tags
from aifactory.provider.aws.api import Api
from aifactory.provider.aws.cloud import CloudInput
from aifactory.provider.aws.door_api import SERVICE, Balancer, Listener, Target, TargetGroup
from aifactory.provider.aws.failures import CloudError
from aifactory.provider.aws.owned import Owned, Setting, Work
from aifactory.provider.journal import Journal
from aifactory.provider.resource import UNKNOWN, CheckFailure, Context, HalfMade, Refused, prop

NAME = re.compile(r"(?!internal-)[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?")
"""Source: botocore 1.44.8, elbv2, CreateLoadBalancer and CreateTargetGroup, Name."""
PORTS = range(1, 65536)
READY_S = 900.0
"""How long a balancer may be in the making."""
BUSY_S = 300.0
"""How long its target group may be held by a balancer that is going."""
ACTIVE = ("active", "active_impaired")
FAMILY, PROTOCOL = "network", "TCP"
INTERNAL, OUTSIDE = "internal", "internet-facing"


@dataclass(frozen=True)
class DoorInputs:
    region: str = prop(doc="Region name.", replaces=True)
    cloud: CloudInput = prop(doc="Where the API is; another key, region or account replaces.")
    name: str = prop(doc="Name of balancer and target group, unique in the account and region.", replaces=True)
    vpc_id: str = prop(doc="Network of the targets.", replaces=True)
    subnet_ids: tuple[str, ...] = prop(doc="One a zone; public ones where clients come from outside.")
    port: int = prop(doc="TCP port that clients speak to.")
    targets: tuple[str, ...] = prop(doc="Instances behind it.")
    target_port: int = prop(443, doc="TCP port of the front door on them.")
    internal: bool = prop(False, doc="Whether only the network itself reaches it.", replaces=True)
    security_group: str = prop("", doc="Who may speak to it; empty = everybody who reaches it.", replaces=True)
    token: str = prop("", doc="Identity of the resource.", check=True)


@dataclass(frozen=True)
class DoorOutputs:
    dns_name: str = prop(doc="Name that clients resolve.")
    arn: str = prop(doc="ARN of the balancer.")
    nonce: str = prop(doc="Fence of delete and update.")


class Door(Owned[DoorInputs, DoorOutputs]):
    """Create waits until the balancer is active, some minutes. A diff costs four reads."""

    token = tokens.AWS_DOOR
    Inputs = DoorInputs
    Outputs = DoorOutputs
    name_stays = True

    def id_of(self, news: DoorInputs) -> str:
        return news.name

    def check(self, ctx: Context, news: DoorInputs, olds: DoorInputs | None) -> tuple[DoorInputs, list[CheckFailure]]:
        failures = []
        if news.name is not UNKNOWN and not NAME.fullmatch(news.name):
            allowed = "1 to 32 letters, digits and -, none of them - at either end, not internal- at the beginning"
            failures.append(CheckFailure("name", f"{news.name!r} is not allowed; allowed: {allowed}"))
        for field, port in (("port", news.port), ("target_port", news.target_port)):
            if port is not UNKNOWN and port not in PORTS:
                failures.append(CheckFailure(field, f"{port} is no TCP port; allowed: 1 to {PORTS.stop - 1}"))
        for field in ("subnet_ids", "targets"):
            if getattr(news, field) is not UNKNOWN and not getattr(news, field):
                failures.append(CheckFailure(field, "names none"))
        return news, failures

    def preview(self, ctx: Context, news: DoorInputs, outs: DoorOutputs | None) -> DoorOutputs:
        return outs or DoorOutputs(UNKNOWN, UNKNOWN, UNKNOWN)

    def changed(self, api: Api, olds: DoorInputs, outs: DoorOutputs) -> tuple[str, ...]:
        reads: list[Any] = owned.at_once(
            partial(door_api.balancer, api, olds.name),
            partial(door_api.group, api, olds.name),
            partial(door_api.listeners, api, outs.arn),
        )
        found, group, there = reads
        if found is None or found.arn != outs.arn:
            return ("arn",)
        if group is None:
            return ("targets",)
        return owned.differing(_settings(api, olds, found, group, there))

    def found(self, api: Api, olds: DoorInputs, outs: DoorOutputs) -> DoorOutputs | None:
        found = door_api.balancer(api, olds.name)
        if found is None or not _is_ours(api, found.arn, olds):
            return None
        made = _outputs(found, outs.nonce)
        if found.state not in ACTIVE:
            why = f"; {found.why}" if found.why else ""
            raise HalfMade(self.id_of(olds), made, [f"load balancer {olds.name} is {found.state}{why}"])
        return made

    def make(self, work: Work[DoorOutputs], news: DoorInputs) -> DoorOutputs:
        """The balancer first: a target group alone would be in no state that a destroy knows."""
        if work.outs is not None:
            work.exists(work.outs)
        balancer = _balancer(work, news)
        work.exists(_outputs(balancer, work.nonce))
        group = _group(work, news)
        there = door_api.listeners(work.api, balancer.arn)
        owned.mend(work.api, _settings(work.api, news, balancer, group, there), fresh=work.outs is None)
        work.api.ctx.progress(f"waiting for load balancer {news.name}")
        ready = work.api.until(partial(_active, work.api, news.name), f"load balancer {news.name}", timeout_s=READY_S)
        return _outputs(ready, work.nonce)

    def remove(self, api: Api, journal: Journal, olds: DoorInputs, outs: DoorOutputs) -> None:
        """Listeners go with the balancer, the target group when the balancer has let go of it."""
        balancer, group = door_api.balancer(api, olds.name), door_api.group(api, olds.name)
        if balancer is not None and _is_ours(api, balancer.arn, olds):
            owned.removed(api, SERVICE, "DeleteLoadBalancer", LoadBalancerArn=balancer.arn)
        if group is not None and _is_ours(api, group.arn, olds):
            owned.removed(api, SERVICE, "DeleteTargetGroup", busy_s=BUSY_S, TargetGroupArn=group.arn)


def _outputs(balancer: Balancer, nonce: str) -> DoorOutputs:
    return DoorOutputs(balancer.dns_name, balancer.arn, nonce)


def _is_ours(api: Api, arn: str, olds: DoorInputs) -> bool:
    there = owned.absent_is_none(lambda: door_api.marks(api, arn))
    return there is not None and there.get(tags.TOKEN) == olds.token


def _active(api: Api, name: str) -> Balancer | None:
    """None while it is in the making. Raises CloudError where nothing comes of it."""
    found = door_api.balancer(api, name)
    if found is not None and found.state == "failed":
        raise CloudError(f"load balancer {name}", "failed", found.why, kind="other")
    return found if found is not None and found.state in ACTIVE else None


def _balancer(work: Work[DoorOutputs], news: DoorInputs) -> Balancer:
    """Ours, adopted or made. Raises Refused where the name is another's, or it is of another make."""
    what = f"load balancer {news.name}"
    scheme = INTERNAL if news.internal else OUTSIDE
    mine = {**work.tags, tags.PART: "balancer", "Name": news.name}
    made: Balancer = work.api.create(
        SERVICE,
        "CreateLoadBalancer",
        door_api.claimed(work.api, what, partial(door_api.balancer, work.api, news.name), mine),
        lambda answer: door_api.parsed_balancer(answer["LoadBalancers"][0]),
        just_made=True,
        Name=news.name,
        Type=FAMILY,
        Scheme=scheme,
        IpAddressType="ipv4",
        Subnets=list(news.subnet_ids),
        Tags=tags.pairs(mine),
        **({"SecurityGroups": [news.security_group]} if news.security_group else {}),
    )
    found, wanted = (made.kind, made.scheme, made.vpc_id), (FAMILY, scheme, news.vpc_id)
    if found != wanted:
        raise Refused(
            f"{what} is there already as {', '.join(found)}; wanted is {', '.join(wanted)}; "
            "fix: remove it and run again"
        )
    return made


def _group(work: Work[DoorOutputs], news: DoorInputs) -> TargetGroup:
    mine = {**work.tags, tags.PART: "targets", "Name": news.name}
    what = f"target group {news.name}"
    made: TargetGroup = work.api.create(
        SERVICE,
        "CreateTargetGroup",
        door_api.claimed(work.api, what, partial(door_api.group, work.api, news.name), mine),
        lambda answer: door_api.parsed_group(answer["TargetGroups"][0]),
        just_made=True,
        Name=news.name,
        Protocol=PROTOCOL,
        Port=news.target_port,
        VpcId=news.vpc_id,
        TargetType="instance",
        HealthCheckProtocol=PROTOCOL,
        Tags=tags.pairs(mine),
    )
    if (made.protocol, made.vpc_id) != (PROTOCOL, news.vpc_id):
        raise Refused(
            f"{what} is there already for {made.protocol} in {made.vpc_id}; wanted is {PROTOCOL} in {news.vpc_id}; "
            "fix: remove it and run again"
        )
    return made


def _settings(
    api: Api, news: DoorInputs, balancer: Balancer, group: TargetGroup, there: tuple[Listener, ...]
) -> list[Setting]:
    """What can be put right. One read."""
    now = door_api.targets(api, group.arn)
    wanted = frozenset(Target(name, news.target_port) for name in news.targets)

    def set_targets() -> None:
        door_api.register(api, group.arn, wanted - now)
        door_api.deregister(api, group.arn, now - wanted)

    arn = balancer.arn
    settings = [
        Setting("targets", _shown(now), _shown(wanted), set_targets),
        Setting(
            "port",
            sorted((one.port, one.protocol, one.group) for one in there),
            [(news.port, PROTOCOL, group.arn)],
            partial(_listen, api, arn, group.arn, news.port, there),
        ),
        Setting(
            "subnet_ids",
            sorted(balancer.subnets),
            sorted(news.subnet_ids),
            lambda: api.call(SERVICE, "SetSubnets", LoadBalancerArn=arn, Subnets=list(news.subnet_ids)),
        ),
    ]
    if news.security_group:
        groups = [news.security_group]
        put = partial(api.call, SERVICE, "SetSecurityGroups", LoadBalancerArn=arn, SecurityGroups=groups)
        settings.append(Setting("security_group", sorted(balancer.groups), groups, put))
    return settings


def _shown(found: frozenset[Target]) -> list[str]:
    return [f"{target.id}:{target.port}" for target in sorted(found)]


def _listen(api: Api, arn: str, group: str, port: int, there: tuple[Listener, ...]) -> None:
    """One listener, on that port and to that group; the others go."""
    leads: dict[str, Any] = {"DefaultActions": [{"Type": "forward", "TargetGroupArn": group}]}
    kept = next((one for one in there if one.port == port), None)
    if kept is None:
        api.create(
            SERVICE,
            "CreateListener",
            lambda: next((one for one in door_api.listeners(api, arn) if one.port == port), None),
            lambda answer: door_api.parsed_listener(answer["Listeners"][0]),
            just_made=True,
            LoadBalancerArn=arn,
            Protocol=PROTOCOL,
            Port=port,
            **leads,
        )
    elif (kept.protocol, kept.group) != (PROTOCOL, group):
        api.call(SERVICE, "ModifyListener", ListenerArn=kept.arn, Protocol=PROTOCOL, **leads)
    for other in there:
        if other is not kept:
            owned.removed(api, SERVICE, "DeleteListener", ListenerArn=other.arn)
