"""aws:NodePool. Real: the resource, its journal, botocore over HTTP. The cloud is the emulator: no machine boots, a
console is a text, logins are stood in for where a test says so."""

from __future__ import annotations

import functools
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aifactory.provider import reach
from aifactory.provider.aws import api, gang, node_pool
from aifactory.provider.aws.node_pool import NodePool
from aifactory.provider.host.key_material import ssh_key_pair
from aifactory.provider.resource import UNKNOWN, HalfMade, Refused
from aifactory.provider.static.login import Refusal

from tests.emulator import Emulator, emulator, emulator_process
from tests.provider.aws.pools import HOST_KEY, POOL, REGION, ZONE, Ground, console, name, unhurried
from tests.provider.contract import Backend, Contract, first_token
from tests.provider.harness import DEPLOYMENT, CheckFailed, urn

__all__ = ["emulator", "emulator_process"]


class PoolBackend(Backend):
    """Two nodes whose host keys are on their consoles; slow: the consoles stay empty."""

    def __init__(self, ground: Ground) -> None:
        self.ground, self.resource = ground, NodePool()
        self.quick()

    def values(self) -> dict[str, Any]:
        return self.ground.values(2, host_keys="console", bastion="", ssh_private_key="")

    def changed(self) -> dict[str, Any]:
        return {**self.values(), "ready_timeout_s": 901}

    def parts(self) -> dict[str, str]:
        return self.ground.ids()

    def kill_part(self) -> str | None:
        for which, instance in self.parts().items():
            self.ground.kill(instance)
            return which
        return None

    def slow(self) -> None:
        self.ground.emulator.console("")

    def quick(self) -> None:
        self.ground.emulator.console(console())


@pytest.fixture
def ground(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path / "home"))
    unhurried(monkeypatch)
    return Ground(emulator)


class TestContract(Contract):
    @pytest.fixture
    def backend(self, ground: Ground) -> Backend:
        return PoolBackend(ground)


# -- what is made


def test_create_makes_nodes_in_rank_order_with_equal_tags(ground: Ground) -> None:
    made = ground.engine().up(ground.values(3))
    assert made.id == f"{REGION}-{POOL}"
    assert {host.name: host.id for host in made.outputs.hosts} == ground.ids()
    assert [host.rank for host in made.outputs.hosts] == [0, 1, 2]
    host, raw = made.outputs.hosts[2], {one["InstanceId"]: one for one in ground.instances()}
    assert host.address == host.node_address == raw[host.id]["PrivateIpAddress"]
    assert (host.port, host.user, host.zone, host.serial, host.gpus) == (22, "ops", ZONE, host.id, 8)
    assert host.created_at == raw[host.id]["LaunchTime"].isoformat(timespec="seconds")
    assert host.labels == {"rack": "r2"}
    marks = [{tag["Key"]: tag["Value"] for tag in one["Tags"]} for one in raw.values()]
    assert marks[0] == marks[1] == marks[2]
    assert marks[0]["aifactory.token"] == first_token(NodePool())
    assert marks[0]["aifactory.urn"] == urn(NodePool())
    assert marks[0]["aifactory.deployment"] == DEPLOYMENT
    assert (marks[0]["Name"], marks[0]["aifactory.first"]) == (f"{REGION}-{POOL}", "0")


def test_volumes_and_interfaces_carry_the_tags_too(ground: Ground) -> None:
    ground.engine().up(ground.values(1))
    asked = [{"Name": "tag:aifactory.token", "Values": [first_token(NodePool())]}]
    assert len(ground.ec2.describe_volumes(Filters=asked)["Volumes"]) == 1


@pytest.mark.parametrize("nodes", [1, 101])
def test_create_costs_two_reads_and_a_call_for_a_hundred(ground: Ground, nodes: int) -> None:
    ground.engine().up(ground.values(nodes))
    asked = ground.emulator.requests()
    assert asked["RunInstances"] == -(-nodes // 100)
    assert asked["DescribeInstances"] in (2, 1 + -(-nodes // 100)), "a look before, a look after"
    assert len(ground.ids()) == nodes


def test_unchanged_diff_costs_one_paged_read(ground: Ground) -> None:
    engine = ground.engine()
    engine.up(ground.values(3))
    ground.emulator.forget_counts()
    diff, _ = engine.preview(ground.values(3))
    assert diff is not None
    assert not diff.changes
    assert ground.emulator.requests() == {"DescribeInstances": 1}


def test_capacity_of_every_kind_is_asked_for_by_its_own_arguments(ground: Ground) -> None:
    ground.emulator.reservation("cr-0123456789abcdef0", "p6-b200.48xlarge", ZONE, 2)
    kinds = {"capacity_kind": "reservation", "capacity_id": "cr-0123456789abcdef0"}
    engine = ground.engine()
    engine.up(ground.values(2, **kinds))
    assert {one["CapacityReservationId"] for one in ground.instances()} == {"cr-0123456789abcdef0"}
    engine.destroy()
    engine.up(ground.values(1, capacity_kind="spot"))
    assert ground.instances()[0]["InstanceLifecycle"] == "spot"


# -- host keys and logins


def test_host_key_is_read_from_the_console_of_new_nodes_only(ground: Ground) -> None:
    ground.emulator.console(console())
    engine = ground.engine()
    made = engine.up(ground.values(2, host_keys="console"))
    assert {host.host_key for host in made.outputs.hosts} == {HOST_KEY}
    ground.emulator.forget_counts()
    made = engine.up(ground.values(3, host_keys="console"))
    assert ground.emulator.requests()["GetConsoleOutput"] == 1
    assert [host.host_key for host in made.outputs.hosts] == [HOST_KEY] * 3


def test_console_that_lags_is_waited_for(ground: Ground) -> None:
    engine = ground.engine()

    def boot() -> None:
        while not engine.lines.progress or "host key" not in engine.lines.progress[-1]:
            threading.Event().wait(0.02)
        ground.emulator.console(console())

    booting = threading.Thread(target=boot)
    booting.start()
    made = engine.up(ground.values(2, host_keys="console"))
    booting.join()
    assert made.outputs.hosts[1].host_key == HOST_KEY
    assert engine.lines.progress[-1] == "2/2 nodes ready"


def test_console_without_a_key_names_the_node_and_what_to_do(ground: Ground) -> None:
    engine = ground.engine()
    with pytest.raises(HalfMade) as stop:
        engine.up(ground.values(2, host_keys="console", ready_timeout_s=1))
    (reason,) = stop.value.reasons
    first = stop.value.outputs.hosts[0]
    assert f"{first.name} ({first.id})" in reason
    assert "get-console-output" in reason
    assert "keys_to_console" in reason
    ground.emulator.console(console())
    assert engine.up(ground.values(2, host_keys="console")).outputs.hosts[0].host_key == HOST_KEY
    assert ground.emulator.requests()["RunInstances"] == 1, "the next up goes on with the same nodes"


def test_console_with_two_keys_is_not_trusted(ground: Ground) -> None:
    ground.emulator.console(console() + console(ssh_key_pair()[1]))
    with pytest.raises(HalfMade, match="more than one ed25519"):
        ground.engine().up(ground.values(1, host_keys="console"))


def test_login_with_the_consoles_key_decides_whether_a_node_is_ready(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground.emulator.console(console())
    keys, tries = [], {"left": 1}

    def refusal(logins: Any, host: Any, *_: Any) -> Refusal | None:
        keys.append(host.host_key)
        tries["left"] -= 1
        return Refusal("unreachable", "no answer") if tries["left"] >= 0 else None

    monkeypatch.setattr(reach, "silence", lambda host: "")
    monkeypatch.setattr(reach, "refusal", refusal)
    monkeypatch.setattr(reach, "LOGIN_PAUSES_S", (0.1,))
    values = ground.values(1, host_keys="console", ssh_private_key=ssh_key_pair()[0])
    ground.engine().up(values)
    assert keys == [HOST_KEY, HOST_KEY]
    assert ground.emulator.requests()["GetConsoleOutput"] == 1, "a key that is known is not asked for again"


def test_node_with_another_host_key_than_its_console_is_named(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    ground.emulator.console(console())
    monkeypatch.setattr(reach, "silence", lambda host: "")
    monkeypatch.setattr(reach, "refusal", lambda *_: Refusal("host_key", "wrong host key: seen SHA256:x"))
    values = ground.values(1, host_keys="console", ssh_private_key=ssh_key_pair()[0])
    with pytest.raises(HalfMade, match="wrong host key: seen SHA256:x"):
        ground.engine().up(values)


def test_bastion_is_not_bypassed_by_a_look_at_the_port(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    ground.emulator.console(console())
    monkeypatch.setattr(reach, "silence", lambda host: pytest.fail("the node was spoken to directly"))
    monkeypatch.setattr(reach, "refusal", lambda *_: None)
    more = {"bastion": "ops@bastion.example", "bastion_host_key": HOST_KEY}
    ground.engine().up(ground.values(1, host_keys="console", ssh_private_key=ssh_key_pair()[0], **more))


# -- the world changes


def test_node_that_starts_is_waited_for(ground: Ground) -> None:
    ground.emulator.pending(1.0)
    engine = ground.engine()
    engine.up(ground.values(2))
    assert {one["State"]["Name"] for one in ground.instances()} == {"running"}
    assert "0/2 nodes ready, 2 start" in engine.lines.progress


def test_dead_node_is_named_by_the_diff_and_only_it_is_made_again(ground: Ground) -> None:
    engine = ground.engine()
    engine.up(ground.values(5))
    before = ground.ids()
    ground.kill(before[name(1)], before[name(3)])
    diff, planned = engine.preview(ground.values(5))
    assert diff is not None
    assert diff.output_updates == ("hosts[1]", "hosts[3]")
    assert [host is UNKNOWN for host in planned.hosts] == [False, True, False, True, False]
    engine.lines.log.clear()
    made = engine.up(ground.values(5))
    after = ground.ids()
    told = [f"hosts[{i}]: {name(i)} ({before[name(i)]}) gone → running" for i in (1, 3)]
    assert engine.lines.log == told
    assert {n for n in after if after[n] != before[n]} == {name(1), name(3)}
    assert {host.name: host.id for host in made.outputs.hosts} == after


def test_stopped_node_is_started_and_keeps_its_id(ground: Ground) -> None:
    engine = ground.engine()
    made = engine.up(ground.values(2))
    ground.ec2.stop_instances(InstanceIds=[made.outputs.hosts[1].id])
    diff, _ = engine.preview(ground.values(2))
    assert diff is not None
    assert diff.output_updates == ("hosts[1]",)
    engine.lines.log.clear()
    again = engine.up(ground.values(2))
    (told,) = engine.lines.log
    assert told == f"hosts[1]: {name(1)} ({made.outputs.hosts[1].id}) stopped → running"
    assert [host.id for host in again.outputs.hosts] == [host.id for host in made.outputs.hosts]
    assert {one["State"]["Name"] for one in ground.instances()} == {"running"}


def test_node_keeps_the_time_it_was_made_at_whatever_ec2_calls_its_launch(ground: Ground) -> None:
    """EC2's launch time changes with every start."""
    engine = ground.engine()
    state = engine.up(ground.values(1))
    (host,) = state.outputs.hosts
    early = replace(host, created_at="2026-01-01T00:00:00+00:00")
    engine.state = replace(state, outputs=replace(state.outputs, hosts=(early,)))
    assert engine.up(ground.values(1, ready_timeout_s=901)).outputs.hosts == (early,)


def test_growing_adds_at_the_end_and_asks_for_nothing_else(ground: Ground) -> None:
    engine = ground.engine()
    engine.up(ground.values(2))
    before = ground.ids()
    ground.emulator.forget_counts()
    diff, _ = engine.preview(ground.values(3))
    assert diff is not None
    assert diff.updates == ("nodes[2]",)
    engine.up(ground.values(3))
    assert before.items() <= ground.ids().items()
    assert ground.emulator.requests()["RunInstances"] == 1


def test_shrinking_removes_from_the_end_and_waits_until_they_are_gone(ground: Ground) -> None:
    engine = ground.engine()
    engine.up(ground.values(4))
    before = ground.ids()
    made = engine.up(ground.values(2))
    assert ground.ids() == {n: before[n] for n in (name(0), name(1))}
    assert [host.name for host in made.outputs.hosts] == [name(0), name(1)]
    diff, _ = engine.preview(ground.values(2))
    assert diff is not None
    assert not diff.changes


@pytest.mark.parametrize("field", [{"generation": 2}, {"user": "core"}, {"rebuild_on": "root: 300"}])
def test_what_a_node_cannot_change_rolls_through_the_pool(
    ground: Ground, field: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = ground.engine()
    engine.up(ground.values(3))
    before, fewest = ground.ids(), [3]
    ask = gang.Gang._ask

    def watched(self: gang.Gang, call: str) -> None:
        ask(self, call)
        fewest.append(len(ground.instances()))

    monkeypatch.setattr(gang.Gang, "_ask", watched)
    made = engine.up(ground.values(3, **field))
    assert made.id == f"{REGION}-{POOL}", "a rebuild is no replacement of the pool"
    assert not set(ground.ids().values()) & set(before.values())
    assert fewest == [3, 3, 3, 3], "more than one node at a time"
    assert engine.operations == ["create", "update"]


def test_roll_stops_at_the_first_node_that_does_not_come_back(ground: Ground) -> None:
    ground.emulator.console(console())
    engine = ground.engine()
    engine.up(ground.values(3, host_keys="console"))
    before = set(ground.ids().values())
    ground.emulator.console("")
    with pytest.raises(HalfMade, match=name(0)):
        engine.up(ground.values(3, host_keys="console", generation=2, ready_timeout_s=1))
    assert len(before & set(ground.ids().values())) == 2
    ground.emulator.console(console())
    engine.up(ground.values(3, host_keys="console", generation=2))
    assert not before & set(ground.ids().values())


def test_new_template_version_touches_no_node(ground: Ground) -> None:
    engine = ground.engine()
    engine.up(ground.values(2))
    before = ground.ids()
    ground.ec2.create_launch_template_version(
        LaunchTemplateId=ground.template, SourceVersion="1", LaunchTemplateData={"InstanceType": "p5.48xlarge"}
    )
    engine.up(ground.values(2, template_version=2))
    assert ground.ids() == before
    engine.up(ground.values(3, template_version=2))
    types = {one["InstanceId"]: one["InstanceType"] for one in ground.instances()}
    assert types[ground.ids()[name(2)]] == "p5.48xlarge"


@pytest.mark.parametrize("part", ["key", "region", "account"])
def test_another_cloud_replaces_and_another_profile_touches_nothing(ground: Ground, part: str) -> None:
    engine = ground.engine()
    state = engine.up(ground.values(1))
    other = {"key": "aws", "region": "eu-west-1", "account": "210987654321"}[part]
    moved = replace(state.inputs, cloud=replace(state.inputs.cloud, **{part: other}))
    diff = engine.resource.diff(engine.context(), state.id, state.inputs, state.outputs, moved)
    assert diff.replaces == (f"cloud.{part}",)
    assert diff.delete_before_replace
    before = ground.ids()
    engine.up(ground.values(1, cloud={**ground.emulator.cloud(), "off_region": ["iam"]}))
    assert ground.ids() == before


def test_pool_whose_cloud_cannot_be_asked_is_not_unchanged(ground: Ground) -> None:
    engine = ground.engine()
    engine.up(ground.values(1))
    ground.emulator.deny(DescribeInstances="ec2:DescribeInstances")
    with pytest.raises(Refused, match="DescribeInstances: UnauthorizedOperation"):
        engine.preview(ground.values(1))


def test_update_that_cannot_look_changes_no_state(ground: Ground) -> None:
    ground.emulator.console(console())
    engine = ground.engine()
    state = engine.up(ground.values(2, host_keys="console"))
    notes = dict(ground.journal().data["nodes"])
    ground.emulator.deny(DescribeInstances="ec2:DescribeInstances")
    with pytest.raises(Refused, match="UnauthorizedOperation"):
        engine.resource.update(engine.context(), state.id, state.inputs, state.outputs, state.inputs)
    assert ground.journal().data["nodes"] == notes
    assert {note["key"] for note in notes.values()} == {HOST_KEY}


# -- capacity


def test_capacity_that_is_gone_keeps_what_came(ground: Ground) -> None:
    ground.emulator.capacity(ZONE, 5)
    engine = ground.engine()
    with pytest.raises(HalfMade, match=rf"5 of 8 in zone {ZONE}; policy: keep: ") as stop:
        engine.up(ground.values(8, on_partial="keep"))
    assert list(ground.ids()) == [name(i) for i in range(5)]
    assert [host.name for host in stop.value.outputs.hosts] == list(ground.ids())
    kept = ground.ids()
    ground.emulator.capacity(ZONE, 8)
    engine.up(ground.values(8, on_partial="keep"))
    assert kept.items() <= ground.ids().items()
    assert len(ground.ids()) == 8


def test_capacity_that_is_gone_gives_back_what_came(ground: Ground) -> None:
    ground.emulator.capacity(ZONE, 5)
    engine = ground.engine()
    with pytest.raises(Refused, match=rf"5 of 8 in zone {ZONE}; policy: release: 5 of them are given back"):
        engine.up(ground.values(8))
    assert ground.instances() == []
    assert engine.state is None
    assert not ground.journal().exists


def test_release_while_growing_gives_back_only_what_this_run_made(ground: Ground) -> None:
    engine = ground.engine()
    engine.up(ground.values(3))
    before = ground.ids()
    ground.emulator.capacity(ZONE, 4)
    with pytest.raises(HalfMade, match=r"4 of 6 .*policy: release: 1 of them"):
        engine.up(ground.values(6))
    assert ground.ids() == before


def test_shortage_asks_for_halves_and_ends_soon(ground: Ground) -> None:
    ground.emulator.capacity(ZONE, 0)
    with pytest.raises(Refused, match="0 of 64 in zone"):
        ground.engine().up(ground.values(64))
    assert ground.emulator.requests()["RunInstances"] == 7, "64, 32, 16, 8, 4, 2, 1"


def test_replaced_node_waits_for_the_capacity_that_it_gave_back(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = ground.engine()
    engine.up(ground.values(1))
    ground.emulator.fault(
        "RunInstances", code="InsufficientInstanceCapacity", status=500, message="none right now", count=2
    )
    monkeypatch.setattr(gang, "FREED_PAUSE_S", 0.1)
    engine.up(ground.values(1, generation=2))
    assert len(ground.ids()) == 1


def test_quota_stops_at_once(ground: Ground) -> None:
    ground.emulator.fault("RunInstances", code="VcpuLimitExceeded", status=400, message="limit of 192", count=-1)
    with pytest.raises(Refused, match="VcpuLimitExceeded: limit of 192"):
        ground.engine().up(ground.values(64))
    assert ground.emulator.requests()["RunInstances"] == 1


def test_node_that_ends_while_it_starts_is_named_with_the_reason(ground: Ground) -> None:
    ground.emulator.pending(2.0)
    engine = ground.engine()

    def end() -> None:
        while not engine.lines.progress or "start" not in engine.lines.progress[-1]:
            threading.Event().wait(0.02)
        ground.kill(ground.ids()[name(1)])

    ending = threading.Thread(target=end)
    ending.start()
    with pytest.raises(HalfMade, match=rf"{name(1)}: ended by itself: Client.UserInitiatedShutdown"):
        engine.up(ground.values(2, ready_timeout_s=20))
    ending.join()


# -- whose is what


def test_instances_of_ours_that_nothing_names_are_ended_by_the_next_up(ground: Ground) -> None:
    engine = ground.engine()
    engine.up(ground.values(2))
    before = ground.ids()
    stray = ground.plant(2, **{"aifactory.token": first_token(NodePool())})
    diff, _ = engine.preview(ground.values(2))
    assert diff is not None
    assert diff.output_updates == ("hosts",)
    engine.up(ground.values(2))
    assert {one["InstanceId"] for one in ground.instances()} == set(before.values())
    assert any(stray[0] in line for line in engine.lines.log)


def test_instances_of_others_are_left_alone(ground: Ground) -> None:
    (foreign,) = ground.plant(1, **{"Name": f"{REGION}-{POOL}", "aifactory.token": "0" * 32})
    engine = ground.engine()
    engine.up(ground.values(1))
    engine.destroy()
    assert [one["InstanceId"] for one in ground.instances()] == [foreign]


def test_second_claim_of_one_place_is_settled_for_the_known_one(ground: Ground) -> None:
    engine = ground.engine()
    engine.up(ground.values(2))
    before = ground.ids()
    marks = {tag["Key"]: tag["Value"] for tag in ground.instances()[0]["Tags"] if tag["Key"][:4] != "aws:"}
    ground.plant(1, **{**marks, "aifactory.first": "1"})
    engine.up(ground.values(2))
    assert ground.ids() == before


def test_journal_and_state_lost_everything_is_adopted(ground: Ground, tmp_path: Path) -> None:
    engine = ground.engine()
    engine.up(ground.values(3))
    engine.up(ground.values(3, generation=2))
    before = ground.ids()
    engine.forget()
    (tmp_path / "home").rename(tmp_path / "lost")
    made = engine.up(ground.values(3, generation=2))
    assert ground.ids() == before
    assert {host.name: host.id for host in made.outputs.hosts} == before


def test_generation_and_first_run_give_the_pool_one_token(ground: Ground) -> None:
    engine = ground.engine()
    assert engine.check(ground.values(1, generation=7)).token == first_token(NodePool())


def test_delete_after_a_lost_answer_finds_what_was_made(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_pool, "Api", functools.partial(api.Api, patience_s=-1.0))
    ground.emulator.fault("RunInstances", "drop-after")
    engine = ground.engine()
    with pytest.raises(HalfMade):
        engine.up(ground.values(2))
    assert len(ground.instances()) == 2
    assert engine.state is not None
    engine.destroy()
    assert ground.instances() == []


def test_delete_waits_to_see_what_a_lost_answer_has_made(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_pool, "Api", functools.partial(api.Api, patience_s=-1.0))
    ground.emulator.invisible("DescribeInstances", reads=0, seconds=3)
    ground.emulator.fault("RunInstances", "drop-after")
    engine = ground.engine()
    with pytest.raises(HalfMade):
        engine.up(ground.values(2))
    engine.destroy()
    assert "ec2:instance" not in ground.emulator.inventory()


def test_refresh_of_a_half_made_pool_stays_half_made(ground: Ground) -> None:
    engine = ground.engine()
    with pytest.raises(HalfMade):
        engine.up(ground.values(1, host_keys="console", ready_timeout_s=1))
    with pytest.raises(HalfMade, match="not ready yet"):
        engine.refresh()


def test_refresh_of_a_pool_that_is_gone_forgets_it(ground: Ground) -> None:
    engine = ground.engine()
    engine.up(ground.values(2))
    ground.kill(*ground.ids().values())
    assert engine.refresh() is None


def test_reasons_are_told_once_for_all_nodes_they_are_true_of(ground: Ground) -> None:
    with pytest.raises(HalfMade) as stop:
        ground.engine().up(ground.values(9, host_keys="console", ready_timeout_s=1))
    (reason,) = stop.value.reasons
    assert "and 6 more: not ready within 1 s" in reason


def test_wrong_inputs_are_named_all_at_once(ground: Ground) -> None:
    nodes = [{"name": "Bad_Name", "rank": 0}, {"name": "a", "rank": 1}, {"name": "a", "rank": 2}]
    more = {"user": "o p", "generation": 0, "capacity_kind": "reservation", "bastion": "b", "nodes": nodes}
    with pytest.raises(CheckFailed) as stop:
        ground.engine().check({**ground.values(), **more})
    wrong = {failure.property for failure in stop.value.failures}
    assert wrong == {"user", "generation", "capacity_id", "bastion_host_key", "nodes[0].name", "nodes[2].name"}
    with pytest.raises(CheckFailed, match="takes none"):
        ground.engine().check(ground.values(capacity_id="cr-1"))


def test_roll_share_never_takes_more_than_five_percent() -> None:
    assert max(1, 1000 // node_pool.ROLL_SHARE) <= 50
