"""aws:Key. Real: the resource, its journal, botocore over HTTP. The cloud is the emulator."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from aifactory.provider.aws import key_api, tags
from aifactory.provider.aws.key import Key
from aifactory.provider.resource import HalfMade, Refused

from tests.emulator import ACCOUNT, Emulator
from tests.provider.aws.parts import HOLDER, STRANGER, CloudBackend, CloudEngine, earlier, hasten, kill_at_every_write
from tests.provider.contract import Contract
from tests.provider.harness import CheckFailed

ALIAS = "alias/aifactory-t-eu"


class KeyBackend(CloudBackend):
    def __init__(self, emulator: Emulator) -> None:
        super().__init__(emulator, Key())
        self.kms = emulator.boto("kms")

    def values(self) -> dict[str, Any]:
        return {**self.common(), "alias": ALIAS, "description": "region t-eu"}

    def changed(self) -> dict[str, Any]:
        return {**self.values(), "description": "another text", "deletion_window_days": 7}

    def parts(self) -> dict[str, str]:
        there = self.emulator.inventory()
        keys = there.get("kms:key", [])
        assert len(keys) < 2, f"made twice: {keys}"
        return dict.fromkeys(["key"] * len(keys) + there.get("kms:alias", []), "".join(keys))

    def kill_part(self) -> str | None:
        """KMS deletes no key at once; what happens to one behind our back is tested below."""
        return None

    def slow(self) -> None:
        self.stick("CreateAlias")

    def key(self) -> dict[str, Any]:
        return dict(self.kms.describe_key(KeyId=ALIAS)["KeyMetadata"])

    def plant(self, found: dict[str, str]) -> str:
        """A key that has our alias."""
        made = self.kms.create_key(Tags=tags.pairs(found, "TagKey", "TagValue"))["KeyMetadata"]["KeyId"]
        self.kms.create_alias(AliasName=ALIAS, TargetKeyId=made)
        return str(made)


class TestContract(Contract):
    @pytest.fixture
    def backend(self, emulator: Emulator) -> CloudBackend:
        return KeyBackend(emulator)


@pytest.fixture
def backend(emulator: Emulator) -> KeyBackend:
    return KeyBackend(emulator)


@pytest.fixture
def engine(backend: KeyBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CloudEngine:
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path))
    hasten(monkeypatch)
    return CloudEngine(backend)


def test_key_is_made_with_rotation_tags_and_a_policy_of_the_account_alone(
    backend: KeyBackend, engine: CloudEngine
) -> None:
    made = engine.up(backend.values())
    key = backend.key()
    assert (made.outputs.key_id, made.outputs.key_arn, made.outputs.origin) == (key["KeyId"], key["Arn"], "AWS_KMS")
    assert key["Description"] == "region t-eu"
    assert backend.kms.get_key_rotation_status(KeyId=key["KeyId"])["KeyRotationEnabled"]
    found = tags.read(backend.kms.list_resource_tags(KeyId=key["KeyId"])["Tags"], "TagKey", "TagValue")
    assert found[tags.TOKEN] == made.inputs.token
    policy = json.loads(backend.kms.get_key_policy(KeyId=key["KeyId"])["Policy"])
    assert [s["Principal"] for s in policy["Statement"]] == [{"AWS": f"arn:aws-eusc:iam::{ACCOUNT}:root"}]


def test_unchanged_costs_three_reads(backend: KeyBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    asked = engine.unchanged_calls(backend.values())
    assert asked == {"DescribeKey": 1, "GetKeyPolicy": 1, "GetKeyRotationStatus": 1}


def test_preview_of_a_create_asks_nothing(backend: KeyBackend, engine: CloudEngine) -> None:
    backend.emulator.forget_counts()
    engine.preview(backend.values())
    assert backend.emulator.requests() == {}


@pytest.mark.parametrize("kind", ["drop-after", "drop-before", "error"])
@pytest.mark.parametrize("action", ["CreateKey", "CreateAlias", "EnableKeyRotation"])
def test_create_whose_answer_is_lost_makes_one(
    backend: KeyBackend, engine: CloudEngine, action: str, kind: str
) -> None:
    backend.emulator.fault(action=action, kind=kind)
    made = engine.up(backend.values())
    assert backend.parts() == {"key": made.outputs.key_id, ALIAS: made.outputs.key_id}
    assert engine.unchanged_calls(backend.values())


def test_new_key_that_is_not_seen_at_once_is_waited_for(backend: KeyBackend, engine: CloudEngine) -> None:
    for action in ("CreateAlias", "GetKeyPolicy"):
        backend.emulator.fault(action=action, count=2, status=400, code="NotFoundException")
    made = engine.up(backend.values())
    assert backend.parts() == {"key": made.outputs.key_id, ALIAS: made.outputs.key_id}


@pytest.mark.parametrize(("found", "holder"), [({}, "something that this toolkit did not make"), (STRANGER, HOLDER)])
def test_alias_of_somebody_else_is_refused_and_kept(
    backend: KeyBackend, engine: CloudEngine, found: dict[str, str], holder: str
) -> None:
    other = backend.plant(found)
    with pytest.raises(Refused, match=rf"{ALIAS} \(key {other}\) exists already and belongs to {holder}"):
        engine.up(backend.values())
    assert backend.parts() == {"key": other, ALIAS: other}
    assert backend.key()["Description"] == ""


def test_key_of_a_lost_state_is_adopted_marked_and_deleted(backend: KeyBackend, engine: CloudEngine) -> None:
    before = backend.plant(earlier(backend.resource))
    assert engine.up(backend.values()).outputs.key_id == before
    engine.destroy()
    assert backend.emulator.inventory() == {"kms:key-ending": [before]}


def test_keys_that_nobody_may_look_at_are_passed_over(backend: KeyBackend, engine: CloudEngine) -> None:
    other = backend.kms.create_key()["KeyMetadata"]["KeyId"]
    backend.emulator.fault(action="ListResourceTags", status=400, code="AccessDeniedException", contains=other)
    assert engine.up(backend.values()).outputs.key_id != other


def test_imported_material_is_asked_for_and_the_next_up_goes_on(
    backend: KeyBackend, engine: CloudEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {**backend.values(), "custody": "customer"}
    real = key_api._key
    with monkeypatch.context() as waiting:
        waiting.setattr(key_api, "_key", lambda found: dataclasses.replace(real(found), state="PendingImport"))
        with pytest.raises(HalfMade, match="waits for its material; import it"):
            engine.up(values)
        with pytest.raises(HalfMade, match="waits for its material"):
            engine.refresh()
        assert engine.state is not None
        assert engine.drift(values) == ("state",)
    made = engine.up(values)
    assert made.outputs.origin == "EXTERNAL"
    assert backend.emulator.requests()["EnableKeyRotation"] == 0
    assert not made.reasons


def test_adopted_key_of_another_custody_is_refused(backend: KeyBackend, engine: CloudEngine) -> None:
    backend.plant(earlier(backend.resource))
    with pytest.raises(Refused, match="has the origin AWS_KMS, which is no custody of the customer"):
        engine.up({**backend.values(), "custody": "customer"})


def test_services_of_the_cloud_may_use_it_for_this_account_only(backend: KeyBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    made = engine.up({**backend.values(), "services": ["flow_logs", "file_system"]})
    policy = json.loads(backend.kms.get_key_policy(KeyId=made.outputs.key_id)["Policy"])
    conditions = {s["Sid"]: s.get("Condition") for s in policy["Statement"]}
    assert conditions["FlowLogs"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    assert conditions["FileSystem"]["StringEquals"] == {"kms:CallerAccount": ACCOUNT}
    assert policy["Statement"][1]["Principal"] == {"Service": "delivery.logs.amazonaws.com"}


def drift(backend: KeyBackend, what: str) -> str:
    """Changes a key behind the provider's back; the field that is to be named."""
    key = backend.key()["KeyId"]
    if what == "policy":
        backend.kms.put_key_policy(KeyId=key, PolicyName="default", Policy='{"Version": "2012-10-17", "Statement": []}')
    elif what == "rotation":
        backend.kms.disable_key_rotation(KeyId=key)
    elif what == "description":
        backend.kms.update_key_description(KeyId=key, Description="mine")
    elif what == "disabled":
        backend.kms.disable_key(KeyId=key)
        return "state"
    elif what == "ending":
        backend.kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
        return "state"
    return what


@pytest.mark.parametrize("what", ["policy", "rotation", "description", "disabled", "ending"])
def test_change_behind_its_back_is_named_and_mended(backend: KeyBackend, engine: CloudEngine, what: str) -> None:
    made = engine.up(backend.values())
    field = drift(backend, what)
    diff, _ = engine.preview(backend.values())
    assert diff is not None
    assert diff.output_updates == (field,)
    assert engine.up(backend.values()) == made
    assert [line.split(" → ")[0].split(": ")[0] for line in engine.lines.log] == [field]
    assert backend.emulator.requests()["CancelKeyDeletion"] == (what == "ending")
    assert engine.unchanged_calls(backend.values())


def test_removed_alias_is_made_again_on_the_same_key(backend: KeyBackend, engine: CloudEngine) -> None:
    made = engine.up(backend.values())
    backend.kms.delete_alias(AliasName=ALIAS)
    assert engine.drift(backend.values()) == ("alias",)
    engine.up(backend.values())
    assert backend.parts() == {"key": made.outputs.key_id, ALIAS: made.outputs.key_id}


def test_alias_that_points_to_another_key_of_ours_is_moved_back(backend: KeyBackend, engine: CloudEngine) -> None:
    made = engine.up(backend.values())
    other = backend.kms.create_key(Tags=tags.pairs(earlier(backend.resource), "TagKey", "TagValue"))
    backend.kms.update_alias(AliasName=ALIAS, TargetKeyId=other["KeyMetadata"]["KeyId"])
    engine.up(backend.values())
    assert backend.key()["KeyId"] == made.outputs.key_id


def test_alias_that_somebody_took_is_refused_in_an_update(backend: KeyBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    backend.kms.update_alias(AliasName=ALIAS, TargetKeyId=backend.kms.create_key()["KeyMetadata"]["KeyId"])
    with pytest.raises(Refused, match="belongs to something that this toolkit did not make"):
        engine.up(backend.values())


def test_key_that_is_gone_is_made_again_and_what_that_means_is_said(backend: KeyBackend, engine: CloudEngine) -> None:
    made = engine.up(backend.values())
    old = made.outputs.key_id
    backend.kms.delete_alias(AliasName=ALIAS)
    for action in ("DescribeKey", "ListResourceTags"):
        backend.emulator.fault(action=action, count=-1, status=400, code="NotFoundException", contains=old)
    assert engine.drift(backend.values()) == ("key_id",)
    assert engine.up(backend.values()).outputs.key_id not in ("", old)
    assert engine.lines.log == [f"key {old} is gone, and with it what was encrypted; another is made"]


def test_delete_only_schedules_and_frees_the_alias(backend: KeyBackend, engine: CloudEngine) -> None:
    made = engine.up({**backend.values(), "deletion_window_days": 7})
    backend.emulator.forget_counts()
    engine.destroy()
    assert backend.emulator.inventory() == {"kms:key-ending": [made.outputs.key_id]}
    ends = backend.kms.describe_key(KeyId=made.outputs.key_id)["KeyMetadata"]["DeletionDate"]
    assert dt.timedelta(days=6) < ends - dt.datetime.now(dt.UTC) < dt.timedelta(days=8)
    said = [line for line in engine.lines.log if "7 days" in line]
    assert len(said) == 1
    assert f"cancel-key-deletion --key-id {made.outputs.key_id}" in said[0]


def test_delete_killed_before_the_schedule_is_gone_on_with(backend: KeyBackend, engine: CloudEngine) -> None:
    made = engine.up(backend.values())
    backend.emulator.fault(action="ScheduleKeyDeletion", status=400, code="KMSInvalidStateException")
    with pytest.raises(Refused, match="KMSInvalidStateException"):
        engine.destroy()
    assert engine.state is not None
    engine.destroy()
    assert backend.emulator.inventory() == {"kms:key-ending": [made.outputs.key_id]}


def test_region_made_again_gets_another_key_than_the_one_that_ends(backend: KeyBackend, engine: CloudEngine) -> None:
    first = engine.up(backend.values()).outputs.key_id
    engine.destroy()
    second = engine.up(backend.values()).outputs.key_id
    assert first != second
    assert backend.emulator.inventory()["kms:key-ending"] == [first]


def test_delete_leaves_a_key_of_another_token_alone(backend: KeyBackend, engine: CloudEngine) -> None:
    made = engine.up(backend.values())
    backend.kms.tag_resource(KeyId=made.outputs.key_id, Tags=tags.pairs(STRANGER, "TagKey", "TagValue"))
    engine.destroy()
    assert backend.parts() == {"key": made.outputs.key_id, ALIAS: made.outputs.key_id}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"deletion_window_days": 3}, "deletion_window_days: 3 is not allowed; allowed: 7 to 30 days"),
        ({"alias": "aifactory"}, "alias: 'aifactory' is not allowed"),
        ({"description": "a" * 8193}, "up to 8192"),
    ],
)
def test_check_names_what_kms_does_not_take(
    backend: KeyBackend, engine: CloudEngine, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(CheckFailed, match=said):
        engine.up({**backend.values(), **change})
    assert backend.emulator.requests() == {}


@pytest.mark.parametrize("change", [{"custody": "customer"}, {"alias": "alias/other"}])
def test_change_that_would_lose_what_is_encrypted_is_refused(
    backend: KeyBackend, engine: CloudEngine, change: dict[str, Any]
) -> None:
    engine.up(backend.values())
    with pytest.raises(CheckFailed, match="what is encrypted with this one would be lost"):
        engine.up({**backend.values(), **change})


def test_create_that_is_killed_after_any_of_its_writes_is_gone_on_with(
    backend: KeyBackend, engine: CloudEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kill_at_every_write(backend, engine, monkeypatch) == 3
