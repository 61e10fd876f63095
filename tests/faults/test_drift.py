"""Fault 21: changed behind its back: told in the diff, mended by a plain `up` that says old and new, no data goes."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from aifactory.provider.aws import tags

from tests.emulator import ACCOUNT, Emulator
from tests.faults import invariants, region, whole
from tests.faults.chain import Chain
from tests.faults.ledger import Notes, fault
from tests.faults.ledger import whole as of_whole_matrix
from tests.provider.harness import Lines

NODES = 3
BUCKET = f"{region.REGION}-artifacts-{ACCOUNT}"
ROLE = f"aifactory-{region.REGION}-node"


def _vpc(it: Emulator) -> str:
    return str(it.inventory()["ec2:vpc"][0])


def _node_group(it: Emulator, chain: Chain) -> str:
    return str(chain.state("network").outputs.node_group)


def node_gone(it: Emulator, chain: Chain) -> None:
    host = chain.state("train").outputs.hosts[1]
    it.boto("ec2").terminate_instances(InstanceIds=[host.id])


def node_stopped(it: Emulator, chain: Chain) -> None:
    it.boto("ec2").stop_instances(InstanceIds=[chain.state("train").outputs.hosts[2].id])


def strange_node(it: Emulator, chain: Chain) -> None:
    """Somebody starts another node from the template, with the region's own tags on it."""
    ec2 = it.boto("ec2")
    own = tags.read(invariants.nodes(it)[0]["Tags"])
    spec = [
        {"ResourceType": "instance", "Tags": tags.pairs({k: v for k, v in own.items() if not k.startswith("aws:")})}
    ]
    template = {"LaunchTemplateId": chain.state("template").outputs.template_id, "Version": "1"}
    ec2.run_instances(LaunchTemplate=template, MinCount=1, MaxCount=1, TagSpecifications=spec)


def dns_off(it: Emulator, chain: Chain) -> None:
    it.boto("ec2").modify_vpc_attribute(VpcId=_vpc(it), EnableDnsHostnames={"Value": False})


def rule_gone(it: Emulator, chain: Chain) -> None:
    group = _node_group(it, chain)
    found = it.boto("ec2").describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group]}])
    among = [rule for rule in found["SecurityGroupRules"] if not rule["IsEgress"] and "ReferencedGroupInfo" in rule]
    ids = [rule["SecurityGroupRuleId"] for rule in among]
    it.boto("ec2").revoke_security_group_ingress(GroupId=group, SecurityGroupRuleIds=ids)


def door_opened(it: Emulator, chain: Chain) -> None:
    world = [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    it.boto("ec2").authorize_security_group_ingress(GroupId=_node_group(it, chain), IpPermissions=world)


def route_gone(it: Emulator, chain: Chain) -> None:
    tables = it.boto("ec2").describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [_vpc(it)]}])["RouteTables"]
    behind = [t["RouteTableId"] for t in tables if any("NatGatewayId" in route for route in t["Routes"])]
    it.boto("ec2").delete_route(RouteTableId=behind[0], DestinationCidrBlock="0.0.0.0/0")


def endpoint_gone(it: Emulator, chain: Chain) -> None:
    it.boto("ec2").delete_vpc_endpoints(VpcEndpointIds=it.inventory()["ec2:vpc-endpoint"])


def policy_gone(it: Emulator, chain: Chain) -> None:
    it.boto("s3").delete_bucket_policy(Bucket=BUCKET)


def versioning_off(it: Emulator, chain: Chain) -> None:
    it.boto("s3").put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})


def bucket_public(it: Emulator, chain: Chain) -> None:
    it.boto("s3").delete_public_access_block(Bucket=BUCKET)


def rotation_off(it: Emulator, chain: Chain) -> None:
    it.boto("kms").disable_key_rotation(KeyId=chain.state("key").outputs.key_id)


def role_grown(it: Emulator, chain: Chain) -> None:
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    iam = it.boto("iam")
    (name,) = iam.list_role_policies(RoleName=ROLE)["PolicyNames"]
    iam.put_role_policy(RoleName=ROLE, PolicyName=name, PolicyDocument=json.dumps(everything))


def role_left_profile(it: Emulator, chain: Chain) -> None:
    profile = chain.state("identity").outputs.instance_profile
    it.boto("iam").remove_role_from_instance_profile(InstanceProfileName=profile, RoleName=ROLE)


CHANGES: dict[Callable[[Emulator, Chain], None], str] = {
    node_gone: "train", node_stopped: "train", strange_node: "train", dns_off: "network", rule_gone: "network",
    door_opened: "network", route_gone: "network", endpoint_gone: "network", policy_gone: "artifacts",
    versioning_off: "artifacts", bucket_public: "artifacts", rotation_off: "key", role_grown: "identity",
    role_left_profile: "identity",
}  # fmt: skip
QUICK = (door_opened, policy_gone)


@pytest.mark.parametrize(
    "change", [pytest.param(c, id=c.__name__, marks=() if c in QUICK else of_whole_matrix) for c in CHANGES]
)
@fault(
    21, "one thing is changed behind its back", "named before, mended by a plain up, old → new said; I7",
    on="plugin's code in one process",
)  # fmt: skip
def test_changed_behind_its_back(here: Emulator, notes: Notes, change: Callable[[Emulator, Chain], None]) -> None:
    chain = Chain(region.resources(here, NODES))
    chain.up()
    change(here, chain)
    assert chain.would_change() == [CHANGES[change]], "not seen, or something else is"
    for engine in chain.engines.values():
        engine.lines = Lines()
    chain.up()
    told = [line for engine in chain.engines.values() for line in engine.lines.log]
    assert told, "mended, but not said: no fact with old and new"
    assert change is strange_node or "→" in told[0], told
    notes(told[0][:110])
    whole.in_process(chain, here, NODES)


@of_whole_matrix
@pytest.mark.parametrize("what", ["bucket", "key"])
@fault(
    21, "destroy meets data: a bucket that is not empty; a key", "refused, named; a key's deletion is only scheduled",
    on="plugin's code in one process",
)  # fmt: skip
def test_destroy_keeps_data(here: Emulator, notes: Notes, what: str) -> None:
    chain = Chain(region.resources(here, NODES))
    chain.up()
    if what == "bucket":
        policy_gone(here, chain)  # it lets nobody in without TLS, and the emulator has none
        here.boto("s3").put_object(Bucket=BUCKET, Key="weights", Body=b"0")
        with pytest.raises(Exception, match=BUCKET) as refused:
            chain.destroy()
        notes(str(refused.value)[:110])
        assert here.inventory()["s3:bucket"] == [BUCKET]
        assert not here.requests()["DeleteObject"] + here.requests()["DeleteObjects"]
        return
    chain.destroy()
    assert here.inventory() == {"kms:key-ending": [chain_key(here)]}


def chain_key(it: Emulator) -> str:
    return str(it.inventory()["kms:key-ending"][0])
