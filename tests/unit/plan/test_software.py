"""Driver and packages of the plan. Real: spec, catalogue, plan."""

from __future__ import annotations

from typing import Any

from aifactory import catalog
from aifactory.plan import build
from aifactory.plan.model import RepositoryPlan

from tests.unit.plan import regions


def planned(shape: str, **sections: Any) -> dict[str, RepositoryPlan]:
    return {r.name: r for r in build.plan(regions.static(shape, **sections)).repositories}


def test_repositories_are_those_of_the_gpus_vendor() -> None:
    assert set(planned("hgx-h100")) == {"nvidia"}
    assert set(planned("mi300x-8gpu")) == {"amdgpu"}
    assert set(planned("cpu-small")) == set()


def test_repository_of_doca_is_there_where_the_fabric_asks_for_it_whoever_made_the_gpus() -> None:
    assert set(planned("hgx-h100", fabric={"stack": "doca"})) == {"nvidia", "doca"}
    assert set(planned("mi300x-8gpu", fabric={"stack": "doca"})) == {"amdgpu", "doca"}
    assert set(planned("hgx-h100", fabric={"stack": "inbox"})) == {"nvidia"}


def test_keys_by_distribution_are_the_catalogues_also_behind_a_mirror() -> None:
    own = tuple(sorted(catalog.repositories()["nvidia"].fingerprints.items()))
    assert planned("hgx-h100")["nvidia"].fingerprints == own
    mirror = {"nvidia": {"url": "https://mirror.example.org/cuda/"}}
    found = planned("hgx-h100", software={"repositories": mirror})["nvidia"]
    assert (found.url, found.fingerprints) == ("https://mirror.example.org/cuda", own)


def test_key_that_the_region_file_names_is_the_only_one() -> None:
    key = "0123456789ABCDEF0123456789ABCDEF01234567"
    found = planned("hgx-h100", fabric={"stack": "doca"}, software={"repositories": {"doca": {"fingerprint": key}}})
    assert (found["doca"].fingerprint, found["doca"].fingerprints) == (key, ())
    assert found["doca"].url == catalog.repositories()["doca"].url
    assert found["nvidia"].fingerprints != ()


def test_tuning_takes_the_governor_that_gpu_nodes_want_unless_another_is_asked_for() -> None:
    plain = build.plan(regions.static("hgx-h100"))
    assert (plain.tuning.cpu_governor, plain.tuning.hugepages, plain.tuning.imex_channel0) == ("performance", 0, False)
    assert ("tuning.cpu_governor", "performance") in plain.defaults_taken
    asked = build.plan(regions.static("hgx-h100", tuning={"cpu_governor": "unchanged", "hugepages": 512}))
    assert (asked.tuning.cpu_governor, asked.tuning.hugepages) == ("unchanged", 512)
    assert not any(path == "tuning.cpu_governor" for path, _ in asked.defaults_taken)
    assert not any(path == "tuning.cpu_governor" for path, _ in build.plan(regions.static("cpu-small")).defaults_taken)


def test_fabric_keeps_what_the_site_says_about_its_cards_where_they_are_of_that_kind() -> None:
    asked = {"exclude_hcas": ["mlx5_4"], "roce": {"dscp": 10, "traffic_class": 41}}
    roce = build.plan(regions.static("hgx-h100", fabric={"kind": "roce", **asked})).fabric
    assert (roce.exclude_hcas, roce.roce) == (("mlx5_4",), (("dscp", 10), ("traffic_class", 41)))
    infiniband = build.plan(regions.static("hgx-h100", fabric={"kind": "infiniband", **asked})).fabric
    assert (infiniband.exclude_hcas, infiniband.roce) == (("mlx5_4",), ())
    tcp = build.plan(regions.static("hgx-h100", fabric={"kind": "tcp", **asked})).fabric
    assert (tcp.exclude_hcas, tcp.roce) == ((), ())
