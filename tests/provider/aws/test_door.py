"""aws:Door. Real: the resource, its journal, botocore over HTTP. The cloud is the emulator."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from aifactory.provider.aws import door_api, tags
from aifactory.provider.aws.door import Door
from aifactory.provider.resource import HalfMade, Refused

from tests.emulator import IMAGE, Emulator, emulator, emulator_process
from tests.provider.aws.parts import HOLDER, STRANGER, CloudBackend, CloudEngine, earlier, hasten
from tests.provider.contract import Backend, Contract, first_token
from tests.provider.harness import CheckFailed

__all__ = ["emulator", "emulator_process"]
NAME = "aifactory-t-eu"


@cache
def _client(emulator: Emulator, service: str) -> Any:
    return emulator.boto(service)


class DoorBackend(CloudBackend):
    """A network with three subnets and instances, and a load balancer before two of each."""

    def __init__(self, emulator: Emulator) -> None:
        super().__init__(emulator, Door())
        self.ec2, self.elb = _client(emulator, "ec2"), _client(emulator, "elbv2")
        self.vpc = self.ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
        self.subnets = [
            self.ec2.create_subnet(
                VpcId=self.vpc, CidrBlock=f"10.20.{i}.0/24", AvailabilityZone=f"eusc-de-east-1{zone}"
            )["Subnet"]["SubnetId"]
            for i, zone in enumerate("abc")
        ]
        self.group, self.other_group = (
            self.ec2.create_security_group(VpcId=self.vpc, GroupName=name, Description="d")["GroupId"]
            for name in ("door", "other")
        )
        run = self.ec2.run_instances(
            ImageId=IMAGE, InstanceType="m5.large", MinCount=3, MaxCount=3, SubnetId=self.subnets[0]
        )
        self.instances = [instance["InstanceId"] for instance in run["Instances"]]

    def values(self) -> dict[str, Any]:
        return {
            **self.common(), "name": NAME, "vpc_id": self.vpc, "subnet_ids": self.subnets[:2], "port": 443,
            "targets": self.instances[:2], "target_port": 8443, "security_group": self.group,
        }  # fmt: skip

    def changed(self) -> dict[str, Any]:
        return {**self.values(), "targets": self.instances[1:]}

    def balancers(self) -> list[dict[str, Any]]:
        return list(self.elb.describe_load_balancers()["LoadBalancers"])

    def groups(self) -> list[dict[str, Any]]:
        return list(self.elb.describe_target_groups()["TargetGroups"])

    def listeners(self) -> list[dict[str, Any]]:
        arns = [found["LoadBalancerArn"] for found in self.balancers()]
        return [one for arn in arns for one in self.elb.describe_listeners(LoadBalancerArn=arn)["Listeners"]]

    def targets(self) -> set[tuple[str, int]]:
        found = [
            item["Target"]
            for group in self.groups()
            for item in self.elb.describe_target_health(TargetGroupArn=group["TargetGroupArn"])[
                "TargetHealthDescriptions"
            ]
        ]
        return {(target["Id"], target["Port"]) for target in found}

    def parts(self) -> dict[str, str]:
        found = [("balancer", b["LoadBalancerArn"]) for b in self.balancers()]
        found += [("group", g["TargetGroupArn"]) for g in self.groups()]
        found += [("listener", one["ListenerArn"]) for one in self.listeners()]
        assert len(dict(found)) == len(found), f"made twice: {found}"
        return dict(found)

    def kill_part(self) -> str | None:
        parts = self.parts()
        if "listener" in parts:
            self.elb.delete_listener(ListenerArn=parts["listener"])
            return "listener"
        if "balancer" in parts:
            self.elb.delete_load_balancer(LoadBalancerArn=parts["balancer"])
            return "balancer"
        if "group" in parts:
            self.elb.delete_target_group(TargetGroupArn=parts["group"])
            return "group"
        return None

    def plant(self, found: dict[str, str], **more: Any) -> None:
        """A balancer of our name that somebody else made, or an earlier state of this deployment."""
        given = {
            "Type": "network",
            "Scheme": "internet-facing",
            "Subnets": self.subnets,
            "SecurityGroups": [self.group],
            **more,
        }
        self.elb.create_load_balancer(Name=NAME, **({"Tags": tags.pairs(found)} if found else {}), **given)

    def slow(self) -> None:
        self.stick("RegisterTargets")


class TestContract(Contract):
    @pytest.fixture
    def backend(self, emulator: Emulator) -> Backend:
        return DoorBackend(emulator)


@pytest.fixture
def backend(emulator: Emulator) -> DoorBackend:
    return DoorBackend(emulator)


@pytest.fixture
def engine(backend: DoorBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CloudEngine:
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path))
    hasten(monkeypatch)
    return CloudEngine(backend)


# -- what is made


def test_unchanged_costs_four_reads(backend: DoorBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    assert engine.unchanged_calls(backend.values()) == {
        "DescribeLoadBalancers": 1, "DescribeTargetGroups": 1, "DescribeListeners": 1, "DescribeTargetHealth": 1,
    }  # fmt: skip


def test_balancer_passes_tcp_on_to_the_nodes(backend: DoorBackend, engine: CloudEngine) -> None:
    made = engine.up(backend.values()).outputs
    (balancer,), (group,), (listener,) = backend.balancers(), backend.groups(), backend.listeners()
    assert (made.arn, made.dns_name) == (balancer["LoadBalancerArn"], balancer["DNSName"])
    assert (balancer["Type"], balancer["Scheme"]) == ("network", "internet-facing")
    assert balancer["SecurityGroups"] == [backend.group]
    assert {zone["SubnetId"] for zone in balancer["AvailabilityZones"]} == set(backend.subnets[:2])
    assert (group["Protocol"], group["Port"], group["VpcId"]) == ("TCP", 8443, backend.vpc)
    assert (group["TargetType"], group["HealthCheckProtocol"]) == ("instance", "TCP")
    assert (listener["Protocol"], listener["Port"]) == ("TCP", 443)
    assert [a["TargetGroupArn"] for a in listener["DefaultActions"]] == [group["TargetGroupArn"]]
    assert backend.targets() == {(name, 8443) for name in backend.instances[:2]}


def test_internal_balancer_has_no_address_outside(backend: DoorBackend, engine: CloudEngine) -> None:
    engine.up({**backend.values(), "internal": True})
    assert [found["Scheme"] for found in backend.balancers()] == ["internal"]


def test_every_thing_carries_the_marks(backend: DoorBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    parts = backend.parts()
    for part, name in (("balancer", "balancer"), ("group", "targets")):
        answer = backend.elb.describe_tags(ResourceArns=[parts[part]])["TagDescriptions"][0]["Tags"]
        marks = tags.read(answer)
        assert marks[tags.TOKEN] == first_token(backend.resource)
        assert (marks[tags.PART], marks["Name"]) == (name, NAME)


# -- what goes wrong while it is made


@pytest.mark.parametrize("kind", ["drop-after", "drop-before", "error"])
def test_answer_of_each_write_is_lost_and_there_is_one_of_each(
    backend: DoorBackend, engine: CloudEngine, kind: str
) -> None:
    writes = ("CreateLoadBalancer", "CreateTargetGroup", "CreateListener", "RegisterTargets")
    for action in writes:
        backend.emulator.fault(action, kind)
    engine.up(backend.values())
    asked = backend.emulator.requests()
    creates = {action: asked[action] for action in writes[:3]}
    assert creates == dict.fromkeys(writes[:3], 1 if kind == "drop-after" else 2)
    assert backend.parts().keys() == {"balancer", "group", "listener"}
    assert engine.drift(backend.values()) == ()


@pytest.mark.parametrize("kind", ["drop-after", "drop-before"])
def test_answer_of_each_delete_is_lost_and_nothing_is_left(
    backend: DoorBackend, engine: CloudEngine, kind: str
) -> None:
    engine.up(backend.values())
    for action in ("DeleteLoadBalancer", "DeleteTargetGroup"):
        backend.emulator.fault(action, kind)
    engine.destroy()
    assert backend.parts() == {}


@pytest.mark.parametrize(("found", "holder"), [({}, "something that this toolkit did not make"), (STRANGER, HOLDER)])
def test_balancer_of_somebody_else_is_refused_and_kept(
    backend: DoorBackend, engine: CloudEngine, found: dict[str, str], holder: str
) -> None:
    backend.plant(found)
    before = backend.parts()
    with pytest.raises(Refused, match=f"load balancer {NAME} exists already and belongs to {holder}"):
        engine.up(backend.values())
    assert engine.state is None
    assert backend.parts() == before


def test_target_group_of_somebody_else_keeps_the_balancer_half_made(backend: DoorBackend, engine: CloudEngine) -> None:
    backend.elb.create_target_group(Name=NAME, Protocol="TCP", Port=1, VpcId=backend.vpc, Tags=tags.pairs(STRANGER))
    with pytest.raises(HalfMade, match=f"target group {NAME} exists already and belongs to {HOLDER}"):
        engine.up(backend.values())
    assert engine.state is not None
    engine.destroy()
    assert backend.parts().keys() == {"group"}


def test_balancer_of_a_lost_state_is_adopted_and_marked_anew(backend: DoorBackend, engine: CloudEngine) -> None:
    backend.plant(earlier(backend.resource))
    arn = backend.parts()["balancer"]
    assert engine.up(backend.values()).outputs.arn == arn
    marks = tags.read(backend.elb.describe_tags(ResourceArns=[arn])["TagDescriptions"][0]["Tags"])
    assert marks[tags.TOKEN] == first_token(backend.resource)
    engine.destroy()
    assert backend.parts() == {}


def test_adopted_balancer_of_another_kind_is_refused(backend: DoorBackend, engine: CloudEngine) -> None:
    backend.plant(earlier(backend.resource), Scheme="internal")
    with pytest.raises(Refused, match=r"is there already as network, internal, vpc-.*; wanted is network, internet"):
        engine.up(backend.values())


def test_quota_of_target_groups_keeps_the_balancer_and_the_next_run_goes_on(
    backend: DoorBackend, engine: CloudEngine
) -> None:
    backend.emulator.fault("CreateTargetGroup", code="TooManyTargetGroups", status=400)
    with pytest.raises(HalfMade, match="CreateTargetGroup: TooManyTargetGroups") as caught:
        engine.up(backend.values())
    assert caught.value.outputs.arn == backend.parts()["balancer"]
    engine.up(backend.values())
    assert caught.value.outputs.arn == backend.parts()["balancer"]
    assert engine.drift(backend.values()) == ()


def test_balancer_is_waited_for_until_it_is_active(
    backend: DoorBackend, engine: CloudEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = ["provisioning", "provisioning", "active"]
    read = door_api.balancer

    def slowly(api: Any, name: str) -> Any:
        found = read(api, name)
        return found and replace(found, state=states.pop(0) if len(states) > 1 else states[0])

    monkeypatch.setattr(door_api, "balancer", slowly)
    engine.up(backend.values())
    assert states == ["active"]
    assert engine.lines.progress == [f"waiting for load balancer {NAME}"]


def test_balancer_that_fails_says_why(
    backend: DoorBackend, engine: CloudEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = door_api.balancer

    def failed(api: Any, name: str) -> Any:
        found = read(api, name)
        return found and replace(found, state="failed", why="no addresses")

    monkeypatch.setattr(door_api, "balancer", failed)
    with pytest.raises(HalfMade, match=f"load balancer {NAME}: failed: no addresses"):
        engine.up(backend.values())
    with pytest.raises(HalfMade, match=f"load balancer {NAME} is failed; no addresses"):
        engine.refresh()


# -- what changes


def drifts(backend: DoorBackend) -> dict[str, Any]:
    """What a preview names → what somebody did."""
    parts, elb = backend.parts(), backend.elb
    group, arn = parts["group"], parts["balancer"]
    first, third = backend.instances[0], backend.instances[2]
    elsewhere = elb.create_target_group(Name="else", Protocol="TCP", Port=1, VpcId=backend.vpc)["TargetGroups"][0]
    leads = [{"Type": "forward", "TargetGroupArn": elsewhere["TargetGroupArn"]}]
    return {
        "targets gone": lambda: elb.deregister_targets(TargetGroupArn=group, Targets=[{"Id": first, "Port": 8443}]),
        "targets more": lambda: elb.register_targets(TargetGroupArn=group, Targets=[{"Id": third, "Port": 8443}]),
        "port elsewhere": lambda: elb.modify_listener(ListenerArn=parts["listener"], DefaultActions=leads),
        "port more": lambda: elb.create_listener(LoadBalancerArn=arn, Protocol="TCP", Port=22, DefaultActions=leads),
        "subnet_ids": lambda: elb.set_subnets(LoadBalancerArn=arn, Subnets=backend.subnets),
        "security_group": lambda: elb.set_security_groups(
            LoadBalancerArn=arn, SecurityGroups=[backend.group, backend.other_group]
        ),
    }


def test_each_drift_is_named_mended_and_said(backend: DoorBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    before = backend.parts()
    for name, damage in drifts(backend).items():
        path = name.partition(" ")[0]
        damage()
        assert engine.drift(backend.values()) == (path,), name
        engine.lines.log.clear()
        engine.up(backend.values())
        assert len(engine.lines.log) == 1
        assert re.match(rf"{path}: .* → ", engine.lines.log[0]), engine.lines.log
        assert engine.drift(backend.values()) == (), name
    backend.elb.delete_target_group(
        TargetGroupArn=next(g["TargetGroupArn"] for g in backend.groups() if g["TargetGroupName"] == "else")
    )
    assert backend.parts() == before


def test_balancer_that_somebody_replaced_is_not_taken(backend: DoorBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    while backend.kill_part():
        pass
    backend.plant(STRANGER)
    assert engine.drift(backend.values()) == ("arn",)
    assert engine.refresh() is None


def test_new_port_comes_before_the_old_one_goes(backend: DoorBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    engine.up({**backend.values(), "port": 8080})
    assert [(one["Port"], one["Protocol"]) for one in backend.listeners()] == [(8080, "TCP")]


def test_new_port_of_the_nodes_is_registered_before_the_old_one_goes(
    backend: DoorBackend, engine: CloudEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emulator knows one port a target, so its end state is not looked at."""
    engine.up(backend.values())
    before, said = backend.parts(), []
    for name in ("register", "deregister"):
        monkeypatch.setattr(
            door_api, name, lambda api, arn, targets, name=name: said.append((name, {(t.id, t.port) for t in targets}))
        )
    engine.up({**backend.values(), "target_port": 9443})
    ours = backend.instances[:2]
    assert said == [("register", {(i, 9443) for i in ours}), ("deregister", {(i, 8443) for i in ours})]
    assert backend.parts() == before


@pytest.mark.parametrize(
    ("change", "replaced"), [({"internal": True}, "internal"), ({"name": "aifactory-other"}, "name")]
)
def test_what_it_cannot_become_replaces_it_old_one_first(
    backend: DoorBackend, engine: CloudEngine, change: dict[str, Any], replaced: str
) -> None:
    engine.up(backend.values())
    diff, _ = engine.preview({**backend.values(), **change})
    assert diff is not None
    assert diff.replaces == (replaced,)
    engine.up({**backend.values(), **change})
    assert engine.operations == ["create", "replace", "delete", "create"]
    assert backend.parts().keys() == {"balancer", "group", "listener"}


def test_delete_leaves_a_namesake_alone(backend: DoorBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    while backend.kill_part():
        pass
    backend.plant({})
    engine.destroy()
    assert backend.parts().keys() == {"balancer"}


def test_delete_waits_until_the_group_is_let_go(backend: DoorBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    backend.emulator.fault("DeleteTargetGroup", code="ResourceInUse", status=400, message="in use by a balancer")
    engine.destroy()
    assert backend.parts() == {}
    assert "still in use: in use by a balancer" in engine.lines.progress


# -- wrong inputs


@pytest.mark.parametrize("name", ["", "-a", "a-", "internal-a", "a_b", "a" * 33])
def test_name_that_the_service_does_not_take_is_refused(backend: DoorBackend, engine: CloudEngine, name: str) -> None:
    with pytest.raises(CheckFailed, match=r"name: .* is not allowed; allowed: 1 to 32 letters"):
        engine.up({**backend.values(), "name": name})


def test_everything_wrong_is_named_at_once(backend: DoorBackend, engine: CloudEngine) -> None:
    wrong = {"name": "a_b", "port": 0, "target_port": 70000, "targets": [], "subnet_ids": []}
    with pytest.raises(CheckFailed) as caught:
        engine.up({**backend.values(), **wrong})
    assert {failure.property for failure in caught.value.failures} == set(wrong)


def test_diff_that_cannot_reach_the_cloud_is_refused(backend: DoorBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    backend.emulator.deny(DescribeLoadBalancers="elasticloadbalancing:DescribeLoadBalancers")
    with pytest.raises(Refused, match="DescribeLoadBalancers: AccessDenied"):
        engine.preview(backend.values())
