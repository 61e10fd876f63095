"""`service:Service` and `service:FrontDoor`: what goes into a run, what a change runs, what is cleared.

Real: the resources, journals, digests over the project's own roles, certificates. Not real: the Ansible run
(`Hosts` plays it); tests/roles has real nodes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aifactory.provider.host import play_resource
from aifactory.provider.resource import UNKNOWN
from aifactory.provider.service import front_door
from aifactory.provider.service.front_door import Client, DoorService, FrontDoor, FrontDoorInputs
from aifactory.provider.service.service import Endpoint, Replica, Service, ServiceInputs

from tests.provider.harness import CheckFailed, Engine
from tests.provider.host.test_configuration import Hosts
from tests.unit.hosts.conftest import fleet_host
from tests.unit.serving import certificates

A, B = fleet_host("t-a", rank=0), fleet_host("t-b", rank=1)
SECRET = "t-upstream-key"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hosts:
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path / "home"))
    hosts = Hosts()
    monkeypatch.setattr(play_resource.hosts_run, "run_play", hosts.run_play)
    monkeypatch.setattr(play_resource.hosts_run, "read_markers", hosts.read_markers)
    return hosts


def service(**changes: Any) -> ServiceInputs:
    values: dict[str, Any] = {
        "region": "t-region", "hosts": (A, B), "service": "chat", "model": "golden-tiny", "engine": "llama-cpp",
        "image_archive": "engine.tar", "image_id": "1f" * 32, "model_file": "m.gguf", "model_sha256": "2e" * 32,
        "context_tokens": 4096, "parallel_requests": 4, "upstream_key": SECRET,
        "replicas": (Replica(0, "t-a", 8000), Replica(1, "t-b", 8001)),
    }  # fmt: skip
    return ServiceInputs(**{**values, **changes})


def door(**changes: Any) -> FrontDoorInputs:
    _ca, certificate, key = certificates.make()
    values: dict[str, Any] = {
        "region": "t-region", "hosts": (A,), "hostname": "localhost", "port": 8443, "certificate": certificate,
        "private_key": key, "clients": (Client("one", "ab" * 32),), "upstream_key": SECRET,
        "services": (DoorService("chat", "golden-tiny", (Endpoint("t-a", "10.1.1.1", 8000),)),),
    }  # fmt: skip
    return FrontDoorInputs(**{**values, **changes})


def test_service_create_runs_both_hosts_and_says_where_it_answers(world: Hosts) -> None:
    engine = Engine(Service())
    state = engine.up(service())
    assert world.runs == [("t-a", "t-b")]
    assert state.outputs.endpoints == (Endpoint("t-a", A.node_address, 8000), Endpoint("t-b", B.node_address, 8001))
    assert engine.up(service()) is state
    assert len(world.runs) == 1


def test_service_digest_is_the_same_on_another_controller(world: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(Service())
    monkeypatch.setenv("AIFACTORY_CACHE", "/somewhere")
    here = engine.check(service())
    monkeypatch.setenv("AIFACTORY_CACHE", "/elsewhere")
    there = engine.check(service())
    assert here.digests == there.digests
    assert Service().play(there).local_vars["inference"]["image_archive"] == "/elsewhere/images/engine.tar"


@pytest.mark.parametrize(
    "changes",
    [{"image_id": "3d" * 32}, {"model_sha256": "4c" * 32}, {"parallel_requests": 8}, {"upstream_key": "other"},
     {"replicas": (Replica(0, "t-a", 8000),)}],
    ids=lambda c: next(iter(c)),
)  # fmt: skip
def test_service_change_runs_again(world: Hosts, changes: dict[str, Any]) -> None:
    engine = Engine(Service())
    engine.up(service())
    engine.up(service(**changes))
    assert world.runs == [("t-a", "t-b")] * 2
    assert engine.operations == ["create", "update"]


def test_service_renamed_is_another_service(world: Hosts) -> None:
    engine = Engine(Service())
    engine.up(service())
    engine.up(service(service="other"))
    assert engine.operations == ["create", "replace", "create", "delete"]


def test_service_host_that_leaves_is_cleared_first(world: Hosts) -> None:
    engine = Engine(Service())
    engine.up(service())
    engine.up(service(hosts=(A,), replicas=(Replica(0, "t-a", 8000),)))
    assert world.runs[1:] == [("t-b",), ("t-a",)]
    assert world.plays[1].role_vars["inference"]["replicas"] == []


def test_service_destroy_clears_every_host(world: Hosts) -> None:
    engine = Engine(Service())
    engine.up(service())
    engine.destroy()
    assert world.runs[1] == ("t-a", "t-b")
    assert world.plays[1].role_vars["inference"]["replicas"] == []


def test_service_key_is_in_no_digest_and_no_repr(world: Hosts) -> None:
    engine = Engine(Service())
    state = engine.up(service())
    assert SECRET not in repr(state.inputs)
    assert SECRET not in json.dumps(state.inputs.digests)
    assert hashlib.sha256(SECRET.encode()).hexdigest() not in json.dumps(state.inputs.digests)


def test_service_preview_before_the_image_is_built_knows_no_digest(world: Hosts) -> None:
    diff, outs = Engine(Service()).preview(service(image_id=UNKNOWN, image_archive=UNKNOWN))
    assert diff is None
    assert outs.nodes is UNKNOWN
    assert world.runs == []


def test_door_create_says_its_endpoint(world: Hosts) -> None:
    assert Engine(FrontDoor()).up(door()).outputs.endpoint == "https://localhost:8443"
    assert Engine(FrontDoor()).up(door(port=443)).outputs.endpoint == "https://localhost"


def test_door_variables_are_what_the_role_takes(world: Hosts) -> None:
    engine = Engine(FrontDoor())
    engine.up(door(clients=(Client("one", "ab" * 32), Client("two", "cd" * 32, 60))))
    variables = world.plays[0].role_vars["front_door"]
    assert [c["requests_per_minute"] for c in variables["clients"]] == [0, 60]
    assert set(world.plays[0].secret_vars["front_door"]) == {"private_key", "upstream_key"}
    assert SECRET not in json.dumps(variables)


@pytest.mark.parametrize(
    ("changes", "property_", "reason"),
    [
        ({"certificate": "no"}, "certificate", "is not a PEM certificate"),
        ({"private_key": "no"}, "certificate", "its private key is not a PEM key"),
        ({"certificate": certificates.make()[1]}, "certificate", "does not belong to the private key"),
        ({"clients": (Client("one", "AB" * 32),)}, "clients[0].key_sha256", "is not a SHA-256"),
        ({"clients": (Client("one", "ab" * 32), Client("one", "cd" * 32))}, "clients[1].name", "is there twice"),
    ],
)
def test_door_that_haproxy_would_refuse_is_refused_by_check(
    world: Hosts, changes: dict[str, Any], property_: str, reason: str
) -> None:
    with pytest.raises(CheckFailed) as caught:
        Engine(FrontDoor()).up(door(**changes))
    failures = caught.value.failures
    assert [(f.property, reason in f.reason) for f in failures] == [(property_, True)]
    assert world.runs == []


def test_door_failure_never_shows_the_key() -> None:
    given = door(certificate=certificates.make()[1])
    text = " ".join(front_door.certificate_problems(given))
    assert given.private_key.splitlines()[1] not in text


def test_door_preview_with_unknown_endpoints_asks_nothing(world: Hosts) -> None:
    given = door()
    unknown = replace(given, services=(DoorService("chat", "golden-tiny", UNKNOWN),), certificate=UNKNOWN)
    _diff, outs = Engine(FrontDoor()).preview(unknown)
    assert outs.endpoint is UNKNOWN
    assert world.runs == []


def test_door_destroy_takes_it_off(world: Hosts) -> None:
    engine = Engine(FrontDoor())
    engine.up(door())
    engine.destroy()
    assert world.plays[1].role_vars["front_door"]["state"] == "absent"
