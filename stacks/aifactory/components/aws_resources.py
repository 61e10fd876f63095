"""The plugin's resources of a cloud as the program sees them; see resources.py. `called` is the input `name`, which
Pulumi takes for a word of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pulumi import Input, Output, ResourceOptions

from aifactory.components.resources import Data, NodePool, _Resource
from aifactory.provider import tokens


class AwsKey(_Resource):
    token = tokens.AWS_KEY
    key_id: Output[str]
    key_arn: Output[str]
    origin: Output[str]
    nonce: Output[str]

    def __init__(
        self,
        name: str,
        *,
        region: str,
        cloud: Data,
        alias: str,
        custody: str,
        description: str,
        services: Sequence[str],
        opts: ResourceOptions,
    ) -> None:
        super().__init__(
            name,
            opts,
            region=region,
            cloud=cloud,
            alias=alias,
            custody=custody,
            description=description,
            services=list(services),
        )


class AwsNetwork(_Resource):
    token = tokens.AWS_NETWORK
    vpc_id: Output[str]
    subnet_ids: Output[Mapping[str, str]]
    node_group: Output[str]
    door_group: Output[str]
    nat_address: Output[str]
    route_tables: Output[Mapping[str, str]]
    nonce: Output[str]

    def __init__(
        self,
        name: str,
        *,
        region: str,
        cloud: Data,
        cidr: str,
        subnets: Sequence[Data],
        nat: bool,
        gateway_endpoints: Sequence[str],
        interface_endpoints: Sequence[str],
        egress: Sequence[Data],
        api_port: int,
        door_port: int,
        api_from: Sequence[str],
        ssh_from: Sequence[str],
        lustre: bool,
        flow_log_bucket_arn: Input[str],
        opts: ResourceOptions,
    ) -> None:
        super().__init__(
            name,
            opts,
            region=region,
            cloud=cloud,
            cidr=cidr,
            subnets=subnets,
            nat=nat,
            gateway_endpoints=list(gateway_endpoints),
            interface_endpoints=list(interface_endpoints),
            egress=egress,
            api_port=api_port,
            door_port=door_port,
            api_from=list(api_from),
            ssh_from=list(ssh_from),
            lustre=lustre,
            flow_log_bucket_arn=flow_log_bucket_arn,
        )


class AwsIdentity(_Resource):
    token = tokens.AWS_IDENTITY
    role_arn: Output[str]
    instance_profile: Output[str]
    instance_profile_arn: Output[str]
    nonce: Output[str]

    def __init__(
        self,
        name: str,
        *,
        region: str,
        cloud: Data,
        called: str,
        bucket_arns: Sequence[Input[str]],
        key_arn: Input[str],
        opts: ResourceOptions,
    ) -> None:
        super().__init__(
            name,
            opts,
            region=region,
            cloud=cloud,
            name=called,
            bucket_arns=bucket_arns,
            key_arn=key_arn,
        )


class AwsBucket(_Resource):
    token = tokens.AWS_BUCKET
    bucket: Output[str]
    arn: Output[str]
    location: Output[str]
    nonce: Output[str]

    def __init__(
        self,
        name: str,
        *,
        region: str,
        cloud: Data,
        bucket: str,
        key_arn: Input[str],
        retention_days: int | None,
        location: str,
        log_delivery: bool,
        opts: ResourceOptions,
    ) -> None:
        super().__init__(
            name,
            opts,
            region=region,
            cloud=cloud,
            bucket=bucket,
            key_arn=key_arn,
            retention_days=retention_days,
            location=location,
            log_delivery=log_delivery,
        )


class AwsFileSystem(_Resource):
    token = tokens.AWS_FILE_SYSTEM
    file_system_id: Output[str]
    dns_name: Output[str]
    mount_name: Output[str]
    nonce: Output[str]

    def __init__(
        self,
        name: str,
        *,
        region: str,
        cloud: Data,
        called: str,
        capacity_gib: int,
        throughput_mb_s_per_tib: int,
        subnet_id: Input[str],
        security_group: Input[str],
        key_arn: Input[str],
        bucket: Input[str],
        delete_data: bool,
        opts: ResourceOptions,
    ) -> None:
        super().__init__(
            name,
            opts,
            region=region,
            cloud=cloud,
            name=called,
            capacity_gib=capacity_gib,
            throughput_mb_s_per_tib=throughput_mb_s_per_tib,
            subnet_id=subnet_id,
            security_group=security_group,
            key_arn=key_arn,
            bucket=bucket,
            delete_data=delete_data,
        )


class AwsPlacementGroup(_Resource):
    token = tokens.AWS_PLACEMENT_GROUP
    group_name: Output[str]
    group_id: Output[str]
    nonce: Output[str]

    def __init__(
        self,
        name: str,
        *,
        region: str,
        cloud: Data,
        called: str,
        strategy: str,
        opts: ResourceOptions,
    ) -> None:
        super().__init__(
            name,
            opts,
            region=region,
            cloud=cloud,
            name=called,
            strategy=strategy,
        )


class AwsLaunchTemplate(_Resource):
    token = tokens.AWS_LAUNCH_TEMPLATE
    template_id: Output[str]
    template_version: Output[int]
    user_data_sha256: Output[str]
    nonce: Output[str]

    def __init__(
        self,
        name: str,
        *,
        region: str,
        cloud: Data,
        called: str,
        image: str,
        instance_type: str,
        efa_cards: int,
        zone: str,
        subnet_id: Input[str],
        security_groups: Sequence[Input[str]],
        user: str,
        authorized_key: Input[str],
        instance_profile: Input[str],
        key_arn: Input[str],
        root_volume_gib: int | None,
        data_volume_gib: int | None,
        placement_group: Input[str],
        capacity_kind: str,
        capacity_id: str,
        opts: ResourceOptions,
    ) -> None:
        super().__init__(
            name,
            opts,
            region=region,
            cloud=cloud,
            name=called,
            image=image,
            instance_type=instance_type,
            efa_cards=efa_cards,
            zone=zone,
            subnet_id=subnet_id,
            security_groups=security_groups,
            user=user,
            authorized_key=authorized_key,
            instance_profile=instance_profile,
            key_arn=key_arn,
            root_volume_gib=root_volume_gib,
            data_volume_gib=data_volume_gib,
            placement_group=placement_group,
            capacity_kind=capacity_kind,
            capacity_id=capacity_id,
        )


class AwsNodePool(NodePool):
    token = tokens.AWS_NODE_POOL

    def __init__(
        self,
        name: str,
        *,
        region: str,
        cloud: Data,
        pool: str,
        shape: str,
        user: str,
        template_id: Input[str],
        template_version: Input[int],
        subnet_id: Input[str],
        zone: str,
        nodes: Sequence[Data],
        capacity_kind: str,
        capacity_id: str,
        on_partial: str,
        generation: int,
        rebuild_on: str,
        ssh_private_key: Input[str],
        bastion: str,
        bastion_host_key: str,
        opts: ResourceOptions,
    ) -> None:
        super().__init__(
            name,
            opts,
            region=region,
            cloud=cloud,
            pool=pool,
            shape=shape,
            user=user,
            template_id=template_id,
            template_version=template_version,
            subnet_id=subnet_id,
            zone=zone,
            nodes=nodes,
            capacity_kind=capacity_kind,
            capacity_id=capacity_id,
            on_partial=on_partial,
            generation=generation,
            rebuild_on=rebuild_on,
            ssh_private_key=ssh_private_key,
            bastion=bastion,
            bastion_host_key=bastion_host_key,
        )


class AwsDoor(_Resource):
    token = tokens.AWS_DOOR
    dns_name: Output[str]
    arn: Output[str]
    nonce: Output[str]

    def __init__(
        self,
        name: str,
        *,
        region: str,
        cloud: Data,
        called: str,
        vpc_id: Input[str],
        subnet_ids: Sequence[Input[str]],
        port: int,
        targets: Input[Sequence[str]],
        target_port: int,
        internal: bool,
        security_group: Input[str],
        opts: ResourceOptions,
    ) -> None:
        super().__init__(
            name,
            opts,
            region=region,
            cloud=cloud,
            name=called,
            vpc_id=vpc_id,
            subnet_ids=subnet_ids,
            port=port,
            targets=targets,
            target_port=target_port,
            internal=internal,
            security_group=security_group,
        )
