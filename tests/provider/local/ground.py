"""What tests of real nodes stand on: podman, the node image (built once a machine), a network, a login key.

Everything carries the label of a region that only this test knows, and goes by that label at the end.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aifactory.provider.host.key_material import ssh_key_pair
from aifactory.provider.local import driver, labels, subnets
from aifactory.provider.local.driver import ContainerEngine
from aifactory.provider.local.engine_errors import EngineError
from aifactory.provider.local.engine_output import Container
from aifactory.provider.local.node_image import NodeImage
from aifactory.provider.resource import Resource

from tests.provider.harness import Engine

SHARED_CACHE = Path(os.environ.get("AIFACTORY_CACHE") or Path.home() / ".cache" / "aifactory")
"""The node image is worth sharing between tests and with `make up`; read before any test points elsewhere."""


@dataclass(frozen=True)
class Ground:
    region: str
    podman: ContainerEngine
    image: str
    network: str
    cidr: str
    private_key: str
    public_key: str

    @property
    def deployment(self) -> str:
        return f"d-{self.region}"

    def address(self, index: int) -> str:
        return f"{self.cidr.rpartition('.')[0]}.{16 + index}"

    def node(self, index: int, pool: str = "serve", **more: Any) -> dict[str, Any]:
        name = f"{self.region}-{pool}-{index:03d}"
        return {"name": name, "address": self.address(index), "rank": index, **more}

    def values(self, nodes: int = 2, **more: Any) -> dict[str, Any]:
        """Inputs of a pool, as a program gives them."""
        return {
            "region": self.region,
            "pool": "serve",
            "engine": "podman",
            "network": self.network,
            "image": self.image,
            "user": "ops",
            "authorized_key": self.public_key,
            "ssh_private_key": self.private_key,
            "shape": "local-cpu",
            "nodes": [self.node(i) for i in range(nodes)],
            "ready_timeout_s": 60,
            **more,
        }

    def engine(self, resource: Resource[Any, Any], name: str = "it") -> Engine:
        return Engine(resource, name=name, deployment=self.deployment)

    def containers(self) -> dict[str, Container]:
        return {c.name: c for c in self.podman.containers({labels.REGION: self.region})}

    def volumes(self) -> list[str]:
        return [v.name for v in self.podman.volumes({labels.REGION: self.region})]

    def clear(self) -> None:
        """Removes nodes and volumes, however the test ended."""
        remove_all(self.podman, {labels.REGION: self.region})


def remove_all(engine: ContainerEngine, found_by: Mapping[str, str]) -> None:
    for container in engine.containers(found_by):
        engine.remove(container.name)
    for volume in engine.volumes(found_by):
        engine.remove_volume(volume.name)


def unused_cidr(engine: ContainerEngine) -> str:
    """A /24 that nothing on this machine uses, drawn by lot so that parallel tests do not meet."""
    while True:
        cidr = f"10.{128 + secrets.randbelow(120)}.{secrets.randbelow(256)}.0/24"
        if subnets.clash(cidr, engine.networks(), "") is None:
            return cidr


def find_podman() -> ContainerEngine:
    try:
        return driver.find("podman")
    except EngineError as error:
        pytest.skip(f"needs podman (apt-get install podman): {error}")


@contextlib.contextmanager
def node_image(folder: Path) -> Iterator[str]:
    """Id of the node image, kept in podman by a name of its own meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIFACTORY_HOME", str(folder))
        patch.setenv("AIFACTORY_CACHE", str(SHARED_CACHE))
        holder = Engine(NodeImage(), deployment=f"t-{secrets.token_hex(6)}")
        image = holder.up({"engine": "podman", "suite": "trixie"}).outputs.image
    yield image
    holder.destroy()


@contextlib.contextmanager
def ground(image: str) -> Iterator[Ground]:
    podman = find_podman()
    region = f"t-{secrets.token_hex(4)}"
    private, public = ssh_key_pair()
    for _ in range(5):
        cidr = unused_cidr(podman)
        with contextlib.suppress(EngineError):
            gateway = cidr.replace("0/24", "1")
            podman.create_network(f"aifactory-{region}", cidr, gateway, {labels.REGION: region})
            break
    made = Ground(region, podman, image, f"aifactory-{region}", cidr, private, public)
    try:
        yield made
    finally:
        made.clear()
        podman.remove_network(made.network)


def ssh(ground: Ground, host: Any, *command: str) -> subprocess.CompletedProcess[str]:
    """Logs in as a person would with the fleet's host key, without any of the code under test."""
    folder = Path(os.environ["AIFACTORY_HOME"])
    folder.mkdir(parents=True, exist_ok=True)
    key, known = folder / "id", folder / "known"
    key.touch(mode=0o600)
    key.write_text(ground.private_key)
    known.write_text(f"[{host.address}]:{host.port} {host.host_key}\n")
    assert shutil.which("ssh")
    return subprocess.run(
        [
            "ssh", "-F", "/dev/null", "-i", key, "-p", str(host.port), "-o", f"UserKnownHostsFile={known}",
            "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
            "-o", "LogLevel=ERROR", f"{host.user}@{host.address}", *command,
        ],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
