"""The gang of a cloud: which node is which, and what is left after kills and faults. Real: the resource, its journal,
botocore over HTTP; kills are kill -9 of a process. The cloud is the emulator."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from aifactory.provider.aws import clients, gang, instances_api, node_pool
from aifactory.provider.aws.api import Api
from aifactory.provider.aws.capacity import options
from aifactory.provider.aws.instances_api import Instance
from aifactory.provider.aws.limiter import Limiter
from aifactory.provider.aws.places import placed, runs
from aifactory.provider.resource import Cancelled, HalfMade

from tests.emulator import Emulator, emulator, emulator_process
from tests.provider.aws.pools import Ground, name, unhurried
from tests.provider.harness import Engine

__all__ = ["emulator", "emulator_process"]
TAKE = Limiter.take


@pytest.fixture
def ground(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path / "home"))
    unhurried(monkeypatch)
    return Ground(emulator)


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes a call, one call at a time, so that "the second call" means something."""
    monkeypatch.setattr(gang, "LARGEST", 2)
    monkeypatch.setattr(gang, "AT_ONCE", 1)


# -- which is which


def node(id: str, first: int | None = 0, at: int = 0, batch: str = "b", **more: Any) -> Instance:
    return Instance(id, more.pop("state", "running"), batch=batch, first=first, launch_index=at, **more)


def test_placed_by_launch_index_also_when_a_neighbour_has_ended() -> None:
    found = [node("i-2", 4, 2), node("i-0", 4, 0)]
    nodes, surplus = placed(found, {}, 8)
    assert {at: one.id for at, one in nodes.items()} == {4: "i-0", 6: "i-2"}
    assert surplus == []


def test_placed_by_id_where_the_cloud_gives_no_launch_index() -> None:
    found = [node("i-c", 2), node("i-a", 2), node("i-b", 2), node("i-z", 0, batch="c")]
    nodes, _ = placed(found, {}, 8)
    assert {at: one.id for at, one in nodes.items()} == {0: "i-z", 2: "i-a", 3: "i-b", 4: "i-c"}


def test_placed_known_goes_before_tags_and_the_oldest_before_the_younger() -> None:
    found = [node("i-a", 0, launched="2026-01-02"), node("i-b", 0, batch="c", launched="2026-01-01")]
    assert placed(found, {}, 1)[0][0].id == "i-b"
    nodes, surplus = placed(found, {"i-a": 0}, 1)
    assert nodes[0].id == "i-a"
    assert [one.id for one in surplus] == ["i-b"]


def test_placed_where_state_or_journal_had_it_whatever_its_tags_say() -> None:
    nodes, surplus = placed([node("i-a", 0), node("i-b", None, batch="")], {"i-a": 3, "i-b": 0}, 8)
    assert {at: one.id for at, one in nodes.items()} == {0: "i-b", 3: "i-a"}
    assert surplus == []


def test_placed_beyond_the_end_or_without_a_place_is_surplus() -> None:
    found = [node("i-a", 7), node("i-b", None), node("i-c", 0, batch="c", state="shutting-down")]
    nodes, surplus = placed(found, {}, 7)
    assert nodes == {}
    assert {one.id for one in surplus} == {"i-a", "i-b"}


def test_runs_have_no_gaps_and_no_more_than_a_call_takes() -> None:
    assert list(runs([7, 0, 1, 2, 4], 100)) == [range(3), range(4, 5), range(7, 8)]
    assert [len(run) for run in runs(range(250), 100)] == [100, 100, 50]
    assert list(runs([], 100)) == []


def test_capacity_arguments_are_those_of_the_service_model() -> None:
    import botocore.session
    from botocore.validate import ParamValidator

    model = botocore.session.get_session().get_service_model("ec2")
    validator = ParamValidator()
    for kind, name_ in (
        ("reservation", "cr-1"),
        ("reservation", "arn:aws:x"),
        ("capacity_block", "cr-1"),
        ("spot", ""),
    ):
        found = options(kind, name_)  # type: ignore[arg-type]
        assert found
        call = {"MinCount": 1, "MaxCount": 1, **found}
        assert not validator.validate(call, model.operation_model("RunInstances").input_shape).has_errors()
        template = {"LaunchTemplateName": "abc", "LaunchTemplateData": found}
        assert not validator.validate(template, model.operation_model("CreateLaunchTemplate").input_shape).has_errors()
    assert options("on_demand", "") == {}
    assert options("capacity_block", "cr-1")["InstanceMarketOptions"] == {"MarketType": "capacity-block"}


# -- kill -9

_VICTIM = """
import json, os, signal, sys
from aifactory.provider.aws import gang, instances_api
from aifactory.provider.aws.node_pool import NodePool
from tests.provider.harness import Engine

job = json.load(sys.stdin)
gang.LARGEST, gang.AT_ONCE = 2, 1
calls = 0

def deadly(real):
    def verb(*args, **more):
        global calls
        calls += 1
        if calls == job["call"] and job["before"]:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = real(*args, **more)
        if calls == job["call"] and not job["before"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer
    return verb

engine = Engine(NodePool())
if job["first"]:
    engine.up(job["first"])
where = gang.Gang if job["verb"].startswith("_") else instances_api
setattr(where, job["verb"], deadly(getattr(where, job["verb"])))
engine.up(job["values"])
print("survived")
"""


def kill(values: dict[str, Any], verb: str, call: int, *, before: bool = False, first: Any = None) -> None:
    """Runs a process that dies at the nth call of a verb, before or after it did its work."""
    job = {"values": values, "verb": verb, "call": call, "before": before, "first": first}
    victim = subprocess.run(
        [sys.executable, "-c", _VICTIM], input=json.dumps(job), text=True, capture_output=True, timeout=120,
        check=False, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert victim.returncode == -9, victim.stdout + victim.stderr


def settled(ground: Ground, engine: Engine, values: dict[str, Any]) -> None:
    """I1, I2, I3: as many as wanted, none that nobody names, a further run writes nothing; and all of it can go."""
    wanted = [one["name"] for one in values["nodes"]]
    assert list(ground.ids()) == wanted
    assert engine.state is not None
    assert {host.name: host.id for host in engine.state.outputs.hosts} == ground.ids()
    journal = ground.journal()
    assert journal.data["batches"] == {}
    assert set(journal.data["nodes"]) == set(ground.ids().values())
    ground.emulator.forget_counts()
    engine.up(values)
    assert set(ground.emulator.requests()) == {"DescribeInstances"}
    engine.destroy()
    assert ground.instances() == []
    assert "ec2:volume" not in ground.emulator.inventory()


POINTS = {
    "nothing was asked": ("run", 1, True),
    "reply, but no journal write": ("run", 1, False),
    "first reply": ("_note", 1, False),
    "half of the replies": ("_note", 2, False),
    "all but the last": ("_note", 3, False),
    "all": ("_note", 4, False),
}


@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS.keys())
def test_create_killed_then_created_makes_exactly_as_many(ground: Ground, point: tuple[str, int, bool]) -> None:
    verb, call, before = point
    values = ground.values(7)
    kill(values, verb, call, before=before)
    left = ground.ids()
    engine = ground.engine()
    engine.up(values)
    assert left.items() <= ground.ids().items(), "what a killed run made was made again"
    settled(ground, engine, values)


def test_killed_call_is_made_again_with_the_same_client_token(ground: Ground) -> None:
    kill(ground.values(2), "run", 1, before=True)
    assert ground.instances() == []
    journal = ground.journal()
    (batch,) = journal.data["batches"].values()
    ground.engine().up(ground.values(2))
    assert {one["ClientToken"] for one in ground.instances()} == {batch["call"]["ClientToken"]}


@pytest.mark.parametrize("lost", ["batches", "everything"])
def test_create_killed_and_journal_lost_adopts_by_tag(ground: Ground, lost: str, tmp_path: Path) -> None:
    kill(ground.values(6), "run", 2)
    left = ground.ids()
    assert len(left) == 4
    if lost == "everything":
        (tmp_path / "home").rename(tmp_path / "lost")
    else:
        journal = ground.journal()
        journal.data.clear()
        journal.save()
    engine = ground.engine()
    engine.up(ground.values(6))
    assert left.items() <= ground.ids().items()
    settled(ground, engine, ground.values(6))


def test_killed_create_of_a_larger_pool_leaves_no_orphan_behind(ground: Ground) -> None:
    """The region file was changed between: what the killed run had asked for is not wanted any more."""
    kill(ground.values(6), "run", 3)
    assert len(ground.instances()) == 6
    engine = ground.engine()
    engine.up(ground.values(3))
    settled(ground, engine, ground.values(3))


def test_killed_growth_is_gone_on_with(ground: Ground) -> None:
    kill(ground.values(6), "run", 1, first=ground.values(2))
    left = ground.ids()
    assert len(left) == 4
    engine = ground.engine()  # its state is lost too
    engine.up(ground.values(6))
    assert left.items() <= ground.ids().items()
    settled(ground, engine, ground.values(6))


def test_killed_roll_goes_on_where_it_was(ground: Ground) -> None:
    kill(ground.values(3, generation=2), "run", 2, first=ground.values(3))
    specs = {which: _spec(ground, which) for which in ground.ids()}
    assert len(specs) == 3
    assert len(set(specs.values())) == 2, "two of the new, one of the old"
    engine = ground.engine()
    engine.up(ground.values(3, generation=2))
    assert len({_spec(ground, which) for which in ground.ids()}) == 1
    settled(ground, engine, ground.values(3, generation=2))


def test_killed_create_can_be_destroyed_without_being_made(ground: Ground) -> None:
    kill(ground.values(4), "run", 2)
    assert len(ground.instances()) == 4
    engine = ground.engine()
    inputs = engine.check(ground.values(4))
    outputs = node_pool.NodePoolOutputs((), "", ground.journal().nonce)
    engine.resource.delete(engine.context(), "t-eu-train", inputs, outputs)
    assert ground.instances() == []
    assert not ground.journal().exists


# -- faults


@pytest.mark.parametrize("kind", ["drop-after", "drop-before", "error"])
def test_answer_or_request_that_is_lost_makes_no_second_node(ground: Ground, kind: str, pairs: None) -> None:
    ground.emulator.fault("RunInstances", kind, skip=1, count=1)
    engine = ground.engine()
    engine.up(ground.values(4))
    assert ground.emulator.requests()["RunInstances"] == 3
    settled(ground, engine, ground.values(4))


@pytest.mark.parametrize("action", ["DescribeInstances", "TerminateInstances"])
@pytest.mark.parametrize("kind", ["drop-after", "drop-before", "error"])
def test_other_lost_answers_change_nothing(ground: Ground, action: str, kind: str) -> None:
    engine = ground.engine()
    ground.emulator.fault(action, kind, count=1)
    engine.up(ground.values(2))
    engine.up(ground.values(1))
    settled(ground, engine, ground.values(1))


def test_call_that_is_never_answered_is_given_up_and_made_again(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "READ_TIMEOUT_S", 1)
    values = ground.values(2, cloud={**ground.emulator.cloud(), "off_region": ["hang"]})  # clients of its own
    ground.emulator.fault("RunInstances", "hang", seconds=30)
    engine = ground.engine()
    begun = time.monotonic()
    engine.up(values)
    ground.emulator.no_faults()
    assert time.monotonic() - begun < 25
    assert list(ground.ids()) == [name(0), name(1)]


def test_nodes_that_are_not_seen_for_a_while_are_not_made_again(ground: Ground) -> None:
    ground.emulator.invisible("DescribeInstances", reads=3)
    engine = ground.engine()
    engine.up(ground.values(2))
    assert ground.emulator.requests()["RunInstances"] == 1
    settled(ground, engine, ground.values(2))


def test_nodes_of_a_killed_run_that_are_not_seen_yet_are_waited_for(ground: Ground) -> None:
    ground.emulator.invisible("DescribeInstances", seconds=6)
    kill(ground.values(2), "_note", 1)
    engine = ground.engine()
    engine.up(ground.values(2))
    assert ground.emulator.requests()["RunInstances"] == 1
    assert len(ground.ids()) == 2


def test_node_that_is_ended_before_it_was_ever_seen_is_ended_all_the_same(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EC2 says that an id does not exist for some seconds after it gave it."""
    engine = ground.engine()
    engine.up(ground.values(2))
    which = ground.ids()[name(1)]
    said = f"The instance ID '{which}' does not exist"
    ground.emulator.fault("TerminateInstances", code="InvalidInstanceID.NotFound", status=400, message=said, count=1)
    engine.up(ground.values(1))
    assert list(ground.ids()) == [name(0)]
    assert ground.emulator.requests()["TerminateInstances"] == 2


def test_unknown_id_among_those_to_be_ended_hides_no_other(ground: Ground) -> None:
    engine = ground.engine()
    engine.up(ground.values(3))
    api = Api(engine.context(), engine.check(ground.values(3)).cloud)
    instances_api.terminate(api, ["i-0123456789abcdef0", *ground.ids().values()])
    assert ground.instances() == []


@pytest.mark.parametrize("code", ["IdempotentInstanceTerminated", "IdempotentParameterMismatch"])
def test_spent_client_token_is_not_asked_with_for_ever(ground: Ground, code: str) -> None:
    kill(ground.values(2), "run", 1, before=True)
    ground.emulator.fault("RunInstances", code=code, status=400, message="spent", count=1)
    engine = ground.engine()
    engine.up(ground.values(2))
    settled(ground, engine, ground.values(2))


def test_batch_of_a_killed_run_that_somebody_ended_is_made_anew(ground: Ground) -> None:
    kill(ground.values(2), "run", 1)
    ground.kill(*ground.ids().values())
    engine = ground.engine()
    engine.up(ground.values(2))
    settled(ground, engine, ground.values(2))


def test_credentials_that_expire_in_mid_launch_lose_nothing(ground: Ground, pairs: None) -> None:
    ground.emulator.fault("RunInstances", code="ExpiredToken", status=400, message="expired", skip=1, count=1)
    engine = ground.engine()
    with pytest.raises(HalfMade, match="ExpiredToken") as stop:
        engine.up(ground.values(4))
    kept = ground.ids()
    assert [host.name for host in stop.value.outputs.hosts] == list(kept)
    engine.up(ground.values(4))
    assert kept.items() <= ground.ids().items()
    settled(ground, engine, ground.values(4))


def test_published_buckets_refuse_next_to_nothing(ground: Ground, pairs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limiter, "take", TAKE)
    ground.emulator.limits()
    ground.engine().up(ground.values(12))
    assert ground.emulator.throttled()["RunInstances"] <= 1
    assert len(ground.ids()) == 12


def test_cancel_in_mid_launch_keeps_what_came_and_forgets_no_call(ground: Ground, pairs: None) -> None:
    ground.emulator.fault("RunInstances", "hang", seconds=1, skip=1, count=1)
    engine = ground.engine()
    threading.Timer(0.7, engine.cancel.set).start()
    begun = time.monotonic()
    with pytest.raises((HalfMade, Cancelled)):
        engine.up(ground.values(8))
    assert time.monotonic() - begun < 30
    assert engine.state is not None
    left = ground.ids()
    assert 0 < len(left) < 8
    engine.process()
    engine.up(ground.values(8))
    assert left.items() <= ground.ids().items()
    settled(ground, engine, ground.values(8))


def _spec(ground: Ground, which: str) -> str:
    marks = {one["InstanceId"]: {t["Key"]: t["Value"] for t in one["Tags"]} for one in ground.instances()}
    return marks[ground.ids()[which]]["aifactory.spec"]
