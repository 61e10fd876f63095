"""local:Network beyond the contract: clashes. Real: podman's networks and this machine's routes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from aifactory.provider.local import subnets
from aifactory.provider.local.engine_output import Network as Existing
from aifactory.provider.local.network import Network
from aifactory.provider.resource import Refused

from tests.provider.harness import CheckFailed, Engine
from tests.provider.local.ground import Ground, find_podman, unused_cidr

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
podman1\t0000400A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
"""


def test_routes_are_read_without_the_default_route() -> None:
    assert [(i, str(n)) for i, n in subnets.routes(ROUTES)] == [
        ("eth0", "192.168.1.0/24"),
        ("podman1", "10.64.0.0/16"),
    ]


@pytest.fixture
def routes(tmp_path: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "route"  # type: ignore[operator]
    file.write_text(ROUTES)
    monkeypatch.setattr(subnets, "_ROUTES", file)


OTHERS = [
    Existing("podman", ("10.88.0.0/16", "fd00::/64"), {}, "podman0"),
    Existing("aifactory-a", ("10.64.0.0/16",), {"aifactory.deployment": "d1", "aifactory.region": "a"}, "podman1"),
]


@pytest.mark.parametrize(
    ("cidr", "own", "holder"),
    [
        ("10.64.128.0/24", "aifactory-b", "network aifactory-a (10.64.0.0/16) of region a of deployment d1"),
        ("10.88.0.0/24", "aifactory-b", "network podman (10.88.0.0/16) of something that this toolkit did not make"),
        ("192.168.0.0/16", "aifactory-b", "the route 192.168.1.0/24 of this machine's interface eth0"),
        ("10.64.0.0/16", "aifactory-a", None),
        ("10.99.0.0/24", "aifactory-b", None),
    ],
)
def test_clash_names_who_holds_the_range(routes: None, cidr: str, own: str, holder: str | None) -> None:
    assert subnets.clash(cidr, OTHERS, own) == holder


@pytest.fixture
def network(ground: Ground) -> Iterator[Engine]:
    engine = ground.engine(Network())
    yield engine
    engine.destroy()


@pytest.mark.containers
def test_create_overlapping_range_is_refused_with_its_holder(ground: Ground, network: Engine) -> None:
    inside = ground.cidr.replace("0/24", "128/25")
    with pytest.raises(Refused) as refused:
        network.up({"region": f"{ground.region}x", "cidr": inside, "engine": "podman"})
    assert str(refused.value) == (
        f"{inside} is taken: network {ground.network} ({ground.cidr}) of something that this toolkit did not make; "
        "choose another network.cidr"
    )


@pytest.mark.containers
def test_create_name_of_another_is_refused_and_kept(ground: Ground, network: Engine) -> None:
    with pytest.raises(Refused, match=f"network {ground.network} exists already and belongs to"):
        network.up({"region": ground.region, "cidr": unused_cidr(ground.podman), "engine": "podman"})
    assert ground.podman.network(ground.network)


@pytest.mark.containers
def test_destroy_network_with_containers_is_refused(ground: Ground, network: Engine) -> None:
    region = f"{ground.region}y"
    network.up({"region": region, "cidr": unused_cidr(ground.podman), "engine": "podman"})
    label = f"aifactory.region={ground.region}"
    ground.podman.run("create", "--name", region, "--label", label, "--network", f"aifactory-{region}", ground.image)
    with pytest.raises(Refused, match=f"network aifactory-{region} still has containers"):
        network.destroy()
    ground.clear()


@pytest.mark.containers
def test_up_another_range_replaces_the_network(network: Engine, ground: Ground) -> None:
    podman, region = find_podman(), f"{ground.region}z"
    network.up({"region": region, "cidr": unused_cidr(podman), "engine": "podman"})
    second = unused_cidr(podman)
    network.up({"region": region, "cidr": second, "engine": "podman"})
    found = podman.network(f"aifactory-{region}")
    assert found
    assert found.subnets == (second,)
    assert network.operations == ["create", "replace", "delete", "create"]


@pytest.mark.parametrize(
    ("change", "where"),
    [({"cidr": "10.64.0.1/16"}, "cidr"), ({"cidr": "banana"}, "cidr"), ({"engine": "lxc"}, "engine")],
)
def test_check_wrong_inputs_are_named(change: dict[str, str], where: str) -> None:
    with pytest.raises(CheckFailed) as failed:
        Engine(Network()).up({"region": "t-a", "cidr": "10.64.0.0/16", **change})
    assert [f.property for f in failed.value.failures] == [where]
