"""What this version cannot bring up. Real: spec, catalogue, plan."""

from __future__ import annotations

from aifactory.components import limits
from aifactory.plan import build

from tests.unit.plan import regions


def test_problems_local_region_none() -> None:
    assert limits.problems(build.plan(regions.example("local"))) == ()


def test_problems_cloud_region_says_so() -> None:
    rules = {p.rule for p in limits.problems(build.plan(regions.example("eu-sovereign")))}
    assert rules == {"UP-001", "UP-002", "UP-003"}


def test_problems_gpu_hosts_and_foreign_models_are_named_with_their_place() -> None:
    found = limits.problems(build.plan(regions.example("oslo-lab")))
    assert [(p.rule, p.path) for p in found] == [("UP-002", "pools[0].shape"), ("UP-003", "services[0].model")]
