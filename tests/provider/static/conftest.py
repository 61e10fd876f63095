"""Hosts that exist, for a static pool: two nodes of a local one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aifactory.hosts.fleet import FleetHost
from aifactory.provider.local.node_pool import NodePool as LocalNodePool

from tests.provider.local import ground as real


@dataclass(frozen=True)
class Lab:
    ground: real.Ground
    nodes: tuple[FleetHost, ...]

    def host(self, index: int, **more: Any) -> dict[str, Any]:
        node = self.nodes[index]
        return {
            "name": f"b200-{index:02d}",
            "address": node.address,
            "port": node.port,
            "host_key": node.host_key,
            "rank": index,
            **more,
        }

    def values(self, *hosts: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {
            "region": "t-lab",
            "pool": "train",
            "shape": "dgx-b200",
            "user": "ops",
            "ssh_private_key": self.ground.private_key,
            "hosts": list(hosts) or [self.host(0), self.host(1)],
            **more,
        }

    def run(self, index: int, script: str) -> None:
        done = self.ground.podman.execute(self.nodes[index].name, "sh", "-c", script)
        assert done.returncode == 0, done.stderr


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AIFACTORY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    real.find_podman()
    home = tmp_path_factory.mktemp("lab")
    with pytest.MonkeyPatch.context() as patch, real.node_image(home) as image, real.ground(image) as ground:
        patch.setenv("AIFACTORY_HOME", str(home))
        patch.setenv("AIFACTORY_CACHE", str(home))
        pool = ground.engine(LocalNodePool())
        hosts = pool.up(ground.values(2)).outputs.hosts
        # A few wrong logins in a row, and sshd would not speak to this machine for a while.
        for host in hosts:
            ground.podman.execute(
                host.name,
                "sh",
                "-c",
                "echo 'PerSourcePenalties no' >/etc/ssh/sshd_config.d/05-test.conf; systemctl reload ssh",
            )
        yield Lab(ground, hosts)
