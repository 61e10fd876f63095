"""The region that is broken: one cluster of p6-b200 nodes with network, key, bucket, role, group and template.

A list of resources as data. A value may be {"from": name, "output": field} and may name a "key" of a mapping.
"""

from __future__ import annotations

from typing import Any

from aifactory.provider import tokens

from tests.emulator import ACCOUNT, IMAGE, Emulator

REGION = "faults"
CLOUD_REGION = "eusc-de-east-1"
ZONE = f"{CLOUD_REGION}a"
SHAPE = "p6-b200.48xlarge"
CARDS = 8
KEY_LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJlbmNoYmVuY2hiZW5jaGJlbmNoYmVuY2hiZW5jaGJl faults"


def of(name: str, output: str, key: str = "") -> dict[str, str]:
    return {"from": name, "output": output, "key": key}


def resource(token: str, called: str, **inputs: Any) -> dict[str, Any]:
    return {"type": token, "name": called, "inputs": inputs}


def resources(
    emulator: Emulator,
    nodes: int,
    *,
    partition: str = "aws-eusc",
    cloud_region: str = CLOUD_REGION,
    zone: str = ZONE,
    name: str = REGION,
    file_system: bool = False,
    door: bool = False,
    **pool: Any,
) -> list[dict[str, Any]]:
    """Everything of a region with `nodes` nodes; `pool` overrides inputs of the gang."""
    cloud = emulator.cloud(partition, cloud_region)
    common = {"region": name, "cloud": cloud}
    zones = [zone, *(f"{cloud_region}{letter}" for letter in "abc" if f"{cloud_region}{letter}" != zone)]
    called = ["nodes-a", "nodes-b", "nodes-c"]
    subnets = [
        {"name": each, "zone": zones[place], "cidr": f"10.0.{32 * place}.0/19", "public": False}
        for place, each in enumerate(called)
    ]
    subnets.append({"name": "door", "zone": zone, "cidr": "10.0.240.0/24", "public": True})
    bucket = f"{name}-artifacts-{ACCOUNT}"
    made = [
        resource(
            tokens.AWS_NETWORK, "network", **common, cidr="10.0.0.0/16", subnets=subnets, nat=True,
            gateway_endpoints=["s3"], interface_endpoints=[], egress_ports=[443], api_port=443,
            api_from=["10.9.0.0/16"], ssh_from=[], lustre=file_system, flow_log_bucket_arn="",
        ),
        resource(
            tokens.AWS_KEY, "key", **common, alias=f"alias/aifactory-{name}", description="data", custody="provider",
            deletion_window_days=7,
        ),
        resource(
            tokens.AWS_BUCKET, "artifacts", **common, bucket=bucket, key_arn=of("key", "key_arn"), retention_days=None,
            location=cloud_region,
        ),
        resource(
            tokens.AWS_IDENTITY, "identity", **common, name=f"aifactory-{name}-node",
            bucket_arns=[of("artifacts", "arn")], key_arn=of("key", "key_arn"),
        ),
        resource(tokens.AWS_PLACEMENT_GROUP, "group", **common, name=f"{name}-train", strategy="cluster"),
        resource(
            tokens.AWS_LAUNCH_TEMPLATE, "template", **common, name=f"{name}-train", image=IMAGE, instance_type=SHAPE,
            efa_cards=CARDS, subnet_id=of("network", "subnet_ids", "nodes-a"),
            security_groups=[of("network", "node_group")], instance_profile=of("identity", "instance_profile"),
            key_arn=of("key", "key_arn"), root_volume_gib=200, data_volume_gib=500,
            placement_group=of("group", "group_name"), zone=zone, user="ubuntu", authorized_key=KEY_LINE,
            capacity_kind="on_demand", capacity_id="",
        ),
        resource(
            tokens.AWS_NODE_POOL, "train", **{
                **common, "pool": "train", "shape": SHAPE, "user": "ubuntu",
                "template_id": of("template", "template_id"), "template_version": of("template", "template_version"),
                "subnet_id": of("network", "subnet_ids", "nodes-a"), "zone": zone, "nodes": gang(nodes),
                "capacity_kind": "on_demand", "host_keys": "none", **pool,
            },
        ),
    ]  # fmt: skip
    if file_system:
        made.append(
            resource(
                tokens.AWS_FILE_SYSTEM, "scratch", **common, name=f"{name}-scratch", capacity_gib=1200,
                throughput_mb_s_per_tib=125, subnet_id=of("network", "subnet_ids", "nodes-a"),
                security_group=of("network", "node_group"), key_arn=of("key", "key_arn"),
                bucket=of("artifacts", "bucket"), delete_data=True,
            )
        )  # fmt: skip
    if door:
        made.append(
            resource(
                tokens.AWS_DOOR, "door", **common, name=f"{name}-door", vpc_id=of("network", "vpc_id"),
                subnet_ids=[of("network", "subnet_ids", "door")], port=443, targets=of("train", "hosts", "*.id"),
                target_port=443, internal=False,
            )
        )  # fmt: skip
    return made


def gang(nodes: int) -> list[dict[str, Any]]:
    return [{"name": f"train-{rank:04d}", "rank": rank, "gpus": 8, "labels": {}} for rank in range(nodes)]


def pick(value: Any, key: str) -> Any:
    """`key` of a mapping; `*.field` of each item of a list."""
    if not key:
        return value
    if key.startswith("*."):
        return [item[key[2:]] if isinstance(item, dict) else getattr(item, key[2:]) for item in value]
    return value[key]
