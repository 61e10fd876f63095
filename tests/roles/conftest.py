"""Real nodes for the role tests: containers with systemd and sshd, made by the product's own container driver.

Real: container engine, systemd, sshd, apt, ssh, ansible. Each test module gets its own nodes; the network
and the nodes of a session carry its name and go with it.
"""

from __future__ import annotations

import contextlib
import io
import secrets
import socket
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from aifactory.hosts import run as hosts_run
from aifactory.hosts.fleet import FleetHost
from aifactory.provider.local import driver, engine_errors
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from tests.roles.image import node_image

LABEL = "aifactory.test"


def key_pair() -> tuple[str, str]:
    """(private OpenSSH PEM, public line) of a new key."""
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), public.decode()


@dataclass(frozen=True)
class Node:
    """One container and how the fleet sees it."""

    host: FleetHost
    engine: driver.ContainerEngine
    name: str

    def sh(self, script: str, timeout_s: float = 60) -> str:
        """Output of a shell script inside, as root, past SSH; a failing script fails the test."""
        done = self.engine.execute(self.name, "/bin/sh", "-c", script, timeout_s=timeout_s)
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout.decode().strip()


@dataclass
class Site:
    """What the nodes of this session share."""

    engine: driver.ContainerEngine
    image: str
    network: str
    prefix: str
    private_key: str
    public_key: str
    made: int = 0

    @property
    def ssh(self) -> hosts_run.SshAccess:
        return hosts_run.SshAccess(private_key=self.private_key)

    def node(self, name: str, **changes: object) -> Node:
        """Starts a node; `changes` go into its FleetHost."""
        self.made += 1
        full = f"t-{self.network[-6:]}-{name}"
        port = _free_port()
        private, public = key_pair()
        new = driver.NewContainer(
            name=full,
            image=self.image,
            network=self.network,
            address=f"{self.prefix}.{10 + self.made}",
            mac=f"02:aa:bb:cc:dd:{self.made:02x}",
            labels={LABEL: self.network},
            volumes=((f"{full}-containers", "/var/lib/containers"),),
            publish=((port, 22),),
        )
        self.engine.create_volume(f"{full}-containers", {LABEL: self.network})
        identity = self.engine.create(new, self.engine.flags(self.image, print))
        self.engine.copy_in(
            full,
            _tar(
                ("etc/ssh/ssh_host_ed25519_key", private, 0o600),
                ("etc/ssh/authorized_keys.d/ops", self.public_key + "\n", 0o644),
            ),
        )
        self.engine.start(full)
        self.engine.hold_bridge_address(self.network)
        values = {
            "id": identity, "name": full, "address": "127.0.0.1", "port": port, "user": "ops", "host_key": public,
            "pool": "serve", "shape": "local-cpu", "rank": self.made, "gpus": 0, "node_address": new.address,
        }  # fmt: skip
        return Node(FleetHost(**{**values, **changes}), self.engine, full)  # type: ignore[arg-type]


def _network(engine: driver.ContainerEngine, name: str) -> str:
    """Makes it in a range that no other run has taken; the range's first three numbers."""
    for _ in range(20):
        prefix = f"10.203.{secrets.randbelow(250)}"
        try:
            engine.create_network(name, f"{prefix}.0/24", f"{prefix}.1", {LABEL: name})
        except engine_errors.SubnetInUse:
            continue
        return prefix
    pytest.fail("no free range below 10.203.0.0/16")


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """A network of its own; everything with the session's label is removed at the end."""
    try:
        engine = driver.find()
    except engine_errors.EngineError as error:
        pytest.skip(f"no container engine: {error}")
    private, public = key_pair()
    name = f"t-roles-{secrets.token_hex(3)}"
    with node_image(engine) as image:
        prefix = _network(engine, name)
        try:
            yield Site(engine, image, name, prefix, private, public)
        finally:
            for container in engine.containers({LABEL: name}):
                engine.remove(container.name)
            for volume in engine.volumes({LABEL: name}):
                engine.remove_volume(volume.name)
            engine.remove_network(name)


@pytest.fixture(scope="module")
def nodes(site: Site) -> Iterator[Callable[..., tuple[Node, ...]]]:
    """`nodes("a", "b")` starts nodes for this module and waits for their sshd."""
    made: list[Node] = []

    def start(*names: str, **changes: object) -> tuple[Node, ...]:
        new = tuple(site.node(name, **changes) for name in names)
        made.extend(new)
        for node in new:
            _wait_for_ssh(node, site.ssh)
        return new

    yield start
    for node in made:
        node.engine.remove(node.name)
        with contextlib.suppress(engine_errors.EngineError):
            node.engine.remove_volume(f"{node.name}-containers")


def _wait_for_ssh(node: Node, ssh: hosts_run.SshAccess) -> None:
    from aifactory.hosts import remote

    deadline = time.monotonic() + 60
    while True:
        done = remote.execute(node.host, ssh, ["systemctl", "is-system-running", "--wait"], timeout_s=30)
        if done.returncode != remote.UNREACHABLE:
            return
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tar(*files: tuple[str, str, int]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, text, mode in files:
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(text.encode()), mode
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()
