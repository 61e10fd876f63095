"""Preflight of a local region. Real: podman, sockets, disks, the plan of a region. Not real: the stopped engines."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from aifactory.errors import Problem
from aifactory.plan import build
from aifactory.plan.model import RegionPlan
from aifactory.provider.local import driver, labels, preflight
from aifactory.provider.local.network import Network
from aifactory.provider.local.node_pool import NodePool
from aifactory.region.spec import Region

from tests.provider.local.ground import Ground, unused_cidr

pytestmark = pytest.mark.containers


def plan(name: str, cidr: str, port: int) -> RegionPlan:
    raw = {
        "version": 1,
        "name": name,
        "jurisdiction": {"country": "DE"},
        "provider": {"kind": "local", "engine": "podman"},
        "network": {"cidr": cidr},
        "pools": [{"name": "serve", "shape": "local-cpu", "nodes": 2}],
        "services": [{"name": "chat", "model": "golden-tiny", "pool": "serve", "replicas": 2}],
        "front_door": {"port": port},
    }
    return build.plan(Region.model_validate_json(json.dumps(raw)))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def region(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> RegionPlan:
    monkeypatch.setattr(preflight, "INOTIFY_LIMIT", Path("/nowhere"))  # other tests on this machine have nodes too
    return plan(f"{ground.region}-p", unused_cidr(ground.podman), free_port())


def only(problems: list[Problem], rule: str) -> Problem:
    (one,) = problems
    assert one.rule == rule
    return one


def test_check_free_machine_finds_nothing(region: RegionPlan) -> None:
    assert preflight.check(region, None) == []


def test_check_own_running_region_is_no_obstacle(ground: Ground, region: RegionPlan) -> None:
    network, pool = ground.engine(Network()), ground.engine(NodePool())
    name = network.up({"region": region.region, "cidr": region.cidr, "engine": "podman"}).outputs.network
    try:
        pool.up(_inputs(ground, region, name))
        assert preflight.check(region, ground.deployment) == []
        found = preflight.check(region, "another-deployment")
        assert sorted({p.rule for p in found}) == ["PRE-105", "PRE-107"]
        holder = f"region {region.region} of deployment {ground.deployment}"
        assert all(holder in p.message for p in found)
        assert [p.path for p in found if p.rule == "PRE-105"] == ["front_door.port"]
        assert len([p for p in found if p.rule == "PRE-107"]) == 4  # the network and three nodes
    finally:
        pool.destroy()
        network.destroy()


def _inputs(ground: Ground, region: RegionPlan, network: str) -> dict[str, object]:
    nodes = [
        {
            "name": node.name,
            "address": node.address,
            "rank": node.rank,
            "publish": [{"host_port": outside, "node_port": inside} for outside, inside in node.publish],
        }
        for pool in region.pools
        for node in pool.nodes
    ]
    return ground.values(0) | {"region": region.region, "network": network, "nodes": nodes}


def test_check_taken_port_names_the_program(ground: Ground, region: RegionPlan) -> None:
    assert region.front_door
    with socket.create_server(("127.0.0.1", region.front_door.port.value)):
        problem = only(preflight.check(region, None), "PRE-105")
    assert f"Port {region.front_door.port.value} of this machine" in problem.message
    assert "(process " in problem.message
    assert problem.fix == "stop it, or choose another front_door.port"


def test_check_taken_range_names_the_network(ground: Ground, region: RegionPlan) -> None:
    inside = dataclasses.replace(region, cidr=ground.cidr.replace("0/24", "0/25"))
    problem = only(preflight.check(inside, None), "PRE-106")
    assert f"network {ground.network} ({ground.cidr})" in problem.message
    assert problem.path == "network.cidr"


def test_check_container_of_somebody_else_is_told(ground: Ground, region: RegionPlan) -> None:
    name = region.pools[0].nodes[1].name
    ground.podman.run("create", "--name", name, "--label", f"{labels.REGION}={ground.region}", ground.image)
    problem = only(preflight.check(region, None), "PRE-107")
    assert (
        problem.message == f"Container {name} exists already and belongs to something that this toolkit did not make."
    )


def test_check_little_disk_space_names_the_folder(
    region: RegionPlan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 << 30))
    storage, cache = preflight.check(region, None)
    assert storage.rule == cache.rule == "PRE-108"
    assert storage.message.startswith("2.0 GiB are free for the container storage (")
    assert str(tmp_path / "cache") in cache.message


def test_check_too_few_inotify_instances_name_the_command_that_mends_it(
    region: RegionPlan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    watched = ctypes.CDLL(None).inotify_init()
    assert preflight._inotify_of_root() >= 1
    monkeypatch.setattr(preflight, "_inotify_of_root", lambda: 100)
    limit = tmp_path / "limit"
    monkeypatch.setattr(preflight, "INOTIFY_LIMIT", limit)
    limit.write_text(f"{100 + 3 * preflight.INOTIFY_A_NODE - 1}\n")
    problem = only(preflight.check(region, None), "PRE-109")
    assert (problem.fix or "").startswith("sysctl -w fs.inotify.max_user_instances=")
    limit.write_text(f"{100 + 3 * preflight.INOTIFY_A_NODE}\n")
    assert preflight.check(region, None) == []
    os.close(watched)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    driver._open.cache_clear()
    yield folder
    driver._open.cache_clear()


ENGINES = [
    (None, "PRE-101", "Podman is not installed"),
    ('echo "unable to connect to Podman socket" >&2; exit 125', "PRE-102", "its service is not running"),
    ('echo "dial unix /run/p.sock: connect: permission denied" >&2; exit 125', "PRE-103", "may not use it"),
]


@pytest.mark.parametrize(("script", "rule", "words"), ENGINES, ids=["missing", "stopped", "forbidden"])
def test_check_engine_that_cannot_be_used_is_told_with_ssh(
    region: RegionPlan, programs: Path, script: str | None, rule: str, words: str
) -> None:
    if script:
        (programs / "podman").write_text(f"#!/bin/sh\n{script}\n")
        (programs / "podman").chmod(0o755)
    ssh, engine = preflight.check(region, None)
    assert (ssh.rule, engine.rule) == ("PRE-104", rule)
    assert words in engine.message
    assert engine.path == "provider.engine"
