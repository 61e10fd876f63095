"""Names, ranks, addresses and pools. Real: spec, catalogue, plan."""

from __future__ import annotations

import ipaddress

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
        ("lab-serve-000", 0, "10.64.0.32"),
        ("lab-serve-001", 1, "10.64.0.33"),
        ("lab-more-000", 2, "10.64.16.32"),
        ("lab-front-000", 3, "10.64.0.2"),
    ]
    assert [p.purpose for p in plan.pools] == ["serve", "serve", "front"]


def test_pools_one_node_more_moves_no_other_node() -> None:
    """An address is part of what a node is: one that moved would be made again."""

    def addresses(count: int) -> dict[str, str | None]:
        pools = [{**SERVE, "nodes": count}, {**SERVE, "name": "more"}]
        plan = build.plan(regions.spec(pools=pools, services=[CHAT], front_door={"nodes": count}))
        return {n.name: n.address for p in plan.pools for n in p.nodes}

    few, many = addresses(2), addresses(3)
    assert len(many) == len(few) + 2
    assert few.items() <= many.items()


@pytest.mark.parametrize("cidr", ["10.9.0.0/16", "10.9.0.0/20", "10.9.0.0/24"])
def test_pools_full_network_has_an_address_for_every_node(cidr: str) -> None:
    room = {"10.9.0.0/16": 4096, "10.9.0.0/20": 256, "10.9.0.0/24": 16}[cidr]
    full = [{**SERVE, "name": f"p{i}", "nodes": room} for i in range(8)]
    plan = build.plan(
        regions.spec(network={"cidr": cidr}, pools=full, services=[{**CHAT, "pool": "p0"}], front_door={"nodes": 16})
    )
    network = ipaddress.IPv4Network(cidr)
    found = [ipaddress.IPv4Address(n.address or "") for p in plan.pools for n in p.nodes]
    assert len(set(found)) == len(found) == 8 * room + 16
    assert set(found) <= set(network)
    assert not {network[0], network[1], network[-1]} & set(found)


def test_pools_network_without_room_names_how_many_fit() -> None:
    with pytest.raises(ProblemError) as caught:
        build.plan(regions.spec(network={"cidr": "10.9.0.0/24"}, pools=[{**SERVE, "nodes": 17}]))
    (problem,) = caught.value.problems
    assert (problem.rule, problem.path, problem.nearest) == ("PLAN-002", "pools[0].nodes", ("16",))


def test_pools_ninth_pool_of_a_local_region_is_refused() -> None:
    with pytest.raises(ProblemError) as caught:
        build.plan(regions.spec(pools=[{**SERVE, "name": f"p{i}"} for i in range(9)]))
    assert caught.value.problems[0].path == "pools[8]"


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
