"""Names, ports and clients of the front door. Real: spec, catalogue, plan."""

from __future__ import annotations

from aifactory.plan import build
from aifactory.plan.model import FrontDoorPlan

from tests.unit.plan import regions

SERVE = {"name": "serve", "shape": "local-cpu", "nodes": 1}
CHAT = {"name": "chat", "model": "golden-tiny", "pool": "serve"}


def door(spec: regions.Region) -> FrontDoorPlan:
    planned = build.plan(spec).front_door
    assert planned is not None
    return planned


def test_endpoint_local_is_loopback_whatever_the_hostname() -> None:
    named = door(regions.spec(pools=[SERVE], services=[CHAT], front_door={"hostname": "ai.test"}))
    assert named.endpoint == "https://127.0.0.1:8443"
    assert named.server_names == ("127.0.0.1", "ai.test", "localhost", "10.64.0.2")


def test_endpoint_static_without_hostname_is_the_first_nodes_address() -> None:
    assert door(regions.example("oslo-lab")).endpoint == "https://10.40.0.11"


def test_endpoint_hostname_asked_for_is_used_outside_local() -> None:
    assert door(regions.example("eu-sovereign")).endpoint == "https://api.eu-sovereign.example.eu"


def test_clients_the_regions_own_comes_first_and_has_no_key_yet() -> None:
    clients = door(regions.example("eu-sovereign")).clients
    assert [(c.name, c.key_sha256 is None) for c in clients] == [("aifactory", True), ("ministry-a", False)]


def test_tls_secrets_lose_their_prefix() -> None:
    planned = door(regions.example("eu-sovereign"))
    assert (planned.own_ca, planned.tls_certificate_secret, planned.tls_key_secret) == (
        False,
        "tls_certificate",
        "tls_key",
    )
