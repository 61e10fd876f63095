"""Names, ranks, addresses and pools. Real: spec, catalogue, plan."""

from __future__ import annotations

import pytest
from aifactory.errors import ProblemError
from aifactory.plan import build

from tests.unit.plan import regions

SERVE = {"name": "serve", "shape": "local-cpu", "nodes": 2}
CHAT = {"name": "chat", "model": "golden-tiny", "pool": "serve"}


def test_pools_two_pools_and_front_ranks_and_addresses_run_through() -> None:
    plan = build.plan(regions.spec(pools=[SERVE, {**SERVE, "name": "more", "nodes": 1}], services=[CHAT]))
    nodes = [(n.name, n.rank, n.address) for pool in plan.pools for n in pool.nodes]
    assert nodes == [
        ("lab-serve-000", 0, "10.64.0.16"),
        ("lab-serve-001", 1, "10.64.0.17"),
        ("lab-more-000", 2, "10.64.0.18"),
        ("lab-front-000", 3, "10.64.0.19"),
    ]
    assert [p.purpose for p in plan.pools] == ["serve", "serve", "front"]


def test_pools_one_node_more_keeps_names_and_addresses_of_the_rest_of_its_pool() -> None:
    def names(count: int) -> list[tuple[str, str | None]]:
        plan = build.plan(regions.spec(pools=[{**SERVE, "nodes": count}], services=[CHAT]))
        return [(n.name, n.address) for n in plan.pools[0].nodes]

    assert names(3)[:2] == names(2)


def test_pools_network_without_room_names_how_many_fit() -> None:
    with pytest.raises(ProblemError) as caught:
        build.plan(regions.spec(network={"cidr": "10.9.0.0/27"}, pools=[{**SERVE, "nodes": 16}]))
    (problem,) = caught.value.problems
    assert (problem.rule, problem.path) == ("PLAN-002", "network.cidr")
    assert "15 nodes" in problem.message
    assert build.plan(regions.spec(network={"cidr": "10.9.0.0/27"}, pools=[{**SERVE, "nodes": 15}]))


def test_pools_static_hosts_keep_their_names_keys_and_ports() -> None:
    plan = build.plan(regions.example("oslo-lab"))
    first = plan.pools[0].nodes[0]
    assert (first.name, first.address, first.ssh_address, first.ssh_port) == ("b200-01", "10.40.0.11", "10.40.0.11", 22)
    assert (first.host_key or "").startswith("ssh-ed25519 ")
    assert first.labels == (("rack", "r1"),)
    assert first.gpus == 8


def test_pools_no_services_no_front_door() -> None:
    plan = build.plan(regions.spec(pools=[SERVE]))
    assert plan.front_door is None
    assert [p.name for p in plan.pools] == ["serve"]


def test_front_static_region_stands_on_the_service_nodes() -> None:
    plan = build.plan(regions.example("oslo-lab"))
    assert plan.front_door is not None
    assert plan.front_door.nodes == ("b200-01",)
    assert [p.purpose for p in plan.pools] == ["serve"]


def test_front_static_region_asked_for_own_nodes_is_refused() -> None:
    hosted = regions.static(
        "dgx-b200", services=[{"name": "a", "model": "apertus-70b", "pool": "p"}], front_door={"nodes": 2}
    )
    with pytest.raises(ProblemError) as caught:
        build.plan(hosted)
    assert caught.value.problems[0].rule == "PLAN-003"


def test_front_cloud_region_has_two_nodes() -> None:
    plan = build.plan(regions.example("eu-sovereign"))
    assert plan.front_door is not None
    assert plan.front_door.nodes == ("eu-sovereign-front-000", "eu-sovereign-front-001")


def test_publish_two_doors_on_local_take_neighbouring_ports() -> None:
    plan = build.plan(regions.spec(pools=[SERVE], services=[CHAT], front_door={"nodes": 2, "port": 9000}))
    assert [n.publish for n in plan.pools[1].nodes] == [((9000, 443),), ((9001, 443),)]
    assert all(n.publish == () for n in plan.pools[0].nodes)


def test_publish_door_on_a_service_node_of_local() -> None:
    plan = build.plan(regions.spec(pools=[SERVE], services=[CHAT], front_door={"nodes": 0}))
    assert plan.pools[0].nodes[0].publish == ((8443, 443),)
    assert plan.pools[0].nodes[1].publish == ()


def test_publish_outside_local_nothing() -> None:
    for name in ("oslo-lab", "eu-sovereign"):
        plan = build.plan(regions.example(name))
        assert all(n.publish == () for p in plan.pools for n in p.nodes)
