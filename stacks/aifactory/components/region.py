"""`Region`: everything a region is made of, from its plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi import Output, ResourceOptions

from aifactory import __version__, catalog, naming
from aifactory.components.access import access, makes_nodes
from aifactory.components.aws import AwsGround
from aifactory.components.pool import Ground, Pool
from aifactory.components.resources import (
    Acceptance,
    Configuration,
    FrontDoor,
    Keys,
    LocalNetwork,
    LocalNodeImage,
    NodePool,
    Service,
)
from aifactory.components.serving import Serving, together
from aifactory.hosts.fleet import Fleet, FleetHost
from aifactory.plan import render
from aifactory.plan.model import RegionPlan
from aifactory.provider import tokens
from aifactory.serving import units

Hosts = Output[Sequence[Mapping[str, Any]]]


class Region(pulumi.ComponentResource):
    """One region: keys, the ground of its nodes, pools, serving, acceptance. `exports` are the stack's outputs."""

    exports: dict[str, Any]

    def __init__(self, name: str, plan: RegionPlan, *, opts: ResourceOptions | None = None) -> None:
        super().__init__(tokens.COMPONENT_REGION, name, None, opts)
        child = ResourceOptions(parent=self)
        keys = Keys(naming.KEYS, region=plan.region, server_names=server_names(plan), opts=child)
        ground = self._ground(plan, keys)
        self.pools = {p.name: Pool(p.name, p, ground=ground, opts=child) for p in plan.pools}
        self.serving = (
            Serving(naming.SERVING, plan.front_door, ground=ground, pools=self.pools, opts=child)
            if plan.front_door
            else None
        )
        hosts = together([pool.hosts for pool in self.pools.values()])
        acceptance = self._acceptance(plan, keys, hosts)
        self.exports = _exports(plan, keys, hosts, self.serving, acceptance)
        if ground.aws:
            self.exports["storage"] = _storage(ground.aws)
        self.register_outputs({"plan_digest": self.exports["plan_digest"]})

    def _ground(self, plan: RegionPlan, keys: Keys) -> Ground:
        """What nodes are made of; where hosts are listed there is nothing."""
        child = ResourceOptions(parent=self)
        if plan.aws:
            return Ground(plan, keys, aws=AwsGround(naming.GROUND, plan, aws=plan.aws, opts=child))
        if not plan.container_engine:
            return Ground(plan, keys)
        network = LocalNetwork(
            naming.NETWORK, region=plan.region, cidr=plan.cidr, engine=plan.container_engine, opts=child
        )
        suite = next(v.version for v in catalog.versions().values() if v.kind == "debian-suite")
        image = LocalNodeImage(naming.NODE_IMAGE, engine=network.engine, suite=suite, opts=child)
        return Ground(plan, keys, network, image)

    def _acceptance(self, plan: RegionPlan, keys: Keys, hosts: Hosts) -> Acceptance:
        own_ca = plan.front_door is not None and plan.front_door.own_ca
        ran: list[NodePool | Configuration | Service | FrontDoor] = [pool.nodes for pool in self.pools.values()]
        ran += [pool.configuration for pool in self.pools.values()]
        if self.serving:
            ran += [*self.serving.services.values(), self.serving.front_door]
        return Acceptance(
            naming.ACCEPTANCE,
            region=plan.region,
            hosts=hosts,
            access=access(plan, keys),
            endpoint=self.serving.endpoint if self.serving else None,
            ca_certificate=self.serving.authority.ca_certificate if self.serving and own_ca else None,
            client_key=keys.client_key,
            services=services(plan),
            units=units.of(plan),
            level=plan.acceptance_level.value,
            # a state that an older version wrote has no such output
            after=[resource.run_id.apply(lambda known: known or "") for resource in ran],
            opts=ResourceOptions(parent=self),
        )


def server_names(plan: RegionPlan) -> tuple[str, ...]:
    """Names of the region's own certificate; one that nobody asks for where there is no front door."""
    return plan.front_door.server_names if plan.front_door else ("localhost",)


def services(plan: RegionPlan) -> list[dict[str, Any]]:
    """What is served, as acceptance and the commands read it."""
    return [
        {
            "name": s.name,
            "model": s.model,
            "engine": s.engine.value,
            "pool": s.pool,
            "replicas": len(s.replicas),
            "context_tokens": s.context_tokens.value,
        }
        for s in plan.services
    ]


def fleet(plan: RegionPlan, hosts: Sequence[Mapping[str, Any]]) -> Fleet:
    """The region's fleet from the hosts of its pools."""
    return Fleet(
        region=plan.region,
        provider=plan.provider,
        account=plan.aws.cloud.account if plan.aws else "",
        created_by=f"aifactory {__version__}",
        hosts=tuple(FleetHost.from_dict(host) for host in hosts),
    )


def _exports(
    plan: RegionPlan,
    keys: Keys,
    hosts: Hosts,
    serving: Serving | None,
    acceptance: Acceptance,
) -> dict[str, Any]:
    own_ca = plan.front_door is not None and plan.front_door.own_ca
    return {
        "fleet": hosts.apply(lambda found: fleet(plan, found).to_dict()),
        "endpoint": serving.endpoint if serving else None,
        "ca_certificate": serving.authority.ca_certificate if serving and own_ca else None,
        "services": services(plan),
        "verdicts": acceptance.verdicts,
        "client_key": keys.client_key if serving else None,
        "ssh_private_key": keys.ssh_private_key if makes_nodes(plan) else None,
        "plan_digest": render.digest(plan),
    }


def _storage(ground: AwsGround) -> dict[str, Any]:
    """What was made for data: where it is and how it is mounted (`mount -t lustre DNS@tcp:/MOUNT`)."""
    systems = {
        name: {"kind": "lustre", "id": made.file_system_id, "dns_name": made.dns_name, "mount_name": made.mount_name}
        for name, made in ground.file_systems.items()
    }
    return {name: {"kind": "object", "bucket": made.bucket} for name, made in ground.buckets.items()} | systems
