"""What preflight finds in a cloud. Real: loader, plan, guarded clients over HTTP, the emulated account."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aifactory import paths
from aifactory.errors import Problem
from aifactory.plan import build
from aifactory.plan.model import RegionPlan
from aifactory.provider.aws import permissions, preflight
from aifactory.region import loader
from ruamel.yaml import YAML

from tests.emulator import Emulator

RESERVATION = "cr-0123456789abcdef0"
ZONE = "eusc-de-east-1a"
SHAPE = "p6-b200.48xlarge"
WRITES = ("Create", "Run", "Put", "Delete", "Modify", "Terminate", "Attach", "Allocate", "Authorize", "S3:PUT")

Planned = Callable[..., RegionPlan]


@pytest.fixture
def planned(emulator: Emulator, tmp_path: Path) -> Planned:
    """The example region in the emulated account; keyword arguments replace keys of its pool."""
    emulator.plant_images()
    emulator.reservation(RESERVATION, SHAPE, ZONE, 64)
    emulator.quota("L-417A185B", 10_000)
    emulator.quota("L-1216C47A", 1_000)
    cloud = emulator.cloud()

    def make(**pool: Any) -> RegionPlan:
        data = YAML(typ="safe").load((paths.REPO / "stacks/regions/eu-sovereign.yaml").read_text("utf-8"))
        data["provider"]["endpoints"] = dict(cloud["endpoints"])
        data["provider"]["credentials"] = {"env_prefix": cloud["env_prefix"]}
        data["pools"][0] = {**data["pools"][0], **pool}
        file = tmp_path / "eu-sovereign.yaml"
        with file.open("w", encoding="utf-8") as out:
            YAML().dump(data, out)
        return build.of(loader.load(file))

    return make


def found(plan: RegionPlan, deployment: str | None = None) -> dict[str, list[Problem]]:
    by_rule: dict[str, list[Problem]] = {}
    for problem in preflight.check(plan, deployment):
        by_rule.setdefault(problem.rule, []).append(problem)
    return by_rule


def test_region_that_can_be_made_has_nothing_in_the_way_and_nothing_is_written(
    emulator: Emulator, planned: Planned
) -> None:
    plan = planned()
    emulator.forget_counts()
    before = emulator.inventory()
    assert found(plan) == {}
    asked = emulator.requests()
    assert asked
    assert [action for action in asked if action.startswith(WRITES)] == []
    assert emulator.inventory() == before


def test_shape_that_a_zone_lacks_names_the_zones_that_have_it(planned: Planned) -> None:
    plan = planned()
    object.__setattr__(plan.pools[0].nodes[0], "zone", "eusc-de-east-1z")
    (problem,) = found(plan)["PRE-204"]
    assert problem.message.startswith(f"{SHAPE} is not offered in eusc-de-east-1z. Offered in {ZONE}")


def test_quota_too_low_names_quota_value_and_need(emulator: Emulator, planned: Planned) -> None:
    emulator.quota("L-417A185B", 192)
    (problem,) = found(planned(capacity={"kind": "on_demand"}))["PRE-203"]
    assert "L-417A185B (Running On-Demand P instances) is 192 vCPUs; the region needs 3,072." in problem.message
    assert problem.path == "pools[0].nodes"


def test_reserved_capacity_needs_no_quota(emulator: Emulator, planned: Planned) -> None:
    emulator.quota("L-417A185B", 0)
    assert found(planned()) == {}


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"instance_type": SHAPE, "zone": ZONE, "total": 8}, "has 8 of 8 left; pool train needs 16 more."),
        ({"instance_type": "p5.48xlarge", "zone": ZONE, "total": 64}, f"is for p5.48xlarge, not {SHAPE}"),
        ({"instance_type": SHAPE, "zone": ZONE, "total": 64, "State": "expired"}, "is expired, not active"),
    ],
)
def test_reservation_that_does_not_fit_says_why(
    emulator: Emulator, planned: Planned, row: dict[str, Any], text: str
) -> None:
    plan = planned()
    emulator.reservation(RESERVATION, **row)
    (problem,) = found(plan)["PRE-205"]
    assert text in problem.message
    assert problem.path == "pools[0].capacity.id"


def test_reservation_and_image_that_are_not_there_are_both_named(planned: Planned) -> None:
    plan = planned(image="ami-00000000000000000", capacity={"kind": "reservation", "id": "cr-00000000000000000"})
    problems = found(plan)
    assert set(problems) == {"PRE-205", "PRE-206"}
    assert "There is no image ami-00000000000000000 in eusc-de-east-1" in problems["PRE-206"][0].message


def test_missing_permissions_are_named_all_at_once(emulator: Emulator, planned: Planned) -> None:
    emulator.deny(RunInstances="ec2:RunInstances", CreateKey="kms:CreateKey", CreateBucket="s3:CreateBucket")
    (problem,) = found(planned())["PRE-208"]
    assert "ec2:RunInstances, kms:CreateKey, s3:CreateBucket" in problem.message
    assert problem.message.count(":") >= 3


def test_read_that_is_denied_is_no_yes(emulator: Emulator, planned: Planned) -> None:
    emulator.deny(DescribeImages="ec2:DescribeImages")
    problems = found(planned())["PRE-208"]
    assert any("What DescribeImages would answer is unknown" in p.message for p in problems)


def test_names_of_somebody_else_are_refused_at_their_place_in_the_file(emulator: Emulator, planned: Planned) -> None:
    plan = planned()
    assert plan.aws is not None
    bucket = plan.aws.buckets[0]
    emulator.boto("s3").create_bucket(
        Bucket=bucket.bucket, CreateBucketConfiguration={"LocationConstraint": "eusc-de-east-1"}
    )
    emulator.boto("iam").create_role(RoleName=plan.aws.role, AssumeRolePolicyDocument="{}")
    kms = emulator.boto("kms")
    kms.create_alias(AliasName=plan.aws.key_alias, TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])
    place = [storage.name for storage in plan.storage].index(bucket.name)
    assert place > 0
    assert {p.message.split(" exists")[0]: p.path for p in found(plan, "another")["PRE-209"]} == {
        f"The bucket {bucket.bucket}": f"storage[{place}].name",
        f"The alias {plan.aws.key_alias}": "name",
        f"The role {plan.aws.role}": "name",
    }


def test_image_of_another_architecture_is_refused(emulator: Emulator, planned: Planned) -> None:
    emulator.image("ami-0aaaaaaaaaaaaaaaa", architecture="arm64")
    told = {p.path: p.message for p in found(planned(image="ami-0aaaaaaaaaaaaaaaa"))["PRE-206"]}
    assert told["pools[0].image"] == f"Image ami-0aaaaaaaaaaaaaaaa is for arm64; {SHAPE} runs x86_64."


def test_wrong_account_is_told_before_anything_else_is_asked(emulator: Emulator, planned: Planned) -> None:
    plan = planned()
    assert plan.aws is not None
    object.__setattr__(plan.aws.cloud, "account", "999999999999")
    emulator.forget_counts()
    (problem,) = preflight.check(plan, None)
    assert problem.rule == "PRE-201"
    assert "account 123456789012" in problem.message
    assert set(emulator.requests()) == {"GetCallerIdentity"}


def test_credentials_that_are_not_there_are_named(planned: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned()
    assert plan.aws is not None
    object.__setattr__(plan.aws.cloud, "env_prefix", "NOBODY_")
    (problem,) = preflight.check(plan, None)
    assert (problem.rule, "NOBODY_ACCESS_KEY_ID" in problem.message) == ("PRE-201", True)


def test_permissions_follow_what_the_region_has(planned: Planned) -> None:
    plan = planned()
    assert plan.aws is not None
    needed = permissions.needed(plan.aws)
    assert {
        "fsx:CreateFileSystem",
        "s3:PutBucketObjectLockConfiguration",
        "elasticloadbalancing:CreateListener",
    } <= set(needed)
    assert list(needed) == sorted(set(needed))
