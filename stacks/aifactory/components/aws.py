"""`AwsGround`: what a region has in a cloud before and around its nodes; and the nodes themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi import Output, ResourceOptions

from aifactory import naming
from aifactory.components.aws_resources import (
    AwsBucket,
    AwsDoor,
    AwsFileSystem,
    AwsIdentity,
    AwsKey,
    AwsLaunchTemplate,
    AwsNetwork,
    AwsNodePool,
    AwsPlacementGroup,
)
from aifactory.components.resources import Keys
from aifactory.plan.model import AwsDoorPlan, AwsPlan, AwsPoolPlan, CloudPlan, PoolPlan, RegionPlan
from aifactory.plan.nodes import DOOR_PORT
from aifactory.provider import tokens
from aifactory.provider.aws.cloud import CloudInput

Hosts = Output[Sequence[Mapping[str, Any]]]


class AwsGround(pulumi.ComponentResource):
    """Key, network, identity and storage of a region. Nodes stand on it, and go before it."""

    def __init__(self, name: str, plan: RegionPlan, *, aws: AwsPlan, opts: ResourceOptions | None = None) -> None:
        super().__init__(tokens.COMPONENT_AWS_GROUND, name, None, opts)
        self.plan, self.aws = plan, aws
        self._child = ResourceOptions(parent=self)
        self._common: dict[str, Any] = {"region": plan.region, "cloud": cloud(aws.cloud)}
        self.key = AwsKey(
            naming.KEY,
            **self._common,
            alias=aws.key_alias,
            custody=aws.key_custody,
            description=f"Disks, buckets and file systems of region {plan.region}",
            services=[*(["flow_logs"] if aws.flow_logs else []), *(["file_system"] if aws.file_systems else [])],
            opts=self._child,
        )
        self.buckets = {b.name: self._bucket(b.name, b.bucket, b.retention_days) for b in aws.buckets}
        self.network = self._network()
        self.identity = AwsIdentity(
            naming.IDENTITY,
            **self._common,
            called=aws.role,
            bucket_arns=[bucket.arn for bucket in self.buckets.values()],
            key_arn=self.key.key_arn,
            opts=self._child,
        )
        self.file_systems = {f.name: self._file_system(f.name) for f in aws.file_systems}
        self.register_outputs({})

    def _network(self) -> AwsNetwork:
        aws = self.aws
        return AwsNetwork(
            naming.NETWORK,
            **self._common,
            cidr=self.plan.cidr,
            subnets=[{"name": s.name, "zone": s.zone, "cidr": s.cidr.value, "public": s.public} for s in aws.subnets],
            nat=aws.nat.value,
            gateway_endpoints=list(aws.gateway_endpoints),
            interface_endpoints=list(aws.interface_endpoints),
            egress=[{"cidr": e.cidr, "port": e.port} for e in aws.egress],
            api_port=DOOR_PORT,
            door_port=aws.door.port if aws.door else 0,
            api_from=list(aws.api_from),
            ssh_from=list(aws.ssh_from),
            lustre=bool(aws.file_systems),
            flow_log_bucket_arn=self.buckets[aws.flow_logs].arn if aws.flow_logs else "",
            opts=self._child,
        )

    def _bucket(self, name: str, bucket: str, retention_days: int | None) -> AwsBucket:
        return AwsBucket(
            name,
            **self._common,
            bucket=bucket,
            key_arn=self.key.key_arn,
            retention_days=retention_days,
            location=self.aws.cloud.region,
            log_delivery=name == self.aws.flow_logs,
            opts=self._child,
        )

    def _file_system(self, name: str) -> AwsFileSystem:
        plan = next(f for f in self.aws.file_systems if f.name == name)
        return AwsFileSystem(
            name,
            **self._common,
            called=plan.label,
            capacity_gib=plan.capacity_gib,
            throughput_mb_s_per_tib=plan.throughput_mb_s_per_tib.value,
            subnet_id=self.subnet(plan.subnet),
            security_group=self.network.node_group,
            key_arn=self.key.key_arn,
            bucket=self.buckets[plan.bucket].bucket if plan.bucket else "",
            delete_data=plan.delete_data,
            opts=self._child,
        )

    def subnet(self, name: str) -> Output[str]:
        """Id of a subnet of the plan."""
        return self.network.subnet_ids.apply(lambda ids: ids[name])

    def nodes(self, name: str, plan: PoolPlan, keys: Keys, opts: ResourceOptions) -> AwsNodePool:
        """The nodes of a pool, and what they are made from, as children of `opts.parent`."""
        made = next(p for p in self.aws.pools if p.name == plan.name)
        template = self._template(name, made, keys, opts)
        return AwsNodePool(
            name,
            **self._common,
            pool=plan.name,
            shape=plan.shape,
            user=self.plan.ssh_user,
            template_id=template.template_id,
            template_version=template.template_version,
            subnet_id=self.subnet(made.subnet),
            zone=made.zone,
            nodes=[
                {"name": node.name, "rank": node.rank, "gpus": node.gpus, "labels": dict(node.labels)}
                for node in plan.nodes
            ],
            capacity_kind=made.capacity_kind,
            capacity_id=made.capacity_id or "",
            on_partial=made.on_partial,
            generation=plan.generation,
            rebuild_on=unchangeable(made),
            ssh_private_key=keys.ssh_private_key,
            bastion=self.plan.ssh_bastion or "",
            bastion_host_key=self.plan.ssh_bastion_host_key or "",
            opts=opts,
        )

    def _template(self, name: str, made: AwsPoolPlan, keys: Keys, opts: ResourceOptions) -> AwsLaunchTemplate:
        group = None
        if made.placement_group:
            group = AwsPlacementGroup(
                name, **self._common, called=made.placement_group, strategy=made.placement.value, opts=opts
            )
        return AwsLaunchTemplate(
            name,
            **self._common,
            called=made.template,
            image=made.image.value or "",
            instance_type=made.instance_type,
            efa_cards=made.efa_cards.value,
            zone=made.zone,
            subnet_id=self.subnet(made.subnet),
            security_groups=[self.network.node_group],
            user=self.plan.ssh_user,
            authorized_key=keys.ssh_public_key,
            instance_profile=self.identity.instance_profile,
            key_arn=self.key.key_arn,
            root_volume_gib=made.root_volume_gib,
            data_volume_gib=made.data_volume_gib,
            placement_group=group.group_name if group else "",
            capacity_kind=made.capacity_kind,
            capacity_id=made.capacity_id or "",
            opts=opts,
        )

    def door(self, plan: AwsDoorPlan, hosts: Hosts, opts: ResourceOptions) -> AwsDoor:
        """The load balancer before the nodes of the front door."""
        return AwsDoor(
            naming.DOOR,
            **self._common,
            called=plan.name,
            vpc_id=self.network.vpc_id,
            subnet_ids=[self.subnet(name) for name in plan.subnets],
            port=plan.port,
            targets=hosts.apply(lambda found: [host["id"] for host in found]),
            target_port=plan.target_port,
            internal=plan.internal.value,
            security_group=self.network.door_group,
            opts=opts,
        )


def cloud(plan: CloudPlan) -> dict[str, Any]:
    """The nested input of every resource of the cloud."""
    found = dataclasses.asdict(CloudInput.of(plan))
    return {**found, "off_region": list(plan.off_region)}


def unchangeable(pool: AwsPoolPlan) -> str:
    """What a node keeps for its life: another value rebuilds the pool's nodes one by one. Part of the state: the words
    and their order never change."""
    facts = {
        "image": pool.image.value,
        "efa": pool.efa_cards.value,
        "group": pool.placement_group,
        "root_gib": pool.root_volume_gib,
        "data_gib": pool.data_volume_gib,
    }
    return " ".join(f"{name}={value}" for name, value in facts.items() if value is not None)
