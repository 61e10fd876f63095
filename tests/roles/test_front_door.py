"""The role front_door on a real node.

Real: the node (systemd, sshd, apt), HAProxy, TLS, Ansible. Not real: the two engines behind it, which are
tests/unit/serving/upstream.py on the same node (tests/roles/test_inference.py has real ones).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aifactory.hosts import run as hosts_run
from aifactory.provider.host.keys import KeysOutputs
from aifactory.provider.service.front_door import Client, FrontDoor, FrontDoorInputs
from aifactory.provider.service.service import Endpoint

from tests.roles import serving
from tests.roles.conftest import Node, Site
from tests.unit.serving import upstream

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

CHAT = "/v1/chat/completions"
PORTS = (8001, 8002)


@pytest.fixture(scope="module")
def node(nodes: Callable[..., tuple[Node, ...]]) -> Node:
    """A node with two stand-ins for engines."""
    node = nodes("fd", pool="front")[0]
    script = Path(upstream.__file__).read_text()
    node.engine.execute(node.name, "/bin/sh", "-c", f"cat > /opt/upstream.py <<'EOF'\n{script}\nEOF")
    for port in PORTS:
        node.sh(f"systemd-run --unit t-engine-{port} python3 /opt/upstream.py {port}")
    return node


@pytest.fixture(scope="module")
def keys(node: Node) -> KeysOutputs:
    return serving.make_keys(node)


@pytest.fixture(scope="module")
def given(node: Node, keys: KeysOutputs) -> FrontDoorInputs:
    return serving.door_inputs(node, keys, [Endpoint(node.name, "127.0.0.1", port) for port in PORTS])


@pytest.fixture(scope="module")
def runs(site: Site, given: FrontDoorInputs) -> dict[str, hosts_run.RunResult]:
    return serving.four_runs(site, FrontDoor(), given)


@pytest.fixture
def converged(site: Site, given: FrontDoorInputs, runs: dict[str, hosts_run.RunResult]) -> FrontDoorInputs:
    """The door as `given`, whatever the test before did."""
    assert serving.run(site, FrontDoor(), given).failed() == {}
    return given


def apply(site: Site, given: FrontDoorInputs, **changes: Any) -> hosts_run.RunResult:
    """A run with changes to the role's own dict, past what the resource would take."""
    play = FrontDoor().play(given)
    play = replace(play, role_vars={"front_door": {**play.role_vars["front_door"], **changes}})
    return hosts_run.run_play(play, site.ssh, key=serving.KEY)


@pytest.mark.parametrize("step", ["check before", "first", "second", "check after"])
def test_every_run_reaches_the_end(runs: dict[str, hosts_run.RunResult], step: str) -> None:
    assert runs[step].failed() == {}


@pytest.mark.parametrize("step", ["second", "check after"])
def test_converged_host_nothing_changes(runs: dict[str, hosts_run.RunResult], step: str) -> None:
    assert sum(o.changed for o in runs[step].hosts.values()) == 0


def test_door_answers_and_asks_for_a_key(node: Node, converged: FrontDoorInputs, keys: KeysOutputs) -> None:
    client = serving.door_client(converged, keys)
    assert client.request("POST", CHAT, body={"model": "chat"})[0] == 200
    assert client.request("POST", CHAT, body={"model": "chat"}, with_key=False)[0] == 401
    assert client.request("GET", "/v1/health/ready", with_key=False)[0] == 200


def test_node_stays_healthy_and_the_door_survives_a_reboot(node: Node, converged: FrontDoorInputs) -> None:
    assert node.sh("systemctl is-system-running") == "running"
    assert node.sh("systemctl is-enabled haproxy.service") == "enabled"


def test_keys_are_readable_by_root_alone(node: Node, converged: FrontDoorInputs, keys: KeysOutputs) -> None:
    assert set(node.sh("stat -c '%a %U' /etc/haproxy/aifactory/*").splitlines()) == {"600 root"}
    seen = node.sh("cat /etc/haproxy/haproxy.cfg /proc/[0-9]*/cmdline | tr '\\0' ' '; journalctl --no-pager")
    for secret in (keys.client_key, keys.upstream_key, keys.server_key.splitlines()[1]):
        assert secret not in seen


def test_log_has_the_client_s_name(node: Node, converged: FrontDoorInputs, keys: KeysOutputs) -> None:
    serving.door_client(converged, keys).request("POST", CHAT, body={"model": "chat"})
    lines = node.sh("journalctl --no-pager -o cat -u haproxy | grep '^{'").splitlines()
    assert json.loads(lines[-1])["client"] == "tester"


def test_new_client_is_let_in_and_no_stream_is_cut(
    site: Site, node: Node, converged: FrontDoorInputs, keys: KeysOutputs
) -> None:
    client, numbers = serving.door_client(converged, keys), []

    def read() -> None:
        body = {"model": "chat", "stream": True, "chunks": 60, "every_s": 0.2}
        numbers.append(client.request("POST", CHAT, body=body)[1].count("data:"))

    reader = threading.Thread(target=read)
    reader.start()
    main = node.sh("systemctl show -p MainPID --value haproxy")
    new = Client("new", hashlib.sha256(b"t-new-key").hexdigest(), 2)
    result = serving.run(site, FrontDoor(), replace(converged, clients=(*converged.clients, new)))
    assert result.failed() == {}
    answers = [serving.door_client(converged, keys, key="t-new-key").request("GET", "/v1/models")[0] for _ in range(3)]
    reader.join()
    assert answers == [200, 200, 429]
    assert numbers == [60]
    assert node.sh("systemctl show -p MainPID --value haproxy") == main


def test_drain_survives_a_change(site: Site, node: Node, converged: FrontDoorInputs, keys: KeysOutputs) -> None:
    door = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/admin.sock'); " \
           "s.sendall(sys.argv[1].encode()+b'\\n'); print(s.recv(99999).decode())"  # fmt: skip
    server = f"service_chat/{node.name}-{PORTS[0]}"
    node.engine.execute(node.name, "python3", "-c", door, f"set server {server} state drain")
    new = Client("other", "cc" * 32)
    assert serving.run(site, FrontDoor(), replace(converged, clients=(*converged.clients, new))).failed() == {}
    client = serving.door_client(converged, keys)
    ports = {json.loads(client.request("POST", CHAT, body={"model": "chat"})[1])["port"] for _ in range(6)}
    node.engine.execute(node.name, "python3", "-c", door, f"set server {server} state ready")
    assert ports == {PORTS[1]}


def test_configuration_that_haproxy_refuses_is_not_installed(
    site: Site, node: Node, converged: FrontDoorInputs, keys: KeysOutputs
) -> None:
    before = node.sh("sha256sum /etc/haproxy/haproxy.cfg")
    outcome = apply(site, converged, queue_timeout_s=-5).hosts[node.name]
    assert outcome.status == "failed"
    assert "the file is as it was before" in (outcome.message or "")
    assert node.sh("sha256sum /etc/haproxy/haproxy.cfg") == before
    assert serving.door_client(converged, keys).request("POST", CHAT, body={"model": "chat"})[0] == 200


def test_certificate_that_haproxy_refuses_is_not_installed(
    site: Site, node: Node, converged: FrontDoorInputs, keys: KeysOutputs
) -> None:
    before = node.sh("sha256sum /etc/haproxy/aifactory/certificate.pem")
    outcome = apply(site, converged, certificate="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")
    assert outcome.hosts[node.name].status == "failed"
    assert keys.server_key.splitlines()[1] not in (outcome.hosts[node.name].message or "")
    assert node.sh("sha256sum /etc/haproxy/aifactory/certificate.pem") == before
    assert serving.door_client(converged, keys).request("POST", CHAT, body={"model": "chat"})[0] == 200


def test_files_written_and_not_loaded_next_run_loads(site: Site, node: Node, converged: FrontDoorInputs) -> None:
    """As after a run that was killed between the two."""
    node.sh("touch /etc/haproxy/haproxy.cfg")
    outcome = serving.run(site, FrontDoor(), converged).hosts[node.name]
    assert (outcome.status, outcome.changed) == ("changed", 1)
    assert serving.run(site, FrontDoor(), converged).hosts[node.name].changed == 0


def test_removed_door_leaves_no_key_and_no_unit(site: Site, node: Node, converged: FrontDoorInputs) -> None:
    play = FrontDoor().removal(converged, None)  # type: ignore[arg-type]
    assert hosts_run.run_play(play, site.ssh, key=serving.KEY).failed() == {}
    assert node.sh("systemctl is-active haproxy || true") == "inactive"
    assert node.sh("ls /etc/haproxy/aifactory /etc/haproxy/haproxy.cfg 2>/dev/null || true") in (
        "",
        "/etc/haproxy/aifactory:",
    )
    assert hosts_run.run_play(play, site.ssh, key=serving.KEY).hosts[node.name].changed == 0
