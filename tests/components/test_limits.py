"""What this version cannot bring up. Real: spec, catalogue, plan."""

from __future__ import annotations

from dataclasses import replace

from aifactory.components import limits
from aifactory.plan import build

from tests.unit.plan import regions


def test_problems_local_region_none() -> None:
    assert limits.problems(build.plan(regions.example("local"))) == ()


def test_problems_cloud_region_says_so() -> None:
    rules = {p.rule for p in limits.problems(build.plan(regions.example("eu-sovereign")))}
    assert rules == {"UP-001", "UP-003"}


def test_problems_foreign_models_and_unsigned_packages_are_named_with_their_place() -> None:
    plan = build.plan(regions.example("oslo-lab"))
    assert [(p.rule, p.path) for p in limits.problems(plan)] == [("UP-003", "services[0].model")]
    unsigned = replace(plan, repositories=tuple(replace(r, fingerprint=None) for r in plan.repositories))
    found = limits.problems(unsigned)
    assert [(p.rule, p.path) for p in found] == [("UP-002", "pools[0].shape"), ("UP-003", "services[0].model")]
