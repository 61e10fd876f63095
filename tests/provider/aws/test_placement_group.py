"""aws:PlacementGroup. Real: the resource, its journal, botocore over HTTP. The cloud is the emulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aifactory.provider.aws import placement_group, tags
from aifactory.provider.aws.placement_group import PlacementGroup
from aifactory.provider.resource import Refused

from tests.emulator import Emulator
from tests.provider.aws.parts import HOLDER, STRANGER, CloudBackend, CloudEngine, earlier, hasten, kill_at_every_write
from tests.provider.contract import Contract
from tests.provider.harness import CheckFailed

NAME = "t-eu-train"


class GroupBackend(CloudBackend):
    def __init__(self, emulator: Emulator) -> None:
        super().__init__(emulator, PlacementGroup())
        self.ec2 = emulator.boto("ec2")

    def values(self) -> dict[str, Any]:
        return {**self.common(), "name": NAME, "strategy": "cluster"}

    def parts(self) -> dict[str, str]:
        return {g["GroupName"]: g["GroupId"] for g in self.ec2.describe_placement_groups()["PlacementGroups"]}

    def kill_part(self) -> str | None:
        for name in self.parts():
            self.ec2.delete_placement_group(GroupName=name)
            return name
        return None

    def plant(self, strategy: str, found: dict[str, str]) -> None:
        """A group that somebody else made, or an earlier state of this deployment."""
        marks = {"TagSpecifications": tags.specification("placement-group", found)} if found else {}
        self.ec2.create_placement_group(GroupName=NAME, Strategy=strategy, **marks)

    def slow(self) -> None:
        """The look before the create passes, the one after it does not; `contains` spares the test's own reads."""
        self.stick("DescribePlacementGroups", skip=1, contains="GroupName.1")


class TestContract(Contract):
    @pytest.fixture
    def backend(self, emulator: Emulator) -> CloudBackend:
        return GroupBackend(emulator)


@pytest.fixture
def backend(emulator: Emulator) -> GroupBackend:
    return GroupBackend(emulator)


@pytest.fixture
def engine(backend: GroupBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CloudEngine:
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path))
    hasten(monkeypatch)
    return CloudEngine(backend)


def test_unchanged_costs_one_read(backend: GroupBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    assert engine.unchanged_calls(backend.values()) == {"DescribePlacementGroups": 1}


@pytest.mark.parametrize("kind", ["drop-after", "drop-before", "error"])
def test_create_whose_answer_is_lost_makes_one(backend: GroupBackend, engine: CloudEngine, kind: str) -> None:
    backend.emulator.fault(action="CreatePlacementGroup", kind=kind)
    made = engine.up(backend.values())
    assert backend.parts() == {NAME: made.outputs.group_id}
    assert backend.emulator.requests()["CreatePlacementGroup"] == (1 if kind == "drop-after" else 2)


def test_create_that_is_not_seen_at_once_waits(backend: GroupBackend, engine: CloudEngine) -> None:
    backend.emulator.invisible("DescribePlacementGroups", reads=3)
    made = engine.up(backend.values())
    assert backend.parts() == {NAME: made.outputs.group_id}


@pytest.mark.parametrize(("found", "holder"), [({}, "something that this toolkit did not make"), (STRANGER, HOLDER)])
def test_group_of_somebody_else_is_refused_and_kept(
    backend: GroupBackend, engine: CloudEngine, found: dict[str, str], holder: str
) -> None:
    backend.plant("cluster", found)
    before = backend.ec2.describe_placement_groups()["PlacementGroups"]
    with pytest.raises(Refused, match=f"placement group {NAME} exists already and belongs to {holder}"):
        engine.up(backend.values())
    assert engine.state is None
    assert backend.ec2.describe_placement_groups()["PlacementGroups"] == before


def test_group_of_a_lost_state_is_adopted_and_marked_anew(backend: GroupBackend, engine: CloudEngine) -> None:
    """The emulator has no tags for groups that exist: the call is answered, and not obeyed."""
    backend.plant("cluster", earlier(backend.resource))
    backend.emulator.fault(action="CreateTags", status=200)
    before = backend.parts()
    engine.up(backend.values())
    assert backend.parts() == before
    assert backend.emulator.requests()["CreateTags"] == 1


def test_adopted_group_of_another_strategy_is_refused(backend: GroupBackend, engine: CloudEngine) -> None:
    backend.plant("spread", earlier(backend.resource))
    with pytest.raises(Refused, match="with the strategy spread, wanted is cluster"):
        engine.up(backend.values())


def test_another_strategy_replaces_the_group_old_one_first(backend: GroupBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    engine.up({**backend.values(), "strategy": "spread"})
    assert engine.operations == ["create", "replace", "delete", "create"]
    assert [g["Strategy"] for g in backend.ec2.describe_placement_groups()["PlacementGroups"]] == ["spread"]


def test_profile_of_the_cloud_changes_without_a_call_that_writes(backend: GroupBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    before = backend.parts()
    engine.up({**backend.values(), "cloud": backend.emulator.cloud(off_region=["iam"])})
    assert engine.operations == ["create", "update"]
    assert backend.parts() == before


def test_another_account_replaces(backend: GroupBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    diff, _ = engine.preview({**backend.values(), "cloud": backend.emulator.cloud() | {"account": "999999999999"}})
    assert diff is not None
    assert diff.replaces == ("cloud",)


def test_delete_waits_for_its_nodes_and_says_what_is_left(
    backend: GroupBackend, engine: CloudEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.up(backend.values())
    busy: dict[str, Any] = {"code": "InvalidPlacementGroup.InUse", "status": 400, "message": "it is in use"}
    backend.emulator.fault(action="DeletePlacementGroup", count=-1, **busy)
    monkeypatch.setattr(placement_group, "BUSY_S", 0.0)
    with pytest.raises(Refused, match=f"placement group {NAME} still has instances"):
        engine.destroy()
    assert engine.state is not None
    backend.emulator.no_faults()
    backend.emulator.fault(action="DeletePlacementGroup", count=1, **busy)
    monkeypatch.setattr(placement_group, "BUSY_S", 60.0)
    engine.destroy()
    assert backend.parts() == {}
    assert engine.lines.progress == ["still in use: it is in use"]


def test_delete_leaves_a_namesake_alone(backend: GroupBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    backend.kill_part()
    backend.plant("cluster", {})
    engine.destroy()
    assert list(backend.parts()) == [NAME]


def test_refused_create_leaves_no_journal(backend: GroupBackend, engine: CloudEngine, tmp_path: Path) -> None:
    backend.emulator.deny(CreatePlacementGroup="ec2:CreatePlacementGroup")
    with pytest.raises(Refused, match="ec2:CreatePlacementGroup"):
        engine.up(backend.values())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_check_names_a_name_that_is_too_long(backend: GroupBackend, engine: CloudEngine) -> None:
    with pytest.raises(CheckFailed, match="1 to 255 printable ASCII characters"):
        engine.up({**backend.values(), "name": "a" * 256})


def test_diff_that_cannot_reach_the_cloud_is_refused(backend: GroupBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    backend.emulator.deny(DescribePlacementGroups="ec2:DescribePlacementGroups")
    with pytest.raises(Refused, match="DescribePlacementGroups: UnauthorizedOperation"):
        engine.preview(backend.values())


def test_create_that_is_killed_after_any_of_its_writes_is_gone_on_with(
    backend: GroupBackend, engine: CloudEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kill_at_every_write(backend, engine, monkeypatch) == 1
