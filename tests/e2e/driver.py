"""A real local region driven through the real command, in its own home, name, network and port."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
REPO = Path(__file__).resolve().parents[2]
CLI = str(BIN / "aifactory")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Running:
    """An `aifactory` command under way; its lines are read as they come."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            argv, env=env, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._more:
                self.lines.append(line)
                self._more.notify_all()
        with self._more:
            self._more.notify_all()

    def until(self, pattern: str, timeout_s: float = 180) -> str:
        """The first line that matches; fails when the command ends before one does."""
        deadline = time.monotonic() + timeout_s
        seen = 0
        with self._more:
            while True:
                for line in self.lines[seen:]:
                    if re.search(pattern, line):
                        return line
                seen = len(self.lines)
                ended = not self._reader.is_alive() and seen == len(self.lines)
                assert not ended, f"ended without /{pattern}/:\n{self.text}"
                assert time.monotonic() < deadline, f"no /{pattern}/ within {timeout_s} s:\n{self.text}"
                self._more.wait(0.5)

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, timeout_s: float = 300) -> int:
        code = self.process.wait(timeout_s)
        self._reader.join(10)
        return code


class LocalRegion:
    """A region of two serving nodes (or `nodes`) and a front door."""

    def __init__(self, work: Path, octet: int) -> None:
        self.name = f"t-{uuid.uuid4().hex[:6]}"
        self.port = free_port()
        self.octet = octet
        self.regions = work / "regions"
        self.regions.mkdir(parents=True)
        self.home = work / "home"
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("PULUMI_", "AIFACTORY_HOME"))},
            "AIFACTORY_HOME": str(self.home),
            "AIFACTORY_REGIONS": str(self.regions),
        }
        self.started: list[Running] = []
        self.write()

    def write(self, *, nodes: int = 2, replicas: int = 2, more: str = "") -> None:
        (self.regions / f"{self.name}.yaml").write_text(
            f"version: 1\nname: {self.name}\njurisdiction: {{country: DE}}\nprovider: {{kind: local}}\n"
            f"network: {{cidr: 10.86.{self.octet}.0/24}}\nfront_door: {{port: {self.port}}}\n"
            f"pools:\n  - {{name: serve, shape: local-cpu, nodes: {nodes}{more}}}\n"
            f"services:\n  - {{name: chat, model: golden-tiny, pool: serve, replicas: {replicas}}}\n"
        )

    def start(self, *argv: str) -> Running:
        self.started.append(Running([CLI, argv[0], self.name, *argv[1:]], self.env))
        return self.started[-1]

    def run(self, *argv: str, timeout_s: float = 400) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [CLI, argv[0], self.name, *argv[1:]],
            env=self.env, cwd=REPO, capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip

    def ok(self, *argv: str) -> str:
        """stdout of a command that must succeed."""
        done = self.run(*argv)
        assert done.returncode == 0, f"{argv} exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *argv: str) -> Any:
        return json.loads(self.ok(*argv, "--json"))

    def containers(self) -> dict[str, str]:
        """Name → id of every container of this region, running or not."""
        out = podman("ps", "-a", "--no-trunc", "--format", "{{.Names}} {{.ID}}")
        return dict(line.split() for line in out.splitlines() if line.startswith(f"{self.name}-"))

    def leftovers(self) -> list[str]:
        """Everything in the container engine that carries this region's name."""
        found = list(self.containers())
        found += [v for v in podman("volume", "ls", "-q").split() if self.name in v]
        found += [n for n in podman("network", "ls", "--format", "{{.Name}}").split() if self.name in n]
        return found

    def ssh_logins(self, node: str) -> int:
        """How often somebody has logged in on a node."""
        out = podman("exec", node, "journalctl", "-q", "--no-pager", "_COMM=sshd", "+", "_COMM=sshd-session")
        return out.count("Accepted publickey")

    def node(self, index: int, pool: str = "serve") -> str:
        return f"{self.name}-{pool}-{index:03d}"

    def engine_pid(self) -> int:
        """Process id of the Pulumi engine of a command under way."""
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                environ = (entry / "environ").read_bytes()
            except OSError:
                continue
            if words[0].endswith(b"/pulumi") and str(self.home).encode() in environ:
                return int(entry.name)
        raise AssertionError("no engine is running")

    def orphans(self) -> list[str]:
        """Processes of this home that outlived their command; the container engine's own monitors stay on purpose."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                environ = (entry / "environ").read_bytes()
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            theirs = ("conmon", "aardvark-dns")
            if str(self.home).encode() in environ and command and not any(name in command for name in theirs):
                found.append(command)
        return found


def podman(*argv: str) -> str:
    return subprocess.run(["podman", *argv], capture_output=True, text=True, check=True, timeout=120).stdout


def eventually(what: Callable[[], bool], timeout_s: float = 30) -> bool:
    """True as soon as `what()` is; the world needs its time (a killed process, a health check)."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.2)
    return False
