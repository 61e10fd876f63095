"""A region in a cloud of the AWS family. Real: spec, catalogue, plan."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from aifactory.errors import ProblemError
from aifactory.plan import build, render
from aifactory.plan.model import AwsPlan

from tests.unit.plan import regions

POOL = {"name": "train", "shape": "p6-b200.48xlarge", "nodes": 16, "image": "ami-1"}
CHAT = {"name": "chat", "model": "apertus-70b", "pool": "train"}


def spec(*, provider: dict[str, Any] | None = None, **sections: Any) -> regions.Region:
    cloud: dict[str, Any] = {
        "kind": "aws",
        "partition": "aws-eusc",
        "region": "eusc-de-east-1",
        "account": "123456789012",
        "zones": ["eusc-de-east-1a"],
        "credentials": {"profile": "x"},
    }
    return regions.spec(provider={**cloud, **(provider or {})}, **{"pools": [POOL], **sections})


def planned(region: regions.Region) -> AwsPlan:
    aws = build.plan(region).aws
    assert aws is not None
    return aws


def refused(region: regions.Region) -> list[tuple[str, str | None]]:
    with pytest.raises(ProblemError) as caught:
        build.plan(region)
    return [(p.rule, p.path) for p in caught.value.problems]


def test_other_providers_have_none() -> None:
    assert build.plan(regions.example("local")).aws is None
    assert build.plan(regions.example("oslo-lab")).aws is None


def test_closed_region_without_services_has_no_public_subnet_and_no_door() -> None:
    aws = planned(spec())
    assert (aws.nat.value, aws.egress, aws.door) == (False, (), None)
    assert [s.public for s in aws.subnets] == [False]


def test_egress_is_by_address_and_port_and_a_name_is_everywhere() -> None:
    aws = planned(spec(network={"egress": ["192.0.2.10:443", "mirror.example.eu:80", "mirror.example.eu:443"]}))
    assert aws.nat.value
    assert [(e.cidr, e.port) for e in aws.egress] == [("0.0.0.0/0", 80), ("0.0.0.0/0", 443), ("192.0.2.10/32", 443)]
    assert [s.name for s in aws.subnets] == ["nodes-a", "public-a"]


@pytest.mark.parametrize("zones", [1, 2, 3, 4])
@pytest.mark.parametrize("cidr", ["10.20.0.0/16", "10.20.1.0/24"])
def test_subnets_are_inside_apart_and_big_enough_for_the_cloud(zones: int, cidr: str) -> None:
    names = [f"eusc-de-east-1{letter}" for letter in "abcd"[:zones]]
    region = spec(provider={"zones": names}, pools=[{**POOL, "nodes": 1}], network={"cidr": cidr, "egress": ["a.b:1"]})
    if cidr.endswith("/24") and zones == 4:
        assert refused(region) == [("PLAN-014", "provider.zones")]
        return
    aws = planned(region)
    parts = [ipaddress.IPv4Network(s.cidr.value) for s in aws.subnets]
    assert len(parts) == 2 * zones
    assert all(part.subnet_of(ipaddress.IPv4Network(cidr)) and 16 <= part.prefixlen <= 28 for part in parts)
    assert not any(a.overlaps(b) for i, a in enumerate(parts) for b in parts[:i])
    assert [s.zone for s in aws.subnets] == names * 2


def test_no_subnet_moves_when_pools_grow_or_services_come() -> None:
    small = planned(spec(pools=[{**POOL, "nodes": 1}]))
    grown = planned(spec(services=[CHAT], network={"egress": ["a.b:443"]}))
    assert small.subnets[0].cidr == grown.subnets[0].cidr


def test_addresses_every_network_card_takes_one() -> None:
    aws = planned(spec(services=[CHAT], network={"private_endpoints": ["ssm", "ecr.api"]}))
    nodes = aws.subnets[0].addresses
    assert nodes.value == 16 * 8 + 2 + 2 + 5
    assert "16 × 8 of train" in nodes.reason
    assert aws.interface_endpoints == ("ecr.api", "ssm")


def test_addresses_that_do_not_fit_are_refused_with_the_sum() -> None:
    region = spec(pools=[{**POOL, "nodes": 20}], network={"cidr": "10.20.1.0/24"})
    with pytest.raises(ProblemError, match=r"take 165 addresses \(20 × 8 of train"):
        build.plan(region)
    assert refused(region) == [("PLAN-014", "network.cidr")]


def test_region_without_a_zone_is_refused() -> None:
    assert refused(spec(provider={"zones": []})) == [("PLAN-013", "provider.zones")]


def test_front_nodes_stand_in_the_first_pools_zone_and_take_its_image() -> None:
    zones = ["eusc-de-east-1a", "eusc-de-east-1b"]
    plan = build.plan(spec(provider={"zones": zones}, pools=[{**POOL, "zone": zones[1]}], services=[CHAT]))
    assert plan.aws
    front = plan.aws.pools[1]
    assert {n.zone for n in plan.pools[1].nodes} == {zones[1]} == {front.zone}
    assert (front.image.value, front.efa_cards.value, front.placement_group) == ("ami-1", 0, None)
    assert plan.aws.door
    assert plan.aws.door.subnets == ("public-b",)
    own = planned(spec(services=[CHAT], front_door={"image": "ami-2"}))
    assert own.pools[1].image.value == "ami-2"


def test_pool_facts_are_those_of_the_file() -> None:
    capacity = {"kind": "reservation", "id": "cr-1", "on_partial": "keep"}
    pool = {**POOL, "placement": "cluster", "capacity": capacity, "root_volume_gib": 200, "data_volume_gib": 500}
    (made,) = planned(spec(pools=[pool])).pools
    assert (made.placement_group, made.placement.value) == ("lab-train", "cluster")
    assert (made.capacity_kind, made.capacity_id, made.on_partial) == ("reservation", "cr-1", "keep")
    assert (made.root_volume_gib, made.data_volume_gib, made.instance_type) == (200, 500, "p6-b200.48xlarge")


@pytest.mark.parametrize("nodes", [1, 16])
def test_placement_default_does_not_change_when_a_pool_grows(nodes: int) -> None:
    (made,) = planned(spec(pools=[{**POOL, "nodes": nodes}])).pools
    assert (made.placement.value, made.placement_group) == ("cluster", "lab-train")
    (plain,) = planned(spec(pools=[{**POOL, "nodes": nodes, "placement": "none"}])).pools
    assert (plain.placement.value, plain.placement_group) == ("none", None)


def test_efa_cards_none_where_the_fabric_is_another() -> None:
    (made,) = planned(spec(fabric={"kind": "tcp"})).pools
    assert (made.efa_cards.value, made.efa_cards.reason) == (0, "the fabric is tcp")


@pytest.mark.parametrize(
    ("sources", "internal"), [(["10.0.0.0/8"], True), (["0.0.0.0/0"], False), (["10.0.0.0/8", "192.0.2.0/24"], False)]
)
def test_door_is_internal_only_where_nobody_comes_from_outside(sources: list[str], internal: bool) -> None:
    aws = planned(spec(services=[CHAT], network={"ingress": {"api": sources}}))
    assert aws.door
    assert aws.door.internal.value == internal
    assert [s.public for s in aws.subnets] == ([False] if internal else [False, True])
    assert set(aws.door.subnets) <= {s.name for s in aws.subnets}


def test_door_without_a_hostname_has_the_name_that_the_cloud_gives() -> None:
    door = build.plan(spec(services=[CHAT])).front_door
    assert door
    assert (door.hostname, door.endpoint) == ("", "https://(the load balancer's name)")
    assert door.server_names == ("127.0.0.1", "localhost")


def test_storage_lustre_and_buckets() -> None:
    storage = [
        {"name": "scratch", "kind": "lustre", "capacity_gib": 1200, "mount": "/s", "bucket": "files"},
        {"name": "files", "kind": "object", "retention_days": 3},
    ]
    aws = planned(spec(storage=storage))
    (scratch,), (files,) = aws.file_systems, aws.buckets
    assert (scratch.throughput_mb_s_per_tib.value, scratch.subnet, scratch.bucket) == (125, "nodes-a", "files")
    assert scratch.delete_data is False
    assert (files.bucket, files.retention_days) == ("lab-files-123456789012", 3)


def test_off_region_services_are_those_of_the_own_country_and_those_waived() -> None:
    london = {"partition": "aws", "region": "eu-west-2", "zones": ["eu-west-2a"]}
    waiver = {"check": "LOC-07", "scope": "iam", "reason": "no other way", "owner": "a", "expires": "2027-01-01"}
    assert planned(spec(provider=london)).cloud.off_region == ()
    assert planned(spec(provider=london, acceptance={"waivers": [waiver]})).cloud.off_region == ("iam",)
    gov = {"partition": "aws-us-gov", "region": "us-gov-west-1", "zones": ["us-gov-west-1a"]}
    assert planned(spec(provider=gov, jurisdiction={"country": "US"})).cloud.off_region == ("iam",)


def test_credentials_are_named_not_carried() -> None:
    cloud = planned(spec(provider={"credentials": {"env_prefix": "EU_"}, "endpoints": {"ec2": "https://e.eu"}})).cloud
    assert (cloud.profile, cloud.env_prefix, cloud.role_arn) == (None, "EU_", None)
    assert cloud.endpoints == (("ec2", "https://e.eu"),)


def test_jump_host_of_the_file_is_the_plans() -> None:
    ssh = {"source": ["10.30.0.0/24"], "bastion": "b.example.eu", "bastion_host_key": "ssh-ed25519 AAAA"}
    plan = build.plan(spec(provider={"ssh": ssh}))
    assert (plan.ssh_user, plan.ssh_bastion, plan.ssh_bastion_host_key) == ("ops", "b.example.eu", "ssh-ed25519 AAAA")
    assert plan.aws
    assert plan.aws.ssh_from == ("10.30.0.0/24",)


def test_table_says_what_leaves_and_who_comes_in() -> None:
    text = render.table(build.plan(spec(services=[CHAT], network={"egress": ["192.0.2.10:443"]})))
    for fact in (
        "AWS European Sovereign Cloud",
        "TCP 443 to 192.0.2.10/32, through NAT",
        "SSH from nowhere",
        "on demand",
    ):
        assert fact in text
    assert "leaves: nothing" in render.table(build.plan(spec()))
