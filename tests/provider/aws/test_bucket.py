"""aws:Bucket. Real: the resource, its journal, botocore over HTTP. The cloud is the emulator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aifactory.provider.aws import tags
from aifactory.provider.aws.bucket import Bucket
from aifactory.provider.resource import HalfMade, Refused

from tests.emulator import ACCOUNT, Emulator
from tests.provider.aws.parts import (
    HOLDER,
    STRANGER,
    CloudBackend,
    CloudEngine,
    earlier,
    hasten,
    kill_at_every_write,
    there,
)
from tests.provider.contract import Contract
from tests.provider.harness import CheckFailed

NAME = f"t-eu-artifacts-{ACCOUNT}"
KEY = f"arn:aws-eusc:kms:eusc-de-east-1:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
PLACE = "eusc-de-east-1"


class BucketBackend(CloudBackend):
    def __init__(self, emulator: Emulator, region: str = PLACE) -> None:
        super().__init__(emulator, Bucket())
        self.s3 = emulator.boto("s3", region)
        self.killed = 0

    def values(self) -> dict[str, Any]:
        return {**self.common(), "bucket": NAME, "key_arn": KEY, "location": PLACE, "retention_days": 30}

    def changed(self) -> dict[str, Any]:
        return {**self.values(), "retention_days": 60, "log_delivery": True}

    def parts(self) -> dict[str, str]:
        """A bucket has no id beside its name: one that was made anew is told by the count of those killed."""
        return dict.fromkeys(self.emulator.inventory().get("s3:bucket", []), str(self.killed))

    def kill_part(self) -> str | None:
        for name in self.parts():
            self.s3.delete_bucket(Bucket=name)
            self.killed += 1
            return name
        return None

    def slow(self) -> None:
        """It is there, and says to nobody whose it is."""
        self.stick("PutBucketTagging")

    def plant(self, found: dict[str, str], place: str = PLACE) -> None:
        self.s3.create_bucket(Bucket=NAME, CreateBucketConfiguration={"LocationConstraint": place})
        if found:
            self.s3.put_bucket_tagging(Bucket=NAME, Tagging={"TagSet": tags.pairs(found)})

    def tags(self) -> dict[str, str]:
        found = there(lambda: self.s3.get_bucket_tagging(Bucket=NAME)["TagSet"])
        return tags.read(found)

    def lock(self) -> dict[str, Any]:
        return dict(self.s3.get_object_lock_configuration(Bucket=NAME)["ObjectLockConfiguration"])


class TestContract(Contract):
    @pytest.fixture
    def backend(self, emulator: Emulator) -> CloudBackend:
        return BucketBackend(emulator)


@pytest.fixture
def backend(emulator: Emulator) -> BucketBackend:
    return BucketBackend(emulator)


@pytest.fixture
def engine(backend: BucketBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CloudEngine:
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path))
    hasten(monkeypatch)
    return CloudEngine(backend)


def test_bucket_is_private_encrypted_versioned_locked_and_where_it_should_be(
    backend: BucketBackend, engine: CloudEngine
) -> None:
    made = engine.up(backend.values())
    s3 = backend.s3
    assert (made.outputs.arn, made.outputs.location) == (f"arn:aws-eusc:s3:::{NAME}", PLACE)
    assert s3.head_bucket(Bucket=NAME)["BucketRegion"] == PLACE
    assert s3.get_bucket_versioning(Bucket=NAME)["Status"] == "Enabled"
    assert set(s3.get_public_access_block(Bucket=NAME)["PublicAccessBlockConfiguration"].values()) == {True}
    rule = s3.get_bucket_encryption(Bucket=NAME)["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert rule["BucketKeyEnabled"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}
    (tls,) = json.loads(s3.get_bucket_policy(Bucket=NAME)["Policy"])["Statement"]
    assert (tls["Effect"], tls["Action"], tls["Condition"]) == (
        "Deny",
        "s3:*",
        {"Bool": {"aws:SecureTransport": "false"}},
    )
    assert tls["Resource"] == [made.outputs.arn, f"{made.outputs.arn}/*"]
    assert backend.lock()["Rule"]["DefaultRetention"] | {"Years": 0} == {"Mode": "COMPLIANCE", "Days": 30, "Years": 0}
    assert backend.tags()[tags.TOKEN] == made.inputs.token


def test_bucket_without_retention_has_no_lock(backend: BucketBackend, engine: CloudEngine) -> None:
    engine.up({**backend.values(), "retention_days": None})
    assert there(backend.lock) is None


def test_flow_logs_may_be_written_for_this_account_only(backend: BucketBackend, engine: CloudEngine) -> None:
    engine.up({**backend.values(), "log_delivery": True})
    policy = json.loads(backend.s3.get_bucket_policy(Bucket=NAME)["Policy"])["Statement"]
    write = next(s for s in policy if s["Sid"] == "AWSLogDeliveryWrite")
    assert write["Resource"] == f"arn:aws-eusc:s3:::{NAME}/AWSLogs/{ACCOUNT}/*"
    assert write["Condition"]["StringEquals"]["aws:SourceAccount"] == ACCOUNT
    assert write["Condition"]["ArnLike"]["aws:SourceArn"] == f"arn:aws-eusc:logs:{PLACE}:{ACCOUNT}:*"


def test_the_region_that_is_never_named_is_not_named(engine: CloudEngine, emulator: Emulator) -> None:
    cloud = emulator.cloud("aws", "us-east-1")
    values = {**BucketBackend(emulator).values(), "cloud": cloud, "location": "us-east-1"}
    made = engine.up(values)
    assert made.outputs.location == "us-east-1"
    assert made.outputs.arn == f"arn:aws:s3:::{NAME}"
    assert not engine.drift(values)


@pytest.mark.parametrize(("days", "instead"), [(30, "GetObjectLockConfiguration"), (None, "GetBucketVersioning")])
def test_unchanged_costs_five_reads(
    backend: BucketBackend, engine: CloudEngine, days: int | None, instead: str
) -> None:
    values = {**backend.values(), "retention_days": days}
    engine.up(values)
    always = ("HeadBucket", "GetBucketEncryption", "GetPublicAccessBlock", "GetBucketPolicy")
    assert engine.unchanged_calls(values) == dict.fromkeys((*always, instead), 1)


WRITES = (
    "CreateBucket", "PutBucketTagging", "PutBucketVersioning", "PutBucketEncryption", "PutPublicAccessBlock",
    "PutBucketPolicy", "PutObjectLockConfiguration",
)  # fmt: skip


@pytest.mark.parametrize("kind", ["drop-after", "drop-before", "error"])
def test_every_write_whose_answer_is_lost_is_made_once_or_again(
    backend: BucketBackend, engine: CloudEngine, kind: str
) -> None:
    for action in WRITES:
        backend.emulator.fault(action=action, kind=kind)
    engine.up(backend.values())
    assert list(backend.parts()) == [NAME]
    asked = backend.emulator.requests()
    assert asked["CreateBucket"] == (1 if kind == "drop-after" else 2)
    assert {action: asked[action] for action in WRITES[1:]} == {
        # The lock came with the bucket and versions with the lock; what a create that was not heard has made is read.
        action: 0 if (action, kind) == ("PutBucketVersioning", "drop-after") else 2
        for action in WRITES[1:]
    }
    assert engine.unchanged_calls(backend.values())


def test_new_bucket_that_is_not_seen_at_once_is_waited_for(backend: BucketBackend, engine: CloudEngine) -> None:
    for action in ("PutBucketTagging", "PutBucketPolicy"):
        backend.emulator.fault(action=action, count=2, status=404, code="NoSuchBucket")
    engine.up(backend.values())
    assert engine.unchanged_calls(backend.values())


@pytest.mark.parametrize(("found", "holder"), [({}, "something that this toolkit did not make"), (STRANGER, HOLDER)])
def test_bucket_of_somebody_else_is_refused_and_kept(
    backend: BucketBackend, engine: CloudEngine, found: dict[str, str], holder: str
) -> None:
    backend.plant(found)
    with pytest.raises(Refused, match=f"bucket {NAME} exists already and belongs to {holder}"):
        engine.up(backend.values())
    assert backend.tags() == found
    assert not [action for action in backend.emulator.requests() if action == "PutBucketPolicy"]
    with pytest.raises(Refused, match="exists already"):
        engine.up(backend.values())


def test_bucket_of_another_account_is_refused(backend: BucketBackend, engine: CloudEngine) -> None:
    backend.emulator.fault(action="HeadBucket", status=403, code="Forbidden")
    with pytest.raises(Refused, match=f"bucket {NAME} exists already and belongs to another account"):
        engine.up(backend.values())
    assert backend.emulator.requests()["CreateBucket"] == 0


def test_bucket_of_a_lost_state_is_adopted_and_keeps_the_tags_that_others_gave_it(
    backend: BucketBackend, engine: CloudEngine
) -> None:
    backend.plant({**earlier(backend.resource), "cost-centre": "7"})
    made = engine.up(backend.values())
    assert backend.tags()[tags.TOKEN] == made.inputs.token
    assert backend.tags()["cost-centre"] == "7"
    assert engine.unchanged_calls(backend.values())
    engine.destroy()
    assert backend.parts() == {}


def test_bucket_that_is_elsewhere_is_refused_in_create_and_diff(engine: CloudEngine, emulator: Emulator) -> None:
    backend = BucketBackend(emulator, "us-east-1")
    values = {**backend.values(), "cloud": emulator.cloud("aws", "us-east-1"), "location": "us-east-1"}
    backend.plant(earlier(backend.resource), "eu-west-1")
    with pytest.raises(Refused, match=rf"\[LOC-04\] bucket {NAME} is in eu-west-1, declared is us-east-1"):
        engine.up(values)
    assert backend.tags() == earlier(backend.resource)
    backend.kill_part()
    engine.up(values)
    backend.kill_part()
    backend.plant(earlier(backend.resource), "eu-west-1")
    with pytest.raises(Refused, match=r"\[LOC-04\]"):
        engine.preview(values)
    state = engine.refresh()
    assert state is not None
    assert state.outputs.location == "eu-west-1"


def drift(backend: BucketBackend, what: str) -> None:
    s3 = backend.s3
    if what == "versioning":
        s3.put_bucket_versioning(Bucket=NAME, VersioningConfiguration={"Status": "Suspended"})
    elif what == "encryption":
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        s3.put_bucket_encryption(Bucket=NAME, ServerSideEncryptionConfiguration={"Rules": [rule]})
    elif what == "public_access":
        s3.delete_public_access_block(Bucket=NAME)
    elif what == "policy":
        s3.delete_bucket_policy(Bucket=NAME)
    elif what == "retention":
        short = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
        lock = {"ObjectLockEnabled": "Enabled", "Rule": short}
        s3.put_object_lock_configuration(Bucket=NAME, ObjectLockConfiguration=lock)


@pytest.mark.parametrize("what", ["versioning", "encryption", "public_access", "policy", "retention"])
def test_change_behind_its_back_is_named_and_mended(backend: BucketBackend, engine: CloudEngine, what: str) -> None:
    values = {**backend.values(), "retention_days": 30 if what == "retention" else None}
    made = engine.up(values)
    drift(backend, what)
    assert engine.drift(values) == (what,)
    assert engine.up(values) == made
    assert [line.split(": ")[0] for line in engine.lines.log] == [what]
    assert " → " in engine.lines.log[0]
    assert engine.unchanged_calls(values)


def test_lock_is_switched_on_later_and_its_rule_taken_away(backend: BucketBackend, engine: CloudEngine) -> None:
    engine.up({**backend.values(), "retention_days": None})
    engine.up(backend.values())
    assert backend.lock()["Rule"]["DefaultRetention"]["Days"] == 30
    engine.up({**backend.values(), "retention_days": None})
    assert "Rule" not in backend.lock()
    assert backend.s3.get_bucket_versioning(Bucket=NAME)["Status"] == "Enabled"


def test_new_key_is_put_in_place(backend: BucketBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    other = KEY.replace("1111", "9999")
    engine.up({**backend.values(), "key_arn": other})
    assert engine.operations == ["create", "update"]
    rule = backend.s3.get_bucket_encryption(Bucket=NAME)["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"] == other


def test_missing_permission_keeps_what_is_there_and_the_next_up_goes_on(
    backend: BucketBackend, engine: CloudEngine
) -> None:
    backend.emulator.deny(PutBucketPolicy="s3:PutBucketPolicy")
    with pytest.raises(HalfMade, match="s3:PutBucketPolicy"):
        engine.up(backend.values())
    assert engine.state is not None
    backend.emulator.no_faults()
    engine.up(backend.values())
    assert engine.unchanged_calls(backend.values())


def test_gone_bucket_is_made_again_and_what_that_means_is_said(backend: BucketBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    backend.kill_part()
    engine.up(backend.values())
    assert engine.lines.log[0] == f"bucket {NAME} is gone, and with it its objects; another is made"


def test_namesake_of_a_gone_bucket_is_refused(backend: BucketBackend, engine: CloudEngine) -> None:
    """That a bucket was asked for once says nothing about who made the one that is there later."""
    engine.up(backend.values())
    backend.kill_part()
    backend.plant({})
    backend.s3.delete_bucket_tagging(Bucket=NAME)
    with pytest.raises(Refused, match="belongs to something that this toolkit did not make"):
        engine.up(backend.values())


def test_lost_journal_keeps_nobody_from_destroying(backend: BucketBackend, engine: CloudEngine, tmp_path: Path) -> None:
    made = engine.up(backend.values())
    for journal in tmp_path.rglob("*.json"):
        journal.unlink()
    backend.kill_part()
    assert engine.up(backend.values()).outputs.nonce == made.outputs.nonce
    engine.destroy()
    assert backend.parts() == {}


def test_destroy_with_objects_is_refused_and_keeps_them(backend: BucketBackend, engine: CloudEngine) -> None:
    """moto denies every object call where the policy denies some: it does not read conditions."""
    values = {**backend.values(), "retention_days": None}
    engine.up(values)
    backend.s3.delete_bucket_policy(Bucket=NAME)
    backend.s3.put_object(Bucket=NAME, Key="weights", Body=b"w")
    with pytest.raises(Refused, match=f"bucket {NAME} still holds objects"):
        engine.destroy()
    assert engine.state is not None
    assert backend.s3.get_object(Bucket=NAME, Key="weights")["Body"].read() == b"w"
    assert engine.drift(values) == ("policy",)


def test_delete_leaves_a_namesake_alone(backend: BucketBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    backend.kill_part()
    backend.plant(STRANGER)
    engine.destroy()
    assert list(backend.parts()) == [NAME]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bucket": "Region_A-artifacts"}, "nearest: region-a-artifacts"),
        ({"retention_days": 0}, "retention_days: 0 is not allowed; allowed: 1 or more days"),
        ({"location": "eu-west-1"}, r"location: eu-west-1 is not eusc-de-east-1, where the API is .* \[LOC-04\]"),
    ],
)
def test_check_names_what_is_wrong(
    backend: BucketBackend, engine: CloudEngine, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(CheckFailed, match=said):
        engine.up({**backend.values(), **change})
    assert backend.emulator.requests() == {}


def test_create_that_is_killed_after_any_of_its_writes_is_gone_on_with(
    backend: BucketBackend, engine: CloudEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six of the seven: moto gives a bucket made again the tags of the one before, and they need not be put."""
    assert kill_at_every_write(backend, engine, monkeypatch) == 6
