"""aws:Network: lost answers, kills, twins, drift. Real: the resource, its journal, botocore over HTTP. The cloud is the
emulator."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aifactory.provider.aws import api, network_removal, network_world
from aifactory.provider.aws.cloud import CloudInput
from aifactory.provider.aws.failures import CloudError
from aifactory.provider.resource import HalfMade, Refused

from tests.emulator import Emulator, emulator, emulator_process
from tests.provider.aws.network_ground import EMPTY, NetworkBackend, paths
from tests.provider.contract import Killed
from tests.provider.harness import Engine, context

__all__ = ["emulator", "emulator_process"]


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


# -- what goes wrong while it is made

WRITES = (
    "CreateVpc", "CreateSubnet", "CreateInternetGateway", "AttachInternetGateway", "AllocateAddress",
    "CreateNatGateway", "CreateRouteTable", "AssociateRouteTable", "CreateRoute", "CreateVpcEndpoint",
    "CreateSecurityGroup", "AuthorizeSecurityGroupIngress", "AuthorizeSecurityGroupEgress",
    "RevokeSecurityGroupEgress", "CreateFlowLogs", "ModifyVpcAttribute",
)  # fmt: skip


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less patience with what may be seen late: nothing is here, and a test is not worth the wait."""
    monkeypatch.setattr(api, "LOOKS_S", {"lost": (0.05, 0.05, 0.05), "transient": (0.05,), "exists": (0.0, 0.05)})


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("kind", ["drop-after", "drop-before", "error"])
def test_answer_of_each_write_is_lost_and_there_is_one_of_each(
    backend: NetworkBackend, engine: Engine, small: dict[str, Any], kind: str
) -> None:
    for action in WRITES:
        backend.emulator.fault(action, kind)
    engine.up(small)
    asked = backend.emulator.requests()
    assert all(asked[action] for action in WRITES)
    assert set(backend.parts()) >= {"vpc", "gateway", "address", "nat", "flow-log", "endpoint/s3", "endpoint/ec2"}
    assert paths(engine, small) == set()
    engine.destroy()
    assert backend.emulator.inventory() == EMPTY


@pytest.mark.parametrize("kind", ["drop-after", "drop-before"])
def test_answer_of_each_delete_is_lost_and_nothing_is_left(
    backend: NetworkBackend, engine: Engine, small: dict[str, Any], kind: str
) -> None:
    engine.up(small)
    for action in (
        "DeleteVpc", "DeleteSubnet", "DeleteInternetGateway", "DetachInternetGateway", "ReleaseAddress",
        "DeleteNatGateway", "DeleteRouteTable", "DisassociateRouteTable", "DeleteVpcEndpoints", "DeleteSecurityGroup",
        "RevokeSecurityGroupIngress", "RevokeSecurityGroupEgress", "DeleteFlowLogs",
    ):  # fmt: skip
        backend.emulator.fault(action, kind)
    engine.destroy()
    assert backend.emulator.inventory() == EMPTY


def test_things_that_are_not_seen_at_once_are_waited_for(
    backend: NetworkBackend, engine: Engine, small: dict[str, Any]
) -> None:
    for action in (
        "DescribeVpcs", "DescribeSubnets", "DescribeInternetGateways", "DescribeNatGateways", "DescribeAddresses",
        "DescribeRouteTables", "DescribeVpcEndpoints", "DescribeSecurityGroups", "DescribeFlowLogs",
    ):  # fmt: skip
        backend.emulator.invisible(action, reads=2)
    engine.up(small)
    backend.emulator.no_faults()
    assert paths(engine, small) == set()
    assert backend.parts()


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("action", "read"),
    [
        ("CreateVpc", "DescribeVpcs"),
        ("CreateInternetGateway", "DescribeInternetGateways"),
        ("AllocateAddress", "DescribeAddresses"),
    ],
)
def test_twin_of_a_lost_answer_that_was_seen_too_late_is_removed(
    backend: NetworkBackend, engine: Engine, small: dict[str, Any], action: str, read: str
) -> None:
    backend.emulator.fault(action, "drop-after")
    backend.emulator.invisible(read, reads=3)
    engine.up(small)
    assert backend.emulator.requests()[action] == 2
    backend.emulator.no_faults()
    assert backend.parts()
    assert paths(engine, small) == set()
    engine.destroy()
    assert backend.emulator.inventory() == EMPTY


@pytest.fixture
def known(backend: NetworkBackend) -> None:
    """Whose account it is has been asked, so that the calls of a run are the same each time."""
    api.Api(context(), CloudInput(**backend.emulator.cloud())).call("ec2", "DescribeVpcs")


class AtCall(threading.Event):
    """A cancel event that ends the verb before its nth call: by Cancelled, or dead. Nine reads and CreateVpc are the
    first ten."""

    def __init__(self, number: int, *, kill: bool) -> None:
        super().__init__()
        self._left, self._kill, self._mutex = number, kill, threading.Lock()

    def wait(self, timeout: float | None = None) -> bool:
        with self._mutex:
            self._left -= 1
        if self._left > 0:
            return super().wait(timeout)
        if self._kill:
            raise Killed
        return True


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("number", [11, 13, 17, 23, 29, 36, 44])
def test_run_that_is_killed_before_any_call_is_gone_on_with(
    backend: NetworkBackend, engine: Engine, small: dict[str, Any], number: int
) -> None:
    engine.cancel = AtCall(number, kill=True)
    with pytest.raises(Killed):
        engine.up(small)
    before = backend.parts()
    engine.forget()
    engine.up(small)
    assert before.items() <= backend.parts().items()
    assert paths(engine, small) == set()
    engine.destroy()
    assert backend.emulator.inventory() == EMPTY


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("number", [12, 24, 37])
def test_run_that_is_cancelled_before_any_call_can_be_destroyed(
    backend: NetworkBackend, engine: Engine, small: dict[str, Any], number: int
) -> None:
    engine.cancel = AtCall(number, kill=False)
    with pytest.raises(HalfMade, match="cancelled") as caught:
        engine.up(small)
    assert caught.value.outputs.vpc_id == backend.parts()["vpc"]
    engine.process()
    engine.destroy()
    assert backend.emulator.inventory() == EMPTY


@pytest.mark.parametrize("number", [5, 15, 25])
def test_destroy_that_is_killed_is_repeated(
    backend: NetworkBackend, engine: Engine, small: dict[str, Any], number: int
) -> None:
    engine.up(small)
    engine.cancel = AtCall(number, kill=True)
    with pytest.raises(Killed):
        engine.destroy()
    engine.process()
    engine.destroy()
    assert backend.emulator.inventory() == EMPTY


def test_quota_of_networks_is_refused_and_nothing_is_begun(
    backend: NetworkBackend, engine: Engine, small: dict[str, Any]
) -> None:
    backend.emulator.fault("CreateVpc", code="VpcLimitExceeded", status=400, message="The maximum has been reached")
    with pytest.raises(Refused, match="CreateVpc: VpcLimitExceeded: The maximum has been reached"):
        engine.up(small)
    assert engine.state is None
    assert backend.parts() == {}


def test_quota_of_addresses_leaves_the_rest_and_the_next_run_goes_on(
    backend: NetworkBackend, engine: Engine, small: dict[str, Any]
) -> None:
    backend.emulator.fault("AllocateAddress", code="AddressLimitExceeded", status=400)
    with pytest.raises(HalfMade, match="AllocateAddress: AddressLimitExceeded"):
        engine.up(small)
    before = backend.parts()
    assert engine.state is not None
    assert engine.state.outputs.subnet_ids
    engine.up(small)
    assert before.items() <= backend.parts().items()
    assert paths(engine, small) == set()


def test_nat_gateway_that_fails_says_why_and_the_next_run_makes_another(
    backend: NetworkBackend, engine: Engine, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = dict(network_world.READERS)

    def failed(given: Any, token: str) -> tuple[network_world.Nat, ...]:
        return tuple(replace(nat, state="failed", why="no free address") for nat in read["nats"](given, token))

    monkeypatch.setitem(network_world.READERS, "nats", failed)  # type: ignore[arg-type]
    with pytest.raises(HalfMade, match=r"nat: failed: nat-.* cannot be used; no free address"):
        engine.up(small)
    dead = backend.parts()["nat"]
    monkeypatch.setitem(network_world.READERS, "nats", read["nats"])  # type: ignore[arg-type]
    backend.kill("nat")
    engine.up(small)
    assert backend.parts()["nat"] != dead


def test_endpoint_that_the_region_does_not_have_is_named_with_the_nearest(
    backend: NetworkBackend, engine: Engine, small: dict[str, Any]
) -> None:
    with pytest.raises(HalfMade, match=r"eusc-de-east-1 has no interface endpoint for ec3; nearest: ec2"):
        engine.up({**small, "interface_endpoints": ["ec3"]})


def test_bucket_of_the_flow_log_that_is_not_there_is_named(
    backend: NetworkBackend, engine: Engine, small: dict[str, Any]
) -> None:
    with pytest.raises(HalfMade, match=r"CreateFlowLogs: .*no-such-bucket does not exist"):
        engine.up({**small, "flow_log_bucket_arn": "arn:aws-eusc:s3:::no-such-bucket"})


# -- what changes behind its back


def drifts(backend: NetworkBackend, made: Any) -> dict[str, Callable[[], Any]]:
    """Path that a preview names → what somebody did."""
    ec2, parts = backend.ec2, backend.parts()
    everywhere = [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    public, private = made.route_tables["public"], made.route_tables["private"]
    default = next(
        g["GroupId"]
        for g in ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [made.vpc_id]}])["SecurityGroups"]
        if g["GroupName"] == "default"
    )

    def link_of(subnet: str) -> str:
        tables = ec2.describe_route_tables()["RouteTables"]
        links = [link for table in tables for link in table["Associations"] if link.get("SubnetId") == subnet]
        return str(links[0]["RouteTableAssociationId"])

    return {
        "node_group.ingress": lambda: ec2.authorize_security_group_ingress(
            GroupId=made.node_group, IpPermissions=everywhere
        ),
        "node_group.egress": lambda: ec2.authorize_security_group_egress(
            GroupId=made.node_group, IpPermissions=everything
        ),
        "door_group.ingress": lambda: ec2.revoke_security_group_ingress(
            GroupId=made.door_group,
            IpPermissions=[{**everywhere[0], "FromPort": 443, "ToPort": 443}],
        ),
        "default_group.ingress": lambda: ec2.authorize_security_group_ingress(
            GroupId=default, IpPermissions=everywhere
        ),
        'route_tables["public"].routes': lambda: ec2.delete_route(
            RouteTableId=public, DestinationCidrBlock="0.0.0.0/0"
        ),
        'route_tables["private"].routes': lambda: ec2.create_route(
            RouteTableId=private, DestinationCidrBlock="172.16.0.0/12", GatewayId=parts["gateway"]
        ),
        'route_tables["private"].subnets': lambda: ec2.replace_route_table_association(
            AssociationId=link_of(made.subnet_ids["nodes-a"]), RouteTableId=public
        ),
        "enableDnsHostnames": lambda: ec2.modify_vpc_attribute(VpcId=made.vpc_id, EnableDnsHostnames={"Value": False}),
        "enableDnsSupport": lambda: ec2.modify_vpc_attribute(VpcId=made.vpc_id, EnableDnsSupport={"Value": False}),
        'endpoints["s3"].route_tables': lambda: ec2.modify_vpc_endpoint(
            VpcEndpointId=parts["endpoint/s3"], RemoveRouteTableIds=[private]
        ),
        'endpoints["ec2"].groups': lambda: ec2.modify_vpc_endpoint(
            VpcEndpointId=parts["endpoint/ec2"], AddSecurityGroupIds=[default]
        ),
        "flow_log": lambda: backend.kill("flow-log"),
        'endpoints["ec2"]': lambda: backend.kill("endpoint/ec2"),
        "nat_address": lambda: backend.kill("nat"),
        "internet_gateway": lambda: (
            backend.kill("nat"),
            ec2.detach_internet_gateway(InternetGatewayId=parts["gateway"], VpcId=made.vpc_id),
        ),
    }


def test_each_drift_is_named_mended_and_said(backend: NetworkBackend, engine: Engine, small: dict[str, Any]) -> None:
    made = engine.up(small).outputs
    before = backend.parts()
    for path, damage in drifts(backend, made).items():
        damage()
        assert path in paths(engine, small), path
        engine.lines.log.clear()
        engine.up(small)
        assert any(line.startswith(f"{path}: ") and " → " in line for line in engine.lines.log), engine.lines.log
        assert paths(engine, small) == set(), path
    kept = {part: name for part, name in before.items() if part.partition("/")[0] not in ("nat", "flow-log")}
    kept.pop("endpoint/ec2")
    assert kept.items() <= backend.parts().items()
    engine.destroy()
    assert backend.emulator.inventory() == EMPTY


def test_lines_of_what_was_mended_say_old_and_new(
    backend: NetworkBackend, engine: Engine, small: dict[str, Any]
) -> None:
    made = engine.up(small).outputs
    drifts(backend, made)["door_group.ingress"]()
    engine.up(small)
    assert engine.lines.log == ["door_group.ingress: nothing → tcp 443 0.0.0.0/0"]


def test_network_that_is_gone_is_made_anew(backend: NetworkBackend, engine: Engine, small: dict[str, Any]) -> None:
    old = engine.up(small).outputs.vpc_id
    while backend.kill_part():
        pass
    assert paths(engine, small) == {"vpc_id"}
    assert engine.refresh() is None
    assert engine.up(small).outputs.vpc_id != old
    assert paths(engine, small) == set()


def test_node_of_somebody_else_in_it_keeps_it_and_is_named(
    backend: NetworkBackend, engine: Engine, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = engine.up(small).outputs
    card = backend.ec2.create_network_interface(SubnetId=made.subnet_ids["nodes-a"], Description="somebody's")
    name = card["NetworkInterface"]["NetworkInterfaceId"]
    monkeypatch.setattr(network_removal, "BUSY_S", 0.0)
    with pytest.raises(Refused, match=rf"network aifactory-t-eu still has something in it: {name} \(somebody's\)"):
        engine.destroy()
    assert engine.state is not None
    backend.ec2.delete_network_interface(NetworkInterfaceId=name)
    engine.destroy()
    assert backend.emulator.inventory() == EMPTY


def test_network_of_another_deployment_is_left_alone_and_its_holder_named(
    backend: NetworkBackend, engine: Engine, small: dict[str, Any]
) -> None:
    other = Engine(backend.resource, deployment="d-other")
    other.up(small)
    there = backend.emulator.inventory()
    with pytest.raises(Refused, match=r"exists already and belongs to region \S+ of deployment d-other"):
        engine.up(small)
    assert backend.emulator.inventory() == there
    assert other.preview(small)[0].output_updates == ()  # type: ignore[union-attr]


def test_list_of_what_was_not_deleted_counts_unless_it_is_gone() -> None:
    """EC2 answers 200 to a call of many, and says inside what it did not do."""

    def answer(code: str) -> dict[str, object]:
        return {"Unsuccessful": [{"ResourceId": "vpce-1", "Error": {"Code": code, "Message": "told to"}}]}

    network_removal._successful("DeleteVpcEndpoints", lambda: answer("InvalidVpcEndpoint.NotFound"))
    with pytest.raises(CloudError, match="DeleteVpcEndpoints: InvalidParameter: told to"):
        network_removal._successful("DeleteVpcEndpoints", lambda: answer("InvalidParameter"))
