"""What roles are told about nodes with GPUs. Real: spec, catalogue, plan, the roles' argument specifications."""

from __future__ import annotations

from typing import Any

import pytest
from aifactory import catalog
from aifactory.components import role_vars
from aifactory.hosts import role_input
from aifactory.plan import build
from aifactory.plan.model import PoolPlan, RegionPlan
from aifactory.region.spec import Region

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFzhd+MZ+hIuGpeHQF4MmfaXtsTD7QjbNO59MLj2hu+M"
SHAPES = sorted(key for key, row in catalog.shapes().items() if "static" in row.providers and row.gpus)


def planned(shape: str, **sections: Any) -> tuple[RegionPlan, PoolPlan]:
    """A static region of two hosts of that shape, and its pool."""
    hosts = [
        {"name": f"box-{i}", "address": f"10.1.0.{i}", "host_key": KEY, "labels": {"rack": f"r{i % 2}"}} for i in (1, 2)
    ]
    spec = Region.model_validate_json(
        __import__("json").dumps(
            {
                "version": 1, "name": "lab", "jurisdiction": {"country": "NO"},
                "provider": {"kind": "static", "ssh": {"user": "ops"}},
                "pools": [{"name": "train", "shape": shape, "hosts": hosts}], **sections,
            }
        )
    )  # fmt: skip
    plan = build.plan(spec)
    return plan, plan.pools[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_dicts_that_the_roles_take(shape: str) -> None:
    plan, pool = planned(shape)
    given = role_vars.role_vars(plan, pool)
    whole = {role: role_input.complete(role, values) for role, values in given.items()}
    row = catalog.shapes()[shape]
    assert whole["gpu"]["gpus_per_node"] == row.gpus
    assert whole["gpu"]["platform"]["key"] == row.gpu
    assert whole["fabric"]["kind"] == row.fabric
    assert role_input.complete("health", role_vars.health(plan, pool))["signals"]


def test_one_version_is_the_only_fact_about_the_driver() -> None:
    plan, pool = planned("hgx-b200", software={"driver_version": "580.126.20"})
    assert role_vars.role_vars(plan, pool)["gpu"]["driver"]["version"] == "580.126.20"
    assert role_vars.role_vars(plan, pool)["gpu"]["driver"]["branch"] == "580"


def test_mirror_takes_the_place_of_the_vendor_and_keeps_its_keys() -> None:
    mirror = {"nvidia": {"url": "https://mirror.example.org/cuda/"}}
    plan, pool = planned("hgx-h100", software={"repositories": mirror})
    own = catalog.repositories()["nvidia"]
    given = role_vars.role_vars(plan, pool)
    assert given["gpu"]["repository"] == {
        "url": "https://mirror.example.org/cuda",
        "fingerprint": own.fingerprint,
        "fingerprints": {distribution: key or "" for distribution, key in own.fingerprints.items()},
    }
    assert given["runtime"]["repository"] == given["gpu"]["repository"]
    assert given["gpu"]["repository"]["fingerprints"]["rhel10"] == "", "unknown, not the common one"


def test_key_that_the_region_file_names_signs_for_every_distribution() -> None:
    key = "0123456789ABCDEF0123456789ABCDEF01234567"
    plan, pool = planned("hgx-h100", software={"repositories": {"nvidia": {"fingerprint": key}}})
    for role in ("gpu", "runtime"):
        found = role_vars.role_vars(plan, pool)[role]["repository"]
        assert (found["fingerprint"], found["fingerprints"]) == (key, {})


def test_racks_are_told_whole_and_in_one_order_where_memory_is_shared() -> None:
    plan, pool = planned("gb200-nvl72-tray")
    imex = role_vars.role_vars(plan, pool)["gpu"]["imex"]
    assert imex["enabled"]
    assert imex["nodes"] == [{"rack": "r0", "address": "10.1.0.2"}, {"rack": "r1", "address": "10.1.0.1"}]
    plan, pool = planned("hgx-h100")
    assert role_vars.role_vars(plan, pool)["gpu"]["imex"] == {"enabled": False, "nodes": [], "channel0": False}


def test_doca_comes_from_its_own_folders_and_keys() -> None:
    plan, pool = planned("hgx-h100", fabric={"stack": "doca"})
    assert role_vars.repositories(plan, pool) == ("nvidia", "doca")
    fabric = role_input.complete("fabric", role_vars.role_vars(plan, pool)["fabric"])
    row = catalog.repositories()["doca"]
    assert fabric["stack"] == "doca"
    assert fabric["repository"]["url"] == row.url
    assert fabric["repository"]["folders"]["ubuntu2404/sbsa"] == "latest-3.2-LTS/ubuntu24.04/arm64-sbsa"
    assert (fabric["repository"]["fingerprint"], fabric["repository"]["fingerprints"]["rhel9"]) == (row.fingerprint, "")
    assert fabric["repository"]["key_files"]["rhel9"].endswith(".asc")
    assert "rdma-core*" in fabric["repository"]["replaces"]


def test_settings_of_the_site_reach_the_roles() -> None:
    fabric = {"kind": "roce", "exclude_hcas": ["mlx5_4"], "roce": {"dscp": 10, "traffic_class": 41}}
    plan, pool = planned("hgx-h100", fabric=fabric, tuning={"cpu_governor": "unchanged", "hugepages": 512})
    given = {role: role_input.complete(role, v) for role, v in role_vars.role_vars(plan, pool).items()}
    assert given["fabric"]["nccl"]["exclude_hcas"] == ["mlx5_4"]
    assert (given["fabric"]["roce"]["dscp"], given["fabric"]["roce"]["traffic_class"]) == (10, 41)
    assert {"name": "NCCL_IB_TC", "value": "41"}.items() <= next(
        s for s in given["fabric"]["nccl"]["settings"] if s["name"] == "NCCL_IB_TC"
    ).items()
    assert given["gpu"]["tuning"] == {"cpu_governor": "unchanged", "hugepages": 512}


@pytest.mark.parametrize(("shape", "there"), [("gb200-nvl72-tray", True), ("hgx-b200", False)])
def test_imex_channel_0_is_made_and_given_to_containers_where_memory_is_shared(shape: str, there: bool) -> None:
    plan, pool = planned(shape, tuning={"imex_channel0": True})
    given = role_vars.role_vars(plan, pool)
    assert (given["gpu"]["imex"]["channel0"], given["runtime"]["imex_channels"]) == (there, there)
    plan, pool = planned(shape)
    given = role_vars.role_vars(plan, pool)
    assert (given["gpu"]["imex"]["channel0"], given["runtime"]["imex_channels"]) == (False, False)
