"""Nodes that are lost in the middle of a run: who is named, who finishes, what the next run does.

Real: ssh, ansible, systemd, apt and dpkg on a signed repository, the provider's resource with its state. Simulated: the
GPUs. 16 hosts are two nodes, each reached by eight ways of its own (a port, an SSH connection, a worker of Ansible);
a way is lost as a network loses it, for one host and not for its neighbour.
"""

# ruff: noqa: F811 (fixtures are imported)
from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aifactory import paths
from aifactory.components.role_vars import role_vars
from aifactory.hosts import run as hosts_run
from aifactory.hosts.play import Play
from aifactory.plan import build
from aifactory.provider.host.configuration import Configuration, ConfigurationInputs
from aifactory.provider.resource import HalfMade

from tests.provider.harness import Engine
from tests.roles.conftest import Node, Site
from tests.roles.gpu_nodes import GpuNodes, boot_id, gpu_nodes, platform, repositories  # noqa: F401 (fixtures)
from tests.roles.vendor_repo import Repositories
from tests.unit.plan import regions

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

PLATFORM, DRIVER = "hgx-h100", "580.178.04"
WAYS = 8
DETECTION = """
- hosts: gpu
  gather_facts: false
  become: true
  tasks:
    - ansible.builtin.import_role: {name: gpu, tasks_from: detect}
    - name: Stay until the test goes on
      ansible.builtin.command: timeout 60 sh -c 'until test -e /run/go-on; do sleep 0.2; done'
      changed_when: false
"""
INSTALLATION = """
- hosts: gpu
  gather_facts: false
  become: true
  tasks:
    - ansible.builtin.import_role: {name: gpu, tasks_from: detect}
    - ansible.builtin.import_role: {name: gpu, tasks_from: driver}
- ansible.builtin.import_playbook: %s
"""
LOSES_POWER = """#!/bin/sh
case "$*" in
  *pinning*) ;;
  *--unpack*)
    mv /usr/bin/dpkg.whole /usr/bin/dpkg
    /usr/bin/dpkg "$@"
    systemctl -ff reboot
    exec sleep 60;;
esac
exec /usr/bin/dpkg.whole "$@"
"""
"""In place of dpkg: once the driver's packages are unpacked the node is gone, without a word. Only once."""


@dataclass
class Way:
    """A port of the loopback address that leads to another, until it is lost."""

    to: int
    port: int = 0
    taken: int = 0
    """Connections so far."""
    _listener: socket.socket | None = None
    _open: list[socket.socket] = field(default_factory=list)

    def open(self) -> Way:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._take, args=(self._listener,), daemon=True).start()
        return self

    def lose(self) -> None:
        """Every connection ends, and no new one is taken."""
        ends, self._open = [self._listener, *self._open], []
        for end in ends:
            if end is not None:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def _take(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self.to))
                self.taken += 1
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=_carry, args=(source, sink), daemon=True).start()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def given(repositories: Repositories) -> dict[str, dict[str, Any]]:
    """The dict of layer gpu as the plan of a region has it."""
    nvidia = {"url": repositories.nvidia.url, "fingerprint": repositories.nvidia.fingerprint}
    region = regions.static(
        platform(PLATFORM)["shape"], software={"driver_version": DRIVER, "repositories": {"nvidia": nvidia}}
    )
    plan = build.plan(region)
    return {"gpu": role_vars(plan, plan.pools[0])["gpu"]}


@pytest.fixture(scope="module")
def pair(gpu_nodes: GpuNodes) -> tuple[Node, ...]:
    return gpu_nodes(PLATFORM, 2)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path / "home"))


@pytest.fixture
def ways(pair: tuple[Node, ...]) -> Iterator[list[Way]]:
    made = [Way(node.host.port).open() for node in pair for _ in range(WAYS)]
    yield made
    for way in made:
        way.lose()


def wait_until_all_stay(node: Node) -> None:
    node.sh(f"for i in $(seq 600); do [ $(pgrep -fc '^sh -c until') = {WAYS} ] && exit 0; sleep 0.1; done; exit 1", 90)


def test_ssh_lost_on_three_of_sixteen_names_those_and_the_next_run_touches_only_them(
    site: Site, pair: tuple[Node, ...], ways: list[Way], repositories: Repositories, tmp_path: Path
) -> None:
    (tmp_path / "detection.yml").write_text(DETECTION)
    hosts = [replace(pair[i // WAYS].host, name=f"n-{i:02d}", port=w.port, rank=i) for i, w in enumerate(ways)]

    class Detection(Configuration):
        def play(self, inputs: ConfigurationInputs) -> Play:
            book = str(tmp_path / "detection.yml")
            return Play(book, "configuration", inputs.hosts, inputs.layers, inputs.role_vars)

    engine = Engine(Detection())
    inputs = {
        "region": "t-region", "pool": "train", "hosts": hosts, "layers": ["gpu"], "role_vars": given(repositories),
        "ssh_private_key": site.private_key,
    }  # fmt: skip
    lost = [2, 7, 11]

    def lose() -> None:
        for node in pair:
            wait_until_all_stay(node)
        for index in lost:
            ways[index].lose()
        for node in pair:
            node.sh("touch /run/go-on")

    loser = threading.Thread(target=lose)
    loser.start()
    with pytest.raises(HalfMade) as caught:
        engine.up(inputs)
    loser.join()
    names = [hosts[index].name for index in lost]
    print(caught.value.reasons)
    assert len(caught.value.reasons) == len(lost)
    for name, index, reason in zip(names, lost, caught.value.reasons, strict=True):
        assert reason.startswith(f"unreachable: {name}: 127.0.0.1 port {ways[index].port}: ")
        assert "see whether the node is up and can be reached, then run again" in reason
    assert engine.state is not None
    nodes = engine.state.outputs.nodes
    assert {name for name, record in nodes.items() if record.status == "unreachable"} == set(names)
    assert {name for name, record in nodes.items() if record.digest} == {host.name for host in hosts} - set(names)

    before = [way.taken for way in ways]
    for index in lost:
        ways[index].open()
    engine.up(inputs)
    assert [index for index, way in enumerate(ways) if way.taken > before[index]] == lost
    assert all(record.digest for record in engine.state.outputs.nodes.values())


def test_node_that_reboots_in_the_middle_of_the_driver_is_named_and_completed_without_another_restart(
    site: Site, pair: tuple[Node, ...], repositories: Repositories, tmp_path: Path
) -> None:
    book = tmp_path / "installation.yml"
    book.write_text(INSTALLATION % (paths.PLAYBOOKS / "reboot.yml"))
    well, ill = pair
    play = Play(str(book), "configuration", (well.host, ill.host), ("gpu",), given(repositories))
    ill.sh(f"cd /usr/bin; mv dpkg dpkg.whole; cat >dpkg <<'EOF'\n{LOSES_POWER}EOF\nchmod 755 dpkg")
    boots = [boot_id(node) for node in pair]

    result = hosts_run.run_play(play, site.ssh)
    print(result)
    assert list(result.failed()) == [ill.name]
    assert result.hosts[ill.name].status in ("unreachable", "failed")
    assert well.sh("cat /sys/module/nvidia/version") == DRIVER
    assert boot_id(well) == boots[0]

    after = boot_id(ill)
    assert after != boots[1]
    assert ill.sh("dpkg --audit") != ""
    again = hosts_run.run_play(replace(play, limit=(ill.name,)), site.ssh)
    print(again)
    assert again.failed() == {}
    assert ill.sh("dpkg --audit; cat /sys/module/nvidia/version") == DRIVER
    assert boot_id(ill) == after
    assert [note for note in again.notes if note.startswith("reboot:")] == []
