"""The front door's templates rendered as Ansible renders them, and a real HAProxy that runs the result on loopback."""

from __future__ import annotations

import hashlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jinja2
from aifactory import paths
from aifactory.provider.service.front_door import Client, DoorService, FrontDoor, FrontDoorInputs
from aifactory.provider.service.service import Endpoint
from aifactory.serving import client as serving_client

from tests.unit.serving import certificates

UPSTREAM_KEY = "t-upstream-key"


def render(template: str, **variables: Any) -> str:
    environment = jinja2.Environment(  # noqa: S701 (configuration files, no HTML)
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        loader=jinja2.FileSystemLoader(paths.TEMPLATES),
    )
    return environment.get_template(template).render(**variables)


def role_dict(inputs: FrontDoorInputs, **changes: Any) -> dict[str, Any]:
    """The role's dict, completed as the inventory completes it."""
    from aifactory.hosts import role_input

    whole = role_input.merged(FrontDoor().play(inputs), "front_door")
    return {**whole, **changes}


def inputs(servers: tuple[Endpoint, ...], clients: tuple[Client, ...], **changes: Any) -> FrontDoorInputs:
    values: dict[str, Any] = {
        "region": "local", "hosts": (), "hostname": "localhost", "port": 8443, "certificate": "", "private_key": "",
        "clients": clients, "services": (DoorService("chat", "golden-tiny", servers),), "upstream_key": UPSTREAM_KEY,
    }  # fmt: skip
    return FrontDoorInputs(**{**values, **changes})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Upstream:
    """tests/unit/serving/upstream.py as a process."""

    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        script = Path(__file__).with_name("upstream.py")
        self.process = subprocess.Popen([sys.executable, script, str(self.port)], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def signal(self, number: int) -> None:
        assert self.process
        self.process.send_signal(number)

    def posts(self) -> int:
        """POST requests that it has seen."""
        return int(httpx.get(f"http://127.0.0.1:{self.port}/seen", trust_env=False).json()["posts"])

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()


@dataclass
class Door:
    """A running HAProxy, its folder and how to ask it."""

    folder: Path
    port: int
    ca: str
    process: subprocess.Popen[bytes]

    def client(self, key: str, timeout_s: float = 20) -> serving_client.Client:
        return serving_client.Client(f"https://127.0.0.1:{self.port}", self.ca, key, timeout_s)

    def admin(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as door:
            door.connect(str(self.folder / "admin.sock"))
            door.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: door.recv(65536), b"")).decode()

    def servers_up(self) -> int:
        lines = self.admin("show stat").splitlines()
        return sum(1 for line in lines if line.startswith("replica_") and ",engine," in line and ",UP" in line)

    def log(self) -> str:
        return (self.folder / "log").read_text()


def write(folder: Path, given: FrontDoorInputs, **changes: Any) -> Path:
    """All files of the door in `folder`; returns its configuration."""
    variables = {
        "front_door": role_dict(given, **changes),
        "_front_door_config": str(folder),
        "_front_door_home": "/var/empty" if Path("/var/empty").is_dir() else "/tmp",
        "_front_door_socket": str(folder / "admin.sock"),
        "_front_door_state_file": str(folder / "state"),
    }
    for name in ("certificate.pem", "upstream.map", "clients.map", "limits.map", "haproxy.cfg"):
        (folder / name).write_text(render(f"front_door/{name}.j2", **variables))
    (folder / "state").touch()
    return folder / "haproxy.cfg"


def start(folder: Path, upstreams: tuple[Upstream, ...], clients: dict[str, int | None], **changes: Any) -> Door:
    """`clients`: key → requests a minute. Raises AssertionError when HAProxy does not come up."""
    ca, certificate, key = certificates.make()
    port = free_port()
    servers = tuple(Endpoint(f"n{i}", "127.0.0.1", u.port) for i, u in enumerate(upstreams))
    known = tuple(
        Client(f"client-{i}", hashlib.sha256(k.encode()).hexdigest(), limit)
        for i, (k, limit) in enumerate(clients.items())
    )
    given = inputs(servers, known, certificate=certificate, private_key=key, listen_port=port)
    config = write(folder, given, **changes)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary(), "-W", "-f", str(config)], stdout=log, stderr=log)
    door = Door(folder, port, ca, process)
    deadline = time.monotonic() + 10
    while not (folder / "admin.sock").exists() or door.servers_up() < len(upstreams):
        assert process.poll() is None, door.log()
        assert time.monotonic() < deadline, door.log()
        time.sleep(0.05)
    return door


def binary() -> str:
    """Path of HAProxy; empty where there is none."""
    return shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin") or ""
