"""`Serving`: engines, services, front door, and the proof that a completion comes back through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi import Input, Output, ResourceOptions

from aifactory import naming
from aifactory.components.access import access, going_with
from aifactory.components.pool import Ground, Pool
from aifactory.components.resources import EngineImage, FrontDoor, Keys, Service
from aifactory.plan.model import FrontDoorPlan, RegionPlan, ServicePlan
from aifactory.provider import tokens

Hosts = Output[Sequence[Mapping[str, Any]]]

SECRETS = "secret"
"""`secret:<key>` of a region file is the configuration key of the same name."""


class Serving(pulumi.ComponentResource):
    """All services of a region behind its front door. `endpoint` is known when the door has taken its configuration.

    `authority` are the keys with which the region's own certificate is issued: of their own where the cloud gives the
    door its name, which nobody knows before the nodes are there that the region's keys open.
    """

    endpoint: Output[str]
    authority: Keys

    def __init__(
        self,
        name: str,
        plan: FrontDoorPlan,
        *,
        ground: Ground,
        pools: Mapping[str, Pool],
        opts: ResourceOptions | None = None,
    ) -> None:
        super().__init__(tokens.COMPONENT_SERVING, name, None, opts)
        region = ground.region
        images = self._images(region)
        self.services = {
            s.name: self._service(s, ground, pools[s.pool], images[s.engine.value]) for s in region.services
        }
        self.front_door = self._front_door(plan, ground, pools)
        self.endpoint = self.front_door.endpoint
        self.register_outputs({"endpoint": self.endpoint})

    def _images(self, region: RegionPlan) -> dict[str, EngineImage]:
        """One image an engine, with the models of all its services."""
        models: dict[str, list[str]] = {}
        for service in region.services:
            models.setdefault(service.engine.value, []).append(service.model)
        return {
            engine: EngineImage(
                engine,
                region=region.region,
                engine=engine,
                models=sorted(set(served)),
                container_engine=region.container_engine or "auto",
                opts=ResourceOptions(parent=self),
            )
            for engine, served in models.items()
        }

    def _service(self, plan: ServicePlan, ground: Ground, pool: Pool, image: EngineImage) -> Service:
        replicas = [{"index": r.index, "node": r.nodes[0], "port": r.port} for r in plan.replicas]
        return Service(
            plan.name,
            region=ground.region.region,
            service=plan.name,
            model=plan.model,
            engine=plan.engine.value,
            hosts=named(pool.hosts, {str(r["node"]) for r in replicas}),
            access=access(ground.region, ground.keys),
            image_archive=image.archive,
            image_id=image.image_id,
            model_file=image.model_files.apply(lambda files: files[plan.model]),
            model_sha256=plan.model_sha256 or "",
            context_tokens=plan.context_tokens.value,
            parallel_requests=plan.parallel_requests.value,
            replicas=replicas,
            upstream_key=ground.keys.upstream_key,
            opts=ResourceOptions(
                parent=self,
                depends_on=[pool.configuration],
                deleted_with=going_with(ground.region, [pool.nodes]),
            ),
        )

    def _front_door(self, plan: FrontDoorPlan, ground: Ground, pools: Mapping[str, Pool]) -> FrontDoor:
        region, keys = ground.region, ground.keys
        standing = [pools[pool.name] for pool in region.pools if any(node.name in plan.nodes for node in pool.nodes)]
        hosts = named(together([pool.hosts for pool in standing]), set(plan.nodes))
        hostname = self._hostname(plan, ground, hosts)
        certificate, private_key = _certificate(plan, self.authority)
        return FrontDoor(
            naming.FRONT_DOOR,
            region=region.region,
            hostname=hostname,
            port=plan.port.value,
            hosts=hosts,
            access=access(region, keys),
            certificate=certificate,
            private_key=private_key,
            clients=[
                {
                    "name": client.name,
                    "key_sha256": client.key_sha256 or keys.client_key_sha256,
                    "requests_per_minute": client.requests_per_minute,
                }
                for client in plan.clients
            ],
            services=[
                {"name": s.name, "model": s.model, "servers": self.services[s.name].endpoints} for s in region.services
            ],
            upstream_key=keys.upstream_key,
            opts=ResourceOptions(
                parent=self,
                depends_on=[pool.configuration for pool in standing],
                deleted_with=going_with(region, [pool.nodes for pool in standing]),
            ),
        )

    def _hostname(self, plan: FrontDoorPlan, ground: Ground, hosts: Hosts) -> Input[str]:
        """The name that clients use; in a cloud there is a load balancer before the door, and its name is the last
        resort."""
        self.authority = ground.keys
        cloud = ground.aws
        if cloud is None or cloud.aws.door is None:
            return plan.hostname
        balancer = cloud.door(cloud.aws.door, hosts, ResourceOptions(parent=self))
        if plan.hostname:
            return plan.hostname
        self.authority = Keys(
            naming.DOOR_KEYS,
            region=ground.region.region,
            server_names=[balancer.dns_name, *plan.server_names],
            opts=ResourceOptions(parent=self),
        )
        return balancer.dns_name


def _certificate(plan: FrontDoorPlan, authority: Keys) -> tuple[Output[str], Output[str]]:
    """Certificate and key: the region's own, or the encrypted values that the region file names."""
    if plan.tls_certificate_secret and plan.tls_key_secret:
        given = pulumi.Config(SECRETS)
        return given.require_secret(plan.tls_certificate_secret), given.require_secret(plan.tls_key_secret)
    return authority.server_certificate, authority.server_key


def together(parts: Sequence[Hosts]) -> Hosts:
    """All hosts of several pools, in the order of the pools."""
    return Output.all(*parts).apply(lambda lists: [host for hosts in lists for host in hosts])


def named(hosts: Hosts, names: set[str]) -> Hosts:
    """The hosts of those names."""
    return hosts.apply(lambda all_hosts: [host for host in all_hosts if host["name"] in names])
