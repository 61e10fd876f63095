"""aws:FileSystem. Real: the resource, its journal, botocore over HTTP. The cloud is the emulator.

The emulator has no UpdateFileSystem: what FSx does with one is played by `Growing`, behind the product's own calls.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aifactory.provider.aws import file_system_api as fsx
from aifactory.provider.aws import tags
from aifactory.provider.aws.api import Api
from aifactory.provider.aws.file_system import FileSystem
from aifactory.provider.resource import HalfMade, Refused

from tests.emulator import ACCOUNT, Emulator
from tests.provider.aws.parts import STRANGER, CloudBackend, CloudEngine, earlier, hasten, kill_at_every_write
from tests.provider.contract import Contract
from tests.provider.harness import CheckFailed

NAME = "t-eu-scratch"
KEY = f"arn:aws-eusc:kms:eusc-de-east-1:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"


class FileSystemBackend(CloudBackend):
    """One file system and its repository."""

    def __init__(self, emulator: Emulator) -> None:
        super().__init__(emulator, FileSystem())
        self.fsx, ec2 = emulator.boto("fsx"), emulator.boto("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/20")["Subnet"]["SubnetId"]
        self.group = ec2.create_security_group(GroupName="g", Description="d", VpcId=vpc)["GroupId"]

    def values(self) -> dict[str, Any]:
        return {
            **self.common(), "name": NAME, "capacity_gib": 1200, "throughput_mb_s_per_tib": 250,
            "subnet_id": self.subnet, "security_group": self.group, "key_arn": KEY, "bucket": "t-eu-data",
            "delete_data": True,
        }  # fmt: skip

    def changed(self) -> dict[str, Any]:
        return {**self.values(), "name": "t-eu-other"}

    def parts(self) -> dict[str, str]:
        found = self.emulator.inventory()
        return {
            f"{place} {kind}": name
            for place, kind in ((1, "data-repository-association"), (2, "file-system"))
            for name in found.get(f"fsx:{kind}", [])
        }

    def kill_part(self) -> str | None:
        for part, name in sorted(self.parts().items()):
            if part.endswith("association"):
                self.fsx.delete_data_repository_association(AssociationId=name)
            else:
                self.fsx.delete_file_system(FileSystemId=name)
            return part
        return None

    def slow(self) -> None:
        """An update is stopped at its next call: one that is ready would be made over by this."""
        if not self.parts():
            self.emulator.pending(3600)

    def quick(self) -> None:
        self.emulator.pending(0)

    def one(self) -> dict[str, Any]:
        (found,) = self.fsx.describe_file_systems()["FileSystems"]
        return dict(found)

    def plant(self, found: dict[str, str]) -> str:
        made = self.fsx.create_file_system(
            FileSystemType="LUSTRE", StorageCapacity=1200, SubnetIds=[self.subnet], Tags=tags.pairs(found),
            LustreConfiguration={"DeploymentType": "PERSISTENT_2", "PerUnitStorageThroughput": 250},
        )  # fmt: skip
        return str(made["FileSystem"]["FileSystemId"])


class TestContract(Contract):
    @pytest.fixture
    def backend(self, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> CloudBackend:
        monkeypatch.setattr(fsx, "LOOK_S", 0.1)
        return FileSystemBackend(emulator)


@pytest.fixture
def backend(emulator: Emulator) -> FileSystemBackend:
    return FileSystemBackend(emulator)


@pytest.fixture
def engine(backend: FileSystemBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CloudEngine:
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path))
    monkeypatch.setattr(fsx, "LOOK_S", 0.1)
    hasten(monkeypatch)
    return CloudEngine(backend)


class Growing:
    """FSx's side of an update: it takes a few looks until the file system is as asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, looks: int = 2, lifecycle: str = "UPDATING") -> None:
        self.asked: list[dict[str, Any]] = []
        self.done: dict[str, Any] = {}
        self.left, self._looks, self._lifecycle = 0, looks, lifecycle
        real = Api.call

        def call(api: Api, service: str, action: str, **params: Any) -> dict[str, Any]:
            if action == "UpdateFileSystem":
                self.asked.append(params)
                self.left = self._looks
                return {}
            answer = real(api, service, action, **params)
            if action == "DescribeFileSystems":
                for item in answer["FileSystems"]:
                    self._show(item)
            return answer

        monkeypatch.setattr(Api, "call", call)

    def _show(self, item: dict[str, Any]) -> None:
        if self.left > 0:
            self.left -= 1
            item["Lifecycle"] = self._lifecycle
            target = {"StorageCapacity": self.asked[-1].get("StorageCapacity", 0)}
            action = {"AdministrativeActionType": "FILE_SYSTEM_UPDATE", "Status": "IN_PROGRESS"}
            item["AdministrativeActions"] = [{**action, "TargetFileSystemValues": target}]
            return
        for params in self.asked:
            item["StorageCapacity"] = params.get("StorageCapacity", item["StorageCapacity"])
            item["LustreConfiguration"] = {**item["LustreConfiguration"], **params.get("LustreConfiguration", {})}


def test_file_system_is_encrypted_persistent_and_mirrors_its_bucket(
    backend: FileSystemBackend, engine: CloudEngine
) -> None:
    made = engine.up(backend.values())
    found = backend.one()
    assert (made.outputs.file_system_id, made.outputs.dns_name) == (found["FileSystemId"], found["DNSName"])
    assert made.outputs.mount_name == found["LustreConfiguration"]["MountName"]
    assert (found["KmsKeyId"], found["SubnetIds"], found["StorageCapacity"]) == (KEY, [backend.subnet], 1200)
    assert found["LustreConfiguration"]["DeploymentType"] == "PERSISTENT_2"
    assert found["LustreConfiguration"]["PerUnitStorageThroughput"] == 250
    assert tags.read(found["Tags"])["Name"] == NAME
    (joined,) = backend.fsx.describe_data_repository_associations()["Associations"]
    assert (joined["DataRepositoryPath"], joined["FileSystemPath"]) == ("s3://t-eu-data/", "/")
    assert "DELETED" not in joined["S3"]["AutoExportPolicy"]["Events"]


@pytest.mark.parametrize("bucket", ["t-eu-data", ""])
def test_unchanged_costs_a_read_and_one_more_with_a_bucket(
    backend: FileSystemBackend, engine: CloudEngine, bucket: str
) -> None:
    values = {**backend.values(), "bucket": bucket}
    engine.up(values)
    wanted = {"DescribeFileSystems": 1} | ({"DescribeDataRepositoryAssociations": 1} if bucket else {})
    assert engine.unchanged_calls(values) == wanted


@pytest.mark.parametrize("kind", ["drop-after", "drop-before", "error"])
def test_every_create_whose_answer_is_lost_makes_one(
    backend: FileSystemBackend, engine: CloudEngine, kind: str
) -> None:
    backend.emulator.fault(action="CreateFileSystem", kind=kind)
    backend.emulator.fault(action="CreateDataRepositoryAssociation", kind=kind)
    engine.up(backend.values())
    assert {name: len(there) for name, there in backend.emulator.inventory().items() if "fsx" in name} == {
        "fsx:file-system": 1,
        "fsx:data-repository-association": 1,
    }
    assert engine.unchanged_calls(backend.values())


def test_a_create_and_its_repetition_have_one_client_token_the_next_create_another(
    backend: FileSystemBackend, engine: CloudEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []
    real = Api._once

    def once(api: Api, service: str, action: str, params: Any) -> dict[str, Any]:
        if action == "CreateFileSystem":
            given.append(params["ClientRequestToken"])
        return real(api, service, action, params)

    monkeypatch.setattr(Api, "_once", once)
    backend.emulator.fault(action="CreateFileSystem", kind="error")
    engine.up(backend.values())
    engine.destroy()
    engine.up(backend.values())
    assert given[0] == given[1] != given[2]
    assert max(len(token) for token in given) <= 63


def test_file_system_of_a_lost_state_is_adopted_and_marked_anew(
    backend: FileSystemBackend, engine: CloudEngine
) -> None:
    backend.plant(STRANGER)
    mine = backend.plant(earlier(backend.resource))
    made = engine.up(backend.values())
    assert made.outputs.file_system_id == mine
    found = backend.fsx.describe_file_systems(FileSystemIds=[mine])["FileSystems"][0]
    assert tags.read(found["Tags"])[tags.TOKEN] == made.inputs.token
    engine.destroy()
    assert tags.read(backend.one()["Tags"]) == STRANGER


def test_one_that_is_on_its_way_out_is_not_adopted(
    backend: FileSystemBackend, engine: CloudEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, real = backend.plant(earlier(backend.resource)), fsx._file_system

    def ending(item: dict[str, Any]) -> fsx.FileSystem:
        return real({**item, "Lifecycle": "DELETING"} if item["FileSystemId"] == old else item)

    monkeypatch.setattr(fsx, "_file_system", ending)
    assert engine.up(backend.values()).outputs.file_system_id != old


def test_create_that_fails_says_why_and_the_next_up_makes_another(
    backend: FileSystemBackend, engine: CloudEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fsx._file_system

    def failed(item: dict[str, Any]) -> fsx.FileSystem:
        return real({**item, "Lifecycle": "FAILED", "FailureDetails": {"Message": "no room in this zone"}})

    with monkeypatch.context() as broken:
        broken.setattr(fsx, "_file_system", failed)
        with pytest.raises(HalfMade, match=r"FAILED: fs-.*: no room in this zone"):
            engine.up(backend.values())
        first = backend.one()["FileSystemId"]
        assert engine.drift(backend.values()) == ("lifecycle", "bucket")
        with pytest.raises(HalfMade, match="is FAILED no room in this zone"):
            engine.refresh()

    def failed_before(item: dict[str, Any]) -> fsx.FileSystem:
        return failed(item) if item["FileSystemId"] == first else real(item)

    monkeypatch.setattr(fsx, "_file_system", failed_before)
    made = engine.up(backend.values())
    assert made.outputs.file_system_id == backend.one()["FileSystemId"] != first
    assert f"file system {first} could not be made" in engine.lines.log[0]


def test_failed_file_system_that_was_ready_once_is_kept(
    backend: FileSystemBackend, engine: CloudEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = engine.up(backend.values()).outputs.file_system_id
    real = fsx._file_system
    monkeypatch.setattr(fsx, "_file_system", lambda item: real({**item, "Lifecycle": "FAILED"}))
    with pytest.raises(HalfMade, match="FAILED"):
        engine.up(backend.values())
    assert backend.one()["FileSystemId"] == first


def test_capacity_and_throughput_grow_in_place(
    backend: FileSystemBackend, engine: CloudEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = engine.up(backend.values()).outputs
    growing = Growing(monkeypatch)
    values = {**backend.values(), "capacity_gib": 4800, "throughput_mb_s_per_tib": 500}
    assert engine.up(values).outputs == first
    assert [
        {name: params[name] for name in params if name not in ("FileSystemId", "ClientRequestToken")}
        for params in growing.asked
    ] == [{"StorageCapacity": 4800}, {"LustreConfiguration": {"PerUnitStorageThroughput": 500}}]
    assert len({params["ClientRequestToken"] for params in growing.asked}) == 2
    assert engine.lines.log == ["capacity_gib: 1200 → 4800", "throughput_mb_s_per_tib: 250 → 500"]
    assert any("UPDATING" in line for line in engine.lines.progress)
    assert not engine.drift(values)
    assert engine.drift({**values, "capacity_gib": 7200}) == ()


def test_growth_that_is_under_way_is_not_asked_for_twice(
    backend: FileSystemBackend, engine: CloudEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.up(backend.values())
    growing = Growing(monkeypatch, looks=10**6, lifecycle="AVAILABLE")
    values = {**backend.values(), "capacity_gib": 4800}
    with pytest.raises(HalfMade, match="timed out"):
        engine.up(values, timeout_s=1.0)
    assert engine.drift(values) == ()
    growing.left = 3
    engine.up(values)
    assert len(growing.asked) == 1


def test_update_that_ended_without_effect_is_told(
    backend: FileSystemBackend, engine: CloudEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.up(backend.values())
    backend.emulator.fault(action="UpdateFileSystem", status=200, count=-1)
    monkeypatch.setattr(fsx, "VISIBLE_S", 0.0)
    with pytest.raises(HalfMade, match="has 1200 GiB still, and its update has ended"):
        engine.up({**backend.values(), "capacity_gib": 4800})


def test_another_bucket_is_joined_and_the_first_let_go(backend: FileSystemBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    for bucket in ("t-eu-other", "", "t-eu-data"):
        engine.up({**backend.values(), "bucket": bucket})
        joined = backend.fsx.describe_data_repository_associations()["Associations"]
        assert [found["DataRepositoryPath"] for found in joined] == ([f"s3://{bucket}/"] if bucket else [])
    assert engine.lines.log == ["bucket: t-eu-data → t-eu-other", "bucket: t-eu-other → none"]


def test_repository_that_does_not_work_is_told_with_its_reason(
    backend: FileSystemBackend, engine: CloudEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fsx._repository
    broken = {"Lifecycle": "MISCONFIGURED", "FailureDetails": {"Message": "access to the bucket was denied"}}
    monkeypatch.setattr(fsx, "_repository", lambda item: real({**item, **broken}))
    with pytest.raises(HalfMade, match="MISCONFIGURED: t-eu-data: access to the bucket was denied"):
        engine.up(backend.values())
    assert engine.drift(backend.values()) == ("bucket",)


def test_gone_file_system_is_made_again_and_what_that_means_is_said(
    backend: FileSystemBackend, engine: CloudEngine
) -> None:
    first = engine.up(backend.values()).outputs.file_system_id
    backend.fsx.delete_file_system(FileSystemId=first)
    assert engine.drift(backend.values()) == ("file_system_id",)
    assert engine.up(backend.values()).outputs.file_system_id != first
    assert engine.lines.log == [f"file system {first} is gone, and with it its files; another is made"]


def test_destroy_of_files_is_refused_until_the_spec_says_so(backend: FileSystemBackend, engine: CloudEngine) -> None:
    values = {**backend.values(), "delete_data": False}
    first = engine.up(values).outputs.file_system_id
    with pytest.raises(Refused, match=rf"file system {first} \({NAME}\) holds files.*fix: delete_data: true"):
        engine.destroy()
    assert backend.one()["FileSystemId"] == first
    engine.up({**values, "delete_data": True})
    engine.destroy()
    assert backend.parts() == {}


def test_destroy_of_one_that_was_never_ready_needs_no_word(backend: FileSystemBackend, engine: CloudEngine) -> None:
    values = {**backend.values(), "delete_data": False}
    backend.slow()
    with pytest.raises(HalfMade, match="timed out"):
        engine.up(values, timeout_s=0.5)
    engine.destroy()
    assert backend.parts() == {}


def test_destroy_waits_until_it_is_gone(
    backend: FileSystemBackend, engine: CloudEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.up(backend.values())
    real, left = fsx.one, [2]

    def one(api: Api, id: str) -> fsx.FileSystem | None:
        found = real(api, id)
        if found is None and left[0]:
            left[0] -= 1
            return fsx.FileSystem(id, "", "DELETING", "", "", "", 0, 0, 0, {})
        return found

    monkeypatch.setattr(fsx, "one", one)
    engine.destroy()
    assert left == [0]
    assert any("DELETING" in line for line in engine.lines.progress)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"capacity_gib": 1000}, "capacity_gib: 1000 is not allowed; allowed: 1200, 2400 and every further multiple"),
        ({"throughput_mb_s_per_tib": 300}, "allowed: 125, 250, 500 or 1000 MB/s"),
    ],
)
def test_check_names_what_fsx_does_not_take(
    backend: FileSystemBackend, engine: CloudEngine, change: dict[str, Any], said: str
) -> None:
    backend.emulator.forget_counts()
    with pytest.raises(CheckFailed, match=said):
        engine.up({**backend.values(), **change})
    assert backend.emulator.requests() == {}


@pytest.mark.parametrize("field", ["subnet_id", "security_group", "key_arn", "cloud"])
def test_change_that_would_delete_files_is_refused_unless_they_may_go(
    backend: FileSystemBackend, engine: CloudEngine, field: str
) -> None:
    values = {**backend.values(), "delete_data": False}
    engine.up(values)
    other = backend.emulator.cloud() | {"account": "999999999999"} if field == "cloud" else "other"
    with pytest.raises(CheckFailed, match=f"{field}: cannot change from .*fix: save them, and set delete_data: true"):
        engine.up({**values, field: other})
    diff, _ = engine.preview({**backend.values(), field: other})
    assert diff is not None
    assert diff.replaces == (field,)


def test_capacity_cannot_shrink(backend: FileSystemBackend, engine: CloudEngine) -> None:
    engine.up({**backend.values(), "capacity_gib": 2400})
    with pytest.raises(CheckFailed, match="1200 is less than the 2400 GiB that there are; it cannot shrink"):
        engine.up(backend.values())


def test_create_that_is_killed_after_any_of_its_writes_is_gone_on_with(
    backend: FileSystemBackend, engine: CloudEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kill_at_every_write(backend, engine, monkeypatch) == 2
