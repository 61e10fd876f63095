"""aws:Identity. Real: the resource, its journal, botocore over HTTP. The cloud is the emulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aifactory.provider.aws import identity_api, tags
from aifactory.provider.aws.identity import Identity
from aifactory.provider.resource import HalfMade, Refused

from tests.emulator import ACCOUNT, Emulator
from tests.provider.aws.parts import HOLDER, STRANGER, CloudBackend, CloudEngine, earlier, hasten, kill_at_every_write
from tests.provider.contract import Contract
from tests.provider.harness import CheckFailed

NAME = "aifactory-t-eu-node"
BUCKET = "arn:aws-eusc:s3:::t-eu-artifacts"
KEY = f"arn:aws-eusc:kms:eusc-de-east-1:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
LENT = (
    '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", '
    '"Principal": {"AWS": "arn:aws-eusc:iam::999999999999:root"}}]}'
)
ANYTHING = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'
READ_ONLY = f"arn:aws-eusc:iam::{ACCOUNT}:policy/extra"


class IdentityBackend(CloudBackend):
    def __init__(self, emulator: Emulator) -> None:
        super().__init__(emulator, Identity())
        self.iam = emulator.boto("iam")

    def values(self) -> dict[str, Any]:
        return {**self.common(), "name": NAME, "bucket_arns": [BUCKET], "key_arn": KEY}

    def changed(self) -> dict[str, Any]:
        return {**self.values(), "bucket_arns": [BUCKET, f"{BUCKET}-2"]}

    def parts(self) -> dict[str, str]:
        roles = [r for r in self.iam.list_roles()["Roles"] if "/aws-service-role/" not in r["Arn"]]
        profiles = self.iam.list_instance_profiles()["InstanceProfiles"]
        return {f"1 role {r['RoleName']}": r["RoleId"] for r in roles} | {
            f"2 profile {p['InstanceProfileName']}": p["InstanceProfileId"] for p in profiles
        }

    def kill_part(self) -> str | None:
        for part in sorted(self.parts()):
            if "role" in part:
                self.empty()
                self.iam.delete_role(RoleName=NAME)
            else:
                self.iam.delete_instance_profile(InstanceProfileName=NAME)
            return part
        return None

    def empty(self) -> None:
        """What must be gone before a role can be deleted."""
        for profile in self.iam.list_instance_profiles()["InstanceProfiles"]:
            for role in profile["Roles"]:
                self.iam.remove_role_from_instance_profile(InstanceProfileName=NAME, RoleName=role["RoleName"])
        for name in self.iam.list_role_policies(RoleName=NAME)["PolicyNames"]:
            self.iam.delete_role_policy(RoleName=NAME, PolicyName=name)

    def slow(self) -> None:
        self.stick("PutRolePolicy")

    def bound(self) -> list[str]:
        profile = self.iam.get_instance_profile(InstanceProfileName=NAME)["InstanceProfile"]
        return [role["RoleName"] for role in profile["Roles"]]


class TestContract(Contract):
    @pytest.fixture
    def backend(self, emulator: Emulator) -> CloudBackend:
        return IdentityBackend(emulator)


@pytest.fixture
def backend(emulator: Emulator) -> IdentityBackend:
    return IdentityBackend(emulator)


@pytest.fixture
def engine(backend: IdentityBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CloudEngine:
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path))
    hasten(monkeypatch)
    return CloudEngine(backend)


def test_role_is_for_instances_only_and_may_read_and_decrypt_only(
    backend: IdentityBackend, engine: CloudEngine
) -> None:
    made = engine.up(backend.values())
    role = backend.iam.get_role(RoleName=NAME)["Role"]
    profile = backend.iam.get_instance_profile(InstanceProfileName=NAME)["InstanceProfile"]
    assert (made.outputs.role_arn, made.outputs.instance_profile) == (role["Arn"], NAME)
    assert made.outputs.instance_profile_arn == profile["Arn"] == f"arn:aws-eusc:iam::{ACCOUNT}:instance-profile/{NAME}"
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust == {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    assert backend.bound() == [NAME]
    assert backend.iam.list_role_policies(RoleName=NAME)["PolicyNames"] == [identity_api.POLICY]
    policy = backend.iam.get_role_policy(RoleName=NAME, PolicyName=identity_api.POLICY)["PolicyDocument"]
    allowed = {statement["Action"]: statement["Resource"] for statement in policy["Statement"]}
    assert allowed == {"s3:ListBucket": [BUCKET], "s3:GetObject": [f"{BUCKET}/*"], "kms:Decrypt": KEY}
    assert tags.read(role["Tags"])[tags.TOKEN] == tags.read(profile["Tags"])[tags.TOKEN] == made.inputs.token


def test_node_that_needs_nothing_has_no_policy(backend: IdentityBackend, engine: CloudEngine) -> None:
    nothing = {**backend.values(), "bucket_arns": [], "key_arn": ""}
    engine.up(nothing)
    assert backend.iam.list_role_policies(RoleName=NAME)["PolicyNames"] == []
    engine.up(backend.values())
    engine.up(nothing)
    assert backend.iam.list_role_policies(RoleName=NAME)["PolicyNames"] == []


def test_unchanged_costs_four_reads(backend: IdentityBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    reads = ("GetInstanceProfile", "GetRolePolicy", "ListRolePolicies", "ListAttachedRolePolicies")
    assert engine.unchanged_calls(backend.values()) == dict.fromkeys(reads, 1)


WRITES = ("CreateRole", "CreateInstanceProfile", "PutRolePolicy", "AddRoleToInstanceProfile")


@pytest.mark.parametrize("kind", ["drop-after", "drop-before", "error"])
def test_every_write_whose_answer_is_lost_is_made_once(
    backend: IdentityBackend, engine: CloudEngine, kind: str
) -> None:
    for action in WRITES:
        backend.emulator.fault(action=action, kind=kind)
    engine.up(backend.values())
    assert len(backend.parts()) == 2
    assert backend.bound() == [NAME]
    assert engine.unchanged_calls(backend.values())


def test_new_role_and_profile_that_are_not_seen_at_once_are_waited_for(
    backend: IdentityBackend, engine: CloudEngine
) -> None:
    for action in ("PutRolePolicy", "AddRoleToInstanceProfile"):
        backend.emulator.fault(action=action, count=2, status=404, code="NoSuchEntity")
    backend.emulator.fault(action="GetInstanceProfile", skip=2, count=2, status=404, code="NoSuchEntity")
    engine.up(backend.values())
    assert backend.bound() == [NAME]


@pytest.mark.parametrize("kind", ["role", "instance profile"])
@pytest.mark.parametrize(("found", "holder"), [({}, "something that this toolkit did not make"), (STRANGER, HOLDER)])
def test_name_of_somebody_else_is_refused_before_anything_is_made(
    backend: IdentityBackend, engine: CloudEngine, found: dict[str, str], holder: str, kind: str
) -> None:
    if kind == "role":
        backend.iam.create_role(RoleName=NAME, AssumeRolePolicyDocument=LENT, Tags=tags.pairs(found))
    else:
        backend.iam.create_instance_profile(InstanceProfileName=NAME, Tags=tags.pairs(found))
    before = backend.parts()
    with pytest.raises(Refused, match=f"{kind} {NAME} exists already and belongs to {holder}"):
        engine.up(backend.values())
    assert backend.parts() == before


def test_both_of_a_lost_state_are_adopted_mended_and_deleted(backend: IdentityBackend, engine: CloudEngine) -> None:
    marks = tags.pairs(earlier(backend.resource))
    backend.iam.create_role(RoleName=NAME, AssumeRolePolicyDocument=LENT, Tags=marks)
    backend.iam.create_instance_profile(InstanceProfileName=NAME, Tags=marks)
    before = backend.parts()
    engine.up(backend.values())
    assert backend.parts() == before
    assert engine.unchanged_calls(backend.values())
    engine.destroy()
    assert backend.parts() == {}


def drift(backend: IdentityBackend, what: str) -> None:
    iam = backend.iam
    if what == "trust":
        iam.update_assume_role_policy(RoleName=NAME, PolicyDocument=LENT)
    elif what == "policy":
        iam.put_role_policy(RoleName=NAME, PolicyName=identity_api.POLICY, PolicyDocument=ANYTHING)
    elif what == "other_policies":
        iam.put_role_policy(RoleName=NAME, PolicyName="more", PolicyDocument=ANYTHING)
    elif what == "attached_policies":
        iam.create_policy(PolicyName="extra", PolicyDocument=ANYTHING)
        iam.attach_role_policy(RoleName=NAME, PolicyArn=READ_ONLY)
    elif what == "instance_profile":
        iam.remove_role_from_instance_profile(InstanceProfileName=NAME, RoleName=NAME)


@pytest.mark.parametrize("what", ["trust", "policy", "other_policies", "attached_policies", "instance_profile"])
def test_change_behind_its_back_is_named_and_mended(backend: IdentityBackend, engine: CloudEngine, what: str) -> None:
    made = engine.up(backend.values())
    drift(backend, what)
    assert engine.drift(backend.values()) == (what,)
    assert engine.up(backend.values()) == made
    assert [line.split(": ")[0] for line in engine.lines.log] == [what]
    assert " → " in engine.lines.log[0]
    assert engine.unchanged_calls(backend.values())


def test_another_role_in_the_profile_is_put_out(backend: IdentityBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    backend.iam.create_role(RoleName="mighty", AssumeRolePolicyDocument=LENT)
    drift(backend, "instance_profile")
    backend.iam.add_role_to_instance_profile(InstanceProfileName=NAME, RoleName="mighty")
    assert engine.drift(backend.values()) == ("instance_profile",)
    engine.up(backend.values())
    assert backend.bound() == [NAME]
    assert engine.lines.log[0] == 'instance_profile: ["mighty"] → []'


def test_missing_permission_keeps_what_is_there_and_the_next_up_goes_on(
    backend: IdentityBackend, engine: CloudEngine
) -> None:
    backend.emulator.deny(CreateInstanceProfile="iam:CreateInstanceProfile")
    with pytest.raises(HalfMade, match="iam:CreateInstanceProfile"):
        engine.up(backend.values())
    backend.emulator.no_faults()
    engine.up(backend.values())
    assert backend.bound() == [NAME]


def test_another_name_replaces_both(backend: IdentityBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    engine.up({**backend.values(), "name": "aifactory-other-node"})
    assert sorted(backend.parts()) == ["1 role aifactory-other-node", "2 profile aifactory-other-node"]


def test_destroy_takes_what_others_hung_on_the_role_with_it(backend: IdentityBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    drift(backend, "other_policies")
    drift(backend, "attached_policies")
    backend.emulator.fault(action="DeleteRole", status=409, code="DeleteConflict")
    engine.destroy()
    assert backend.parts() == {}


def test_delete_leaves_namesakes_alone(backend: IdentityBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    backend.iam.tag_role(RoleName=NAME, Tags=tags.pairs(STRANGER))
    backend.iam.tag_instance_profile(InstanceProfileName=NAME, Tags=tags.pairs(STRANGER))
    engine.destroy()
    assert backend.bound() == [NAME]


def test_check_names_a_name_that_is_too_long(backend: IdentityBackend, engine: CloudEngine) -> None:
    with pytest.raises(CheckFailed, match=r"name: .* is not allowed; allowed: 1 to 64 letters"):
        engine.up({**backend.values(), "name": "a" * 80})
    assert backend.emulator.requests() == {}


def test_create_that_is_killed_after_any_of_its_writes_is_gone_on_with(
    backend: IdentityBackend, engine: CloudEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kill_at_every_write(backend, engine, monkeypatch) == 4
