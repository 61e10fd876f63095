"""What this version cannot bring up. Real: spec, catalogue, plan."""

from __future__ import annotations

from dataclasses import replace

from aifactory.components import limits
from aifactory.plan import build
from aifactory.region.spec import Ingress, Network, Platform

from tests.components.test_role_vars import planned
from tests.unit.plan import regions
from tests.unit.plan.regions import cloud
from tests.unit.plan.test_aws import spec as cloud_spec


def test_problems_local_region_none() -> None:
    assert limits.problems(build.plan(regions.example("local"))) == ()


def test_problems_cloud_region_says_so() -> None:
    rules = {p.rule for p in limits.problems(build.plan(regions.example("eu-sovereign")))}
    assert rules == {"UP-003"}


def test_problems_foreign_models_and_unsigned_packages_are_named_with_their_place() -> None:
    plan = build.plan(regions.example("oslo-lab"))
    assert [(p.rule, p.path) for p in limits.problems(plan)] == [("UP-003", "services[0].model")]
    unsigned = replace(plan, repositories=tuple(replace(r, fingerprint=None) for r in plan.repositories))
    found = limits.problems(unsigned)
    assert [(p.rule, p.path) for p in found] == [("UP-002", "pools[0].shape"), ("UP-003", "services[0].model")]


def test_unheeded_what_would_be_left_undone_is_named_with_its_place() -> None:
    local = regions.example("local")
    assert limits.unheeded(local) == ()
    cloud = [p.path for p in limits.unheeded(regions.example("eu-sovereign"))]
    assert cloud == ["acceptance.level"]
    assert [p.path for p in limits.unheeded(regions.example("oslo-lab"))] == ["storage[0]", "services[0].slo"]
    kubernetes = local.model_copy(update={"platform": Platform(kind="kubernetes")})
    narrow = kubernetes.model_copy(update={"network": Network(ingress=Ingress(api=("10.0.0.0/8",)))})
    assert [p.path for p in limits.unheeded(narrow)] == ["platform.kind", "network.ingress.api"]


def test_problems_amd_pool_without_a_rocm_version_is_named() -> None:
    plan, _ = planned("mi300x-8gpu")
    assert [(p.rule, p.path) for p in limits.problems(plan)] == [("UP-005", "pools[0].shape")]
    plan, _ = planned("mi300x-8gpu", software={"rocm_version": "6.4.4"})
    assert limits.problems(plan) == ()


def test_problems_cloud_pools_without_an_image_and_without_a_way_in() -> None:
    bare = build.plan(cloud("c7i.large", 1, [{"name": "chat", "model": "golden-tiny", "pool": "train"}]))
    found = [(p.rule, p.path) for p in limits.problems(bare)]
    assert found == [("UP-006", "provider.ssh.source"), ("UP-007", "pools[0].image"), ("UP-007", "front_door.image")]
    pools = [{"name": "train", "shape": "p5.48xlarge", "nodes": 1, "image": "ami-1"}]
    whole = build.plan(cloud_spec(pools=pools, provider={"ssh": {"source": ["10.0.0.0/8"]}}))
    assert limits.problems(whole) == ()


def test_unheeded_cloud_makes_buckets_and_file_systems_and_no_other_storage() -> None:
    storage = [
        {"name": "a", "kind": "object"},
        {"name": "b", "kind": "lustre", "capacity_gib": 1200},
        {"name": "c", "kind": "nfs", "export": "10.0.0.1:/c", "mount": "/c"},
        {"name": "d", "kind": "lustre", "capacity_gib": 1200, "mount": "/d"},
    ]
    found = limits.unheeded(cloud_spec(storage=storage, network={"egress": ["a.b:443"]}))
    assert [p.path for p in found] == ["storage[2]", "storage[3].mount"]
