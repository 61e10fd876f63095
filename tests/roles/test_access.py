"""Ways in: one SSH command, markers of many hosts, a bastion, an agent. Real: nodes, ssh, ssh-agent."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from aifactory.hosts import remote
from aifactory.hosts import run as hosts_run
from aifactory.hosts.play import Play, SshAccess

from tests.roles.conftest import Node, Site, key_pair

pytestmark = [pytest.mark.containers, pytest.mark.timeout(300)]

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="module")
def pair(nodes: Callable[..., tuple[Node, ...]]) -> tuple[Node, ...]:
    return nodes("aa", "ab")


@pytest.fixture
def through_bastion(site: Site, pair: tuple[Node, ...]) -> tuple[hosts_run.FleetHost, SshAccess]:
    """The second node, reached at its inner address by way of the first."""
    gate, inner = (node.host for node in pair)
    host = replace(inner, address=inner.node_address, port=22)
    access = replace(site.ssh, bastion=f"ops@{gate.address}:{gate.port}", bastion_host_key=gate.host_key)
    return host, access


@pytest.fixture
def agent(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An ssh-agent of our own that knows the key; the user's other keys are not in it."""
    key, socket = tmp_path / "key", tmp_path / "agent"
    key.touch(0o600)
    key.write_text(site.private_key)
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        while not socket.exists():
            assert process.poll() is None
        subprocess.run(["ssh-add", "-q", str(key)], check=True, env={**os.environ})
        key.unlink()
        yield
    finally:
        process.terminate()
        process.wait()


def test_command_answers_code_output_and_errors(site: Site, pair: tuple[Node, ...]) -> None:
    argv = ["sh", "-c", "cat; echo $0 >&2; exit 7", "a b'c"]
    done = remote.execute(pair[0].host, site.ssh, argv, timeout_s=20, stdin="in")
    assert (done.returncode, done.stdout, done.stderr) == (7, "in", "a b'c\n")


def test_command_that_takes_too_long_is_ended(site: Site, pair: tuple[Node, ...]) -> None:
    done = remote.execute(pair[0].host, site.ssh, ["sleep", "60"], timeout_s=2)
    assert done.returncode == remote.TIMED_OUT


def test_markers_tell_none_from_no_answer(site: Site, pair: tuple[Node, ...]) -> None:
    pair[0].sh('mkdir -p /var/lib/aifactory; echo \'{"node_digest": "d"}\' > /var/lib/aifactory/m.json')
    pair[1].sh("mkdir -p /var/lib/aifactory; rm -f /var/lib/aifactory/m.json")
    gone = replace(pair[0].host, name="gone", port=1)
    markers = hosts_run.read_markers([pair[0].host, pair[1].host, gone], site.ssh, "m")
    assert markers == {pair[0].host.name: {"node_digest": "d"}, pair[1].host.name: None}
    pair[0].sh("echo '{\"node_dig' > /var/lib/aifactory/m.json")
    assert hosts_run.read_markers([pair[0].host], site.ssh, "m") == {pair[0].host.name: None}


def test_bastion_carries_a_command_and_a_run(
    through_bastion: tuple[hosts_run.FleetHost, SshAccess], pair: tuple[Node, ...]
) -> None:
    host, access = through_bastion
    assert remote.execute(host, access, ["hostname"], timeout_s=20).stdout.strip() == host.name
    result = hosts_run.run_play(Play(str(FIXTURES / "fail_one.yml"), "m", (host,), ("host",)), access)
    assert result.ok, result
    assert json.loads(pair[1].sh("cat /var/lib/aifactory/m.json"))["node_id"] == host.id


def test_bastion_with_another_key_is_refused(through_bastion: tuple[hosts_run.FleetHost, SshAccess]) -> None:
    host, access = through_bastion
    wrong = replace(access, bastion_host_key=key_pair()[1])
    assert remote.execute(host, wrong, ["hostname"], timeout_s=20).returncode == remote.UNREACHABLE
    result = hosts_run.run_play(Play(str(FIXTURES / "fail_one.yml"), "m", (host,), ("host",)), wrong)
    assert result.hosts[host.name].status == "unreachable"


@pytest.mark.usefixtures("agent")
def test_agent_is_asked_where_no_key_is_named(pair: tuple[Node, ...]) -> None:
    assert remote.execute(pair[0].host, SshAccess(), ["true"], timeout_s=20).returncode == 0
    play = Play(str(FIXTURES / "fail_one.yml"), "m", (pair[0].host,), ("host",))
    assert hosts_run.run_play(play, SshAccess()).ok


def test_agent_is_left_alone_where_a_key_is_named(
    pair: tuple[Node, ...], agent: None, nodes: Callable[..., tuple[Node, ...]]
) -> None:
    (node,) = nodes("ac")
    stranger = SshAccess(private_key=key_pair()[0])
    assert remote.execute(node.host, stranger, ["true"], timeout_s=20).returncode == remote.UNREACHABLE
