"""aws:Network: what it makes and how it changes. Real: the resource, its journal, botocore over HTTP. The cloud is the
emulator."""

from __future__ import annotations

import re
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aifactory.provider.aws import network_rules, tags
from aifactory.provider.aws.api import Api
from aifactory.provider.aws.network_rules import Rule
from aifactory.provider.resource import UNKNOWN, Refused

from tests.emulator import Emulator, emulator, emulator_process
from tests.provider.aws.network_ground import LOGS, SUBNETS, ZONE_A, ZONE_B, NetworkBackend, paths, subnet
from tests.provider.contract import Backend, Contract, first_token
from tests.provider.harness import CheckFailed, Engine

__all__ = ["emulator", "emulator_process"]


class TestContract(Contract):
    @pytest.fixture
    def backend(self, emulator: Emulator) -> Backend:
        return NetworkBackend(emulator)


@pytest.fixture
def backend(emulator: Emulator) -> NetworkBackend:
    return NetworkBackend(emulator)


@pytest.fixture
def engine(backend: NetworkBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path))
    return Engine(backend.resource)


@pytest.fixture
def small(backend: NetworkBackend) -> dict[str, Any]:
    return backend.small()


def unchanged_calls(engine: Engine, backend: NetworkBackend, values: dict[str, Any]) -> Counter[str]:
    backend.emulator.forget_counts()
    assert paths(engine, values) == set()
    return backend.emulator.requests()


def groups(backend: NetworkBackend) -> dict[str, tuple[network_rules.Rules, network_rules.Rules]]:
    """Name → rules in and out of each group of our VPC."""
    vpc = backend.parts()["vpc"]
    listed = backend.ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["SecurityGroups"]
    return {
        group["GroupName"]: (
            network_rules.read(group["IpPermissions"]), network_rules.read(group["IpPermissionsEgress"])
        )
        for group in listed
    }  # fmt: skip


# -- what is made


def test_unchanged_costs_ten_reads(backend: NetworkBackend, engine: Engine) -> None:
    engine.up(backend.values())
    asked = unchanged_calls(engine, backend, backend.values())
    assert sum(asked.values()) <= 10
    assert all(action.startswith("Describe") for action in asked)


def test_unchanged_closed_network_costs_fewer(backend: NetworkBackend, engine: Engine) -> None:
    values = backend.closed()
    made = engine.up(values)
    assert set(backend.parts()) == {"vpc", "subnet/nodes-a", "table/private", "group/nodes", "group/door"}
    assert made.outputs.nat_address == ""
    assert sum(unchanged_calls(engine, backend, values).values()) == 6


def test_parts_that_need_not_wait_for_each_other_are_made_at_the_same_time(
    backend: NetworkBackend, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eleven creates need the VPC and nothing else."""
    once, mutex = Api._once, threading.Lock()
    running, most = 0, 0

    def counted(self: Api, service: str, action: str, params: Any) -> Any:
        nonlocal running, most
        with mutex:
            running += action.startswith("Create")
            most = max(most, running)
        try:
            return once(self, service, action, params)
        finally:
            with mutex:
                running -= action.startswith("Create")

    monkeypatch.setattr(Api, "_once", counted)
    backend.emulator.latency(100)
    engine.up(backend.values())
    assert most >= 8


def test_outputs_are_what_stands_there(backend: NetworkBackend, engine: Engine) -> None:
    made, parts = engine.up(backend.values()).outputs, backend.parts()
    assert made.vpc_id == parts["vpc"]
    assert made.subnet_ids == {s["name"]: parts[f"subnet/{s['name']}"] for s in SUBNETS}
    assert (made.node_group, made.door_group) == (parts["group/nodes"], parts["group/door"])
    assert made.route_tables == {name: parts[f"table/{name}"] for name in ("public", "private")}
    address = backend.ec2.describe_addresses(AllocationIds=[parts["address"]])["Addresses"][0]
    assert made.nat_address == address["PublicIp"]


def test_groups_let_through_what_was_asked_for_and_nothing_else(backend: NetworkBackend, engine: Engine) -> None:
    made = engine.up(backend.values()).outputs
    nodes, door, (s3,) = made.node_group, made.door_group, s3_lists(backend)
    found = groups(backend)
    assert found.pop("default") == (frozenset(), frozenset())
    assert found == {
        "aifactory-t-eu-nodes": (
            {
                Rule(nodes), Rule(door, "tcp", 8443, 8443), Rule("198.51.100.7/32", "tcp", 22, 22),
                Rule(nodes, "tcp", 988, 988), Rule(nodes, "tcp", 1018, 1023),
            },
            {
                Rule(nodes), Rule("0.0.0.0/0", "tcp", 443, 443), Rule("192.0.2.0/24", "tcp", 8080, 8080),
                Rule(s3, "tcp", 443, 443),
            },
        ),
        "aifactory-t-eu-door": ({Rule("0.0.0.0/0", "tcp", 443, 443)}, {Rule(nodes, "tcp", 8443, 8443)}),
    }  # fmt: skip


def s3_lists(backend: NetworkBackend) -> list[str]:
    listed = backend.ec2.describe_prefix_lists()["PrefixLists"]
    return [found["PrefixListId"] for found in listed if found["PrefixListName"].endswith(".s3")]


def test_nothing_leaves_a_closed_network(backend: NetworkBackend, engine: Engine) -> None:
    made = engine.up({**backend.common(), "cidr": "10.20.0.0/16", "subnets": SUBNETS[:2]}).outputs
    assert groups(backend)["aifactory-t-eu-nodes"][1] == {Rule(made.node_group)}
    assert groups(backend)["aifactory-t-eu-door"][0] == frozenset()
    tables = backend.ec2.describe_route_tables(RouteTableIds=[made.route_tables["private"]])["RouteTables"]
    assert [route["GatewayId"] for route in tables[0]["Routes"]] == ["local"]


def test_nodes_leave_by_the_nat_and_the_public_subnets_by_the_gateway(backend: NetworkBackend, engine: Engine) -> None:
    made, parts = engine.up(backend.values()).outputs, backend.parts()
    listed = backend.ec2.describe_route_tables(RouteTableIds=list(made.route_tables.values()))["RouteTables"]
    found = {
        table["RouteTableId"]: (
            {link["SubnetId"] for link in table["Associations"]},
            {r.get("GatewayId") or r.get("NatGatewayId") for r in table["Routes"]} - {"local", parts["endpoint/s3"]},
        )
        for table in listed
    }
    subnets = made.subnet_ids
    assert found == {
        parts["table/public"]: ({subnets["public-a"], subnets["public-b"]}, {parts["gateway"]}),
        parts["table/private"]: ({subnets["nodes-a"], subnets["nodes-b"]}, {parts["nat"]}),
    }


def test_endpoints_stand_in_the_nodes_subnets_and_group_with_their_names(
    backend: NetworkBackend, engine: Engine
) -> None:
    made = engine.up(backend.values()).outputs
    listed = {
        e["ServiceName"]: e for e in backend.ec2.describe_vpc_endpoints()["VpcEndpoints"] if e["State"] != "deleted"
    }
    assert set(listed) == {f"com.amazonaws.eusc-de-east-1.{name}" for name in ("s3", "ec2", "ssm")}
    for name in ("ec2", "ssm"):
        endpoint = listed[f"com.amazonaws.eusc-de-east-1.{name}"]
        assert set(endpoint["SubnetIds"]) == {made.subnet_ids["nodes-a"], made.subnet_ids["nodes-b"]}
        assert [group["GroupId"] for group in endpoint["Groups"]] == [made.node_group]
        assert endpoint["PrivateDnsEnabled"]
    gateway = listed["com.amazonaws.eusc-de-east-1.s3"]
    assert (gateway["VpcEndpointType"], set(gateway["RouteTableIds"])) == ("Gateway", set(made.route_tables.values()))


def test_every_thing_carries_the_marks(backend: NetworkBackend, engine: Engine) -> None:
    engine.up(backend.values())
    for item in backend.ec2.describe_subnets()["Subnets"]:
        marks = tags.read(item["Tags"]) if item["VpcId"] == backend.parts()["vpc"] else None
        if marks is not None:
            assert marks[tags.DEPLOYMENT] == "t-deployment"
            assert marks[tags.TOKEN] == first_token(backend.resource)
            assert marks["Name"] == f"aifactory-t-eu-{marks[tags.PART].replace('/', '-')}"


def test_flow_log_records_everything_in_the_bucket(backend: NetworkBackend, engine: Engine) -> None:
    made = engine.up(backend.values()).outputs
    (log,) = backend.ec2.describe_flow_logs()["FlowLogs"]
    assert (log["ResourceId"], log["TrafficType"], log["LogDestination"]) == (made.vpc_id, "ALL", LOGS)


# -- what changes in the region file


def test_nat_goes_with_its_address_and_route_and_comes_back(
    backend: NetworkBackend, engine: Engine, small: dict[str, Any]
) -> None:
    engine.up(small)
    closed = {**small, "nat": False}
    assert engine.up(closed).outputs.nat_address == ""
    assert {"nat", "address"}.isdisjoint(backend.parts())
    assert "gateway" in backend.parts()
    assert paths(engine, closed) == set()
    engine.up(small)
    assert {"nat", "address"} <= backend.parts().keys()
    assert paths(engine, small) == set()


def test_gateway_goes_with_the_last_public_subnet(
    backend: NetworkBackend, engine: Engine, small: dict[str, Any]
) -> None:
    engine.up({**small, "nat": False})
    inside = {**small, "nat": False, "subnets": [SUBNETS[0]], "gateway_endpoints": [], "interface_endpoints": []}
    engine.up({**inside, "flow_log_bucket_arn": ""})
    assert set(backend.parts()) == {"vpc", "subnet/nodes-a", "table/private", "group/nodes", "group/door"}
    assert paths(engine, {**inside, "flow_log_bucket_arn": ""}) == set()


def test_second_zone_is_added_without_touching_the_first(
    backend: NetworkBackend, engine: Engine, small: dict[str, Any]
) -> None:
    engine.up(small)
    before = backend.parts()
    wide = {**small, "subnets": SUBNETS}
    made = engine.up(wide).outputs
    assert before.items() <= backend.parts().items()
    assert set(made.subnet_ids) == {s["name"] for s in SUBNETS}
    endpoints = backend.ec2.describe_vpc_endpoints(VpcEndpointIds=[before["endpoint/ec2"]])["VpcEndpoints"]
    assert set(endpoints[0]["SubnetIds"]) == {made.subnet_ids["nodes-a"], made.subnet_ids["nodes-b"]}
    assert paths(engine, wide) == set()


def test_flow_log_moves_to_another_bucket(backend: NetworkBackend, engine: Engine, small: dict[str, Any]) -> None:
    engine.up(small)
    backend.bucket("other-logs")
    engine.up({**small, "flow_log_bucket_arn": "arn:aws-eusc:s3:::other-logs"})
    logs = backend.ec2.describe_flow_logs()["FlowLogs"]
    assert [log["LogDestination"] for log in logs] == ["arn:aws-eusc:s3:::other-logs"]


@pytest.mark.parametrize(
    ("change", "replaced"), [({"cidr": "10.30.0.0/16"}, "cidr"), ({"region": "t-other"}, "region")]
)
def test_another_range_or_region_replaces(
    backend: NetworkBackend, engine: Engine, change: dict[str, Any], replaced: str
) -> None:
    values = backend.closed()
    engine.up(values)
    moved = [{**SUBNETS[0], "cidr": "10.30.64.0/18"}] if "cidr" in change else [SUBNETS[0]]
    diff, _ = engine.preview({**values, **change, "subnets": moved})
    assert diff is not None
    assert diff.replaces == (replaced,)


def test_preview_knows_what_stays_and_not_what_is_to_come(
    backend: NetworkBackend, engine: Engine, small: dict[str, Any]
) -> None:
    assert engine.preview(small)[1].vpc_id is UNKNOWN
    made = engine.up(small).outputs
    _, outs = engine.preview({**small, "subnets": SUBNETS, "nat": False})
    assert (outs.vpc_id, outs.node_group) == (made.vpc_id, made.node_group)
    assert outs.subnet_ids is UNKNOWN
    assert outs.nat_address is UNKNOWN
    _, outs = engine.preview({**small, "egress_ports": [5432]})
    assert outs == made


# -- wrong inputs

BAD = {
    "not a network": ({"cidr": "10.0.0.0/33"}, ["cidr: '10.0.0.0/33'|33"]),
    "too wide": ({"cidr": "10.0.0.0/8"}, ["cidr: 10.0.0.0/8 is no /16 to /28"]),
    "outside": (
        {"subnets": [subnet("nodes", ZONE_A, "192.168.0.0/24")]},
        [r"subnets\[0\].cidr: 192.168.0.0/24 is not in 10.20.0.0/16"],
    ),
    "overlap": (
        {"subnets": [subnet("nodes", ZONE_A, "10.20.0.0/17"), subnet("nodes", ZONE_B, "10.20.64.0/18")]},
        [r"nodes-a \(10.20.0.0/17\) and nodes-b \(10.20.64.0/18\) overlap"],
    ),
    "twice": ({"subnets": [SUBNETS[0], {**SUBNETS[0], "cidr": "10.20.0.0/24"}]}, ["nodes-a is there twice"]),
    "no subnet": ({"subnets": []}, ["subnets: names none"]),
    "nat without a place": ({"nat": True}, ["nat: a NAT gateway stands in a public subnet, and there is none"]),
    "unknown gateway endpoint": ({"gateway_endpoints": ["ec2"]}, [r"gateway_endpoints\[0\]: ec2 is none of s3"]),
    "s3 by an address": ({"interface_endpoints": ["s3"]}, ["s3 has a gateway endpoint"]),
    "another partition's bucket": (
        {"flow_log_bucket_arn": "arn:aws:s3:::logs"},
        ["flow_log_bucket_arn: arn:aws:s3:::logs is not arn:aws-eusc:s3:::BUCKET"],
    ),
    "everything at once": (
        {"api_port": 0, "egress_ports": [70000], "ssh_from": ["here"], "egress": [{"cidr": "x", "port": -1}]},
        ["api_port: 0 is no TCP port", r"egress_ports\[0\]: 70000", r"ssh_from\[0\]", r"egress\[0\].port", "cidr"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_before_a_call(backend: NetworkBackend, engine: Engine, name: str) -> None:
    change, says = BAD[name]
    values = backend.closed()
    backend.emulator.forget_counts()
    with pytest.raises(CheckFailed) as caught:
        engine.up({**values, **change})
    for text in says:
        assert re.search(text, str(caught.value)), str(caught.value)
    assert not backend.emulator.requests()


def test_subnet_cannot_move(backend: NetworkBackend, engine: Engine) -> None:
    values = backend.closed()
    engine.up(values)
    with pytest.raises(CheckFailed, match=r"nodes-a is 10.20.64.0/18 in eusc-de-east-1a, private, and stays so"):
        engine.up({**values, "subnets": [{**SUBNETS[0], "zone": ZONE_B}]})


def test_bucket_that_is_not_known_yet_does_not_hide_other_mistakes(engine: Engine, backend: NetworkBackend) -> None:
    values = {**backend.common(), "cidr": "10.0.0.0/8", "subnets": [SUBNETS[0]], "flow_log_bucket_arn": UNKNOWN}
    with pytest.raises(CheckFailed, match="is no /16 to /28"):
        engine.preview(values)


def test_diff_that_cannot_reach_the_cloud_is_refused(backend: NetworkBackend, engine: Engine) -> None:
    values = backend.closed()
    engine.up(values)
    backend.emulator.deny(DescribeSubnets="ec2:DescribeSubnets")
    with pytest.raises(Refused, match=r"DescribeSubnets: UnauthorizedOperation.*ec2:DescribeSubnets"):
        engine.preview(values)
