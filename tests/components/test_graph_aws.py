"""The resource graph of a region in a cloud. Real: spec, catalogue, plan, components, SDK. Made up: the rest."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from aifactory.plan import build
from aifactory.provider import tokens
from aifactory.provider.aws.cloud import CloudInput

from tests.components import graph
from tests.components.test_graph import after, registered
from tests.unit.plan.test_aws import spec

POOL = {
    "name": "train", "shape": "p6-b200.48xlarge", "nodes": 2, "image": "ami-1", "placement": "cluster",
    "data_volume_gib": 500, "generation": 3,
    "capacity": {"kind": "reservation", "id": "cr-1", "on_partial": "keep"},
}  # fmt: skip
SERVE = {"name": "serve", "shape": "c7i.large", "nodes": 1, "image": "ami-2"}
CHAT = {"name": "chat", "model": "golden-tiny", "pool": "serve"}
STORAGE = [
    {"name": "scratch", "kind": "lustre", "capacity_gib": 1200, "bucket": "artifacts", "delete_data": True},
    {"name": "artifacts", "kind": "object", "retention_days": 30},
]
SSH = {"source": ["10.30.0.0/24"], "bastion": "b.example.eu", "bastion_host_key": "ssh-ed25519 AAAA"}
LOGGED = [*STORAGE, {"name": "records", "kind": "object"}]
NETWORK = {"egress": ["192.0.2.10:443"], "ingress": {"api": ["0.0.0.0/0"]}, "private_endpoints": ["ssm"]}


def cloud(**sections: Any) -> graph.Graph:
    given = {"pools": [POOL, SERVE], "services": [CHAT], "storage": STORAGE, "network": NETWORK, **sections}
    return registered(build.plan(spec(provider={"ssh": SSH, "key_custody": "customer"}, **given)))


@pytest.fixture(scope="module")
def region() -> graph.Graph:
    return cloud()


def only(found: graph.Graph, token: str) -> graph.Registered:
    (one,) = found.of(token).values()
    return one


def test_graph_cloud_region_types_names_parents(region: graph.Graph) -> None:
    cloud_only = [r for r in region.resources if r.type.startswith(("aifactory:aws", "aifactory:component"))]
    assert Counter((r.type.removeprefix("aifactory:"), r.name, r.parent) for r in cloud_only) == Counter(
        {
            ("component:Region", "region", "aifactory-local"): 1,
            ("component:AwsGround", "ground", "region"): 1,
            ("aws:Key", "key", "ground"): 1,
            ("aws:Network", "network", "ground"): 1,
            ("aws:Identity", "identity", "ground"): 1,
            ("aws:Bucket", "artifacts", "ground"): 1,
            ("aws:FileSystem", "scratch", "ground"): 1,
            ("component:Pool", "train", "region"): 1,
            ("aws:PlacementGroup", "train", "train"): 1,
            ("aws:LaunchTemplate", "train", "train"): 1,
            ("aws:NodePool", "train", "train"): 1,
            ("component:Pool", "serve", "region"): 1,
            ("aws:LaunchTemplate", "serve", "serve"): 1,
            ("aws:NodePool", "serve", "serve"): 1,
            ("component:Pool", "front", "region"): 1,
            ("aws:LaunchTemplate", "front", "front"): 1,
            ("aws:NodePool", "front", "front"): 1,
            ("component:Serving", "serving", "region"): 1,
            ("aws:Door", "door", "serving"): 1,
        }
    )


def test_graph_order_nodes_go_before_what_they_stand_on(region: graph.Graph) -> None:
    """The engine deletes in the order of dependencies: an instance before its profile, group, subnet and key."""
    template = region.of(tokens.AWS_LAUNCH_TEMPLATE)["train"]
    assert {f"network|{tokens.AWS_NETWORK}", f"identity|{tokens.AWS_IDENTITY}", f"key|{tokens.AWS_KEY}",
            f"train|{tokens.AWS_PLACEMENT_GROUP}"} <= after(template)  # fmt: skip
    assert f"train|{tokens.AWS_LAUNCH_TEMPLATE}" in after(region.of(tokens.AWS_NODE_POOL)["train"])
    door = after(only(region, tokens.AWS_DOOR))
    assert {f"front|{tokens.AWS_NODE_POOL}", f"network|{tokens.AWS_NETWORK}"} <= door
    assert not any(dependency.startswith("train|") for dependency in door)
    storage = after(only(region, tokens.AWS_FILE_SYSTEM))
    assert {f"artifacts|{tokens.AWS_BUCKET}", f"network|{tokens.AWS_NETWORK}", f"key|{tokens.AWS_KEY}"} <= storage


def test_graph_every_resource_is_told_which_cloud_and_no_secret(region: graph.Graph) -> None:
    made = [r for r in region.resources if r.type.startswith("aifactory:aws:")]
    assert len(made) == 13
    for found in made:
        told = {**found.inputs["cloud"], "off_region": tuple(found.inputs["cloud"]["off_region"])}
        assert CloudInput(**told) == CloudInput(
            key="aws-eusc", region="eusc-de-east-1", account="123456789012", profile="x"
        )
        assert found.inputs["region"] == "lab"


def test_graph_network_is_the_plans(region: graph.Graph) -> None:
    network = only(region, tokens.AWS_NETWORK).inputs
    assert [(s["name"], s["public"]) for s in network["subnets"]] == [("nodes-a", False), ("public-a", True)]
    assert (network["nat"], network["lustre"], network["door_port"]) == (True, True, 443)
    assert network["egress"] == [{"cidr": "192.0.2.10/32", "port": 443}]
    assert (network["gateway_endpoints"], network["interface_endpoints"]) == (["s3"], ["ssm"])
    assert (network["api_from"], network["api_port"], network["ssh_from"]) == (["0.0.0.0/0"], 443, ["10.30.0.0/24"])


def test_graph_template_and_nodes_are_the_plans(region: graph.Graph) -> None:
    template = region.of(tokens.AWS_LAUNCH_TEMPLATE)["train"].inputs
    wanted = {
        "name": "lab-train", "image": "ami-1", "instance_type": "p6-b200.48xlarge", "efa_cards": 8, "user": "ops",
        "subnet_id": "subnet-nodes", "security_groups": ["sg-nodes"], "instance_profile": "profile",
        "key_arn": "KEY-ARN", "data_volume_gib": 500, "placement_group": "a-group", "zone": "eusc-de-east-1a",
        "authorized_key": "ssh-ed25519 PUBLIC", "capacity_kind": "reservation", "capacity_id": "cr-1",
    }  # fmt: skip
    assert {key: template[key] for key in wanted} == wanted
    pool = region.of(tokens.AWS_NODE_POOL)["train"]
    assert pool.inputs["nodes"][1] == {"name": "lab-train-001", "rank": 1, "gpus": 8, "labels": {}}
    assert (pool.inputs["generation"], pool.inputs["on_partial"]) == (3, "keep")
    assert pool.inputs["rebuild_on"] == "image=ami-1 efa=8 group=lab-train data_gib=500"
    assert (pool.inputs["bastion"], pool.inputs["bastion_host_key"]) == ("b.example.eu", "ssh-ed25519 AAAA")
    assert "ssh_private_key" in pool.secrets
    front = region.of(tokens.AWS_LAUNCH_TEMPLATE)["front"].inputs
    assert (front["efa_cards"], front["placement_group"], front["image"]) == (0, "", "ami-1")


def test_graph_storage_takes_the_key_and_the_bucket(region: graph.Graph) -> None:
    key = only(region, tokens.AWS_KEY).inputs
    assert (key["alias"], key["custody"], key["services"]) == ("alias/aifactory-lab", "customer", ["file_system"])
    bucket = only(region, tokens.AWS_BUCKET).inputs
    assert (bucket["bucket"], bucket["key_arn"], bucket["retention_days"]) == (
        "lab-artifacts-123456789012", "KEY-ARN", 30,
    )  # fmt: skip
    files = only(region, tokens.AWS_FILE_SYSTEM).inputs
    assert (files["bucket"], files["delete_data"], files["subnet_id"]) == ("a-bucket", True, "subnet-nodes")
    assert only(region, tokens.AWS_IDENTITY).inputs["bucket_arns"] == ["BUCKET-ARN"]
    assert region.outputs["storage"]["scratch"]["dns_name"] == "fs.dns"
    assert region.outputs["storage"]["artifacts"]["bucket"] == "a-bucket"


def test_graph_hosts_are_reached_with_the_regions_key_through_the_jump_host(region: graph.Graph) -> None:
    for token in (tokens.HOST_CONFIGURATION, tokens.SERVICE_SERVICE, tokens.SERVICE_ACCEPTANCE):
        for found in region.of(token).values():
            assert found.inputs["bastion"] == "b.example.eu", token
            assert "ssh_private_key" in found.secrets
    assert region.outputs["fleet"]["account"] == "123456789012"


def test_graph_door_without_a_hostname_answers_under_the_balancers_name(region: graph.Graph) -> None:
    """Its certificate is of a second set of keys: the region's own are needed before anybody knows the name."""
    door = only(region, tokens.SERVICE_FRONT_DOOR)
    assert door.inputs["hostname"] == "door.elb.example.eu"
    assert region.outputs["endpoint"] == "https://door.elb.example.eu:443"
    keys = region.of(tokens.HOST_KEYS)
    assert keys["door-keys"].inputs["server_names"] == ["door.elb.example.eu", "127.0.0.1", "localhost"]
    assert f"door-keys|{tokens.HOST_KEYS}" in after(door)
    assert f"door-keys|{tokens.HOST_KEYS}" in after(only(region, tokens.SERVICE_ACCEPTANCE))
    balancer = only(region, tokens.AWS_DOOR).inputs
    assert balancer["targets"] == ["id-lab-front-000", "id-lab-front-001"]
    assert (balancer["subnet_ids"], balancer["internal"], balancer["target_port"]) == (["subnet-public"], False, 443)


def test_graph_door_with_a_hostname_keeps_it() -> None:
    named = cloud(front_door={"hostname": "api.example.eu"})
    assert set(named.of(tokens.HOST_KEYS)) == {"keys"}
    assert only(named, tokens.SERVICE_FRONT_DOOR).inputs["hostname"] == "api.example.eu"
    assert len(named.of(tokens.AWS_DOOR)) == 1


def test_graph_region_without_services_has_no_door_and_no_second_keys() -> None:
    bare = cloud(services=[], storage=[])
    assert bare.of(tokens.AWS_DOOR) == {}
    assert set(bare.of(tokens.HOST_KEYS)) == {"keys"}
    assert set(bare.of(tokens.AWS_NODE_POOL)) == {"train", "serve"}


def test_graph_flow_logs_go_to_a_bucket_that_lets_them_in() -> None:
    logged = cloud(storage=LOGGED, network={"flow_logs": "records"})
    buckets = {name: found.inputs["log_delivery"] for name, found in logged.of(tokens.AWS_BUCKET).items()}
    assert buckets == {"artifacts": False, "records": True}
    assert only(logged, tokens.AWS_NETWORK).inputs["flow_log_bucket_arn"] == "BUCKET-ARN"
    assert only(logged, tokens.AWS_KEY).inputs["services"] == ["flow_logs", "file_system"]
    assert f"records|{tokens.AWS_BUCKET}" in after(only(logged, tokens.AWS_NETWORK))


def test_graph_without_flow_logs_the_network_waits_for_no_bucket(region: graph.Graph) -> None:
    network = only(region, tokens.AWS_NETWORK)
    assert (after(network), network.inputs["flow_log_bucket_arn"]) == (set(), "")
    assert only(region, tokens.AWS_DOOR).inputs["security_group"] == "sg-door"
