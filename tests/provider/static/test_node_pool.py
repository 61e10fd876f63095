"""static:NodePool on hosts that are really there. Real: sshd, host keys, sudo, a jump host. Pulumi: the harness."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aifactory.provider.host.key_material import ssh_key_pair
from aifactory.provider.resource import UNKNOWN, HalfMade, Refused
from aifactory.provider.static import login
from aifactory.provider.static.node_pool import NodePool

from tests.provider.harness import CheckFailed, Engine
from tests.provider.static.conftest import Lab

pytestmark = pytest.mark.containers


@pytest.fixture
def pool() -> Engine:
    return Engine(NodePool())


def half(pool: Engine, values: dict[str, object]) -> list[str]:
    """Reasons of an `up` that ends half made."""
    with pytest.raises(HalfMade) as failed:
        pool.up(values)
    return failed.value.reasons


def test_create_hosts_that_let_us_in_become_the_fleet(lab: Lab, pool: Engine) -> None:
    hosts = pool.up(lab.values(lab.host(0), lab.host(1, labels={"rack": "r2"}))).outputs.hosts
    assert [h.name for h in hosts] == ["b200-00", "b200-01"]
    assert (hosts[1].rank, hosts[1].labels, hosts[1].node_address) == (1, {"rack": "r2"}, "127.0.0.1")
    assert hosts[0].host_key == lab.nodes[0].host_key
    assert pool.lines.progress[-1] == "2/2 hosts reachable"


def test_create_key_file_works_like_a_key(lab: Lab, pool: Engine, tmp_path: Path) -> None:
    key = tmp_path / "id"
    key.touch(mode=0o600)
    key.write_text(lab.ground.private_key)
    pool.up(lab.values(ssh_private_key="", ssh_private_key_path=str(key)))


def test_create_missing_key_file_is_refused(lab: Lab, pool: Engine, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"SSH key .*/nosuch does not exist"):
        pool.up(lab.values(ssh_private_key="", ssh_private_key_path=str(tmp_path / "nosuch")))


def test_create_wrong_host_key_tells_both_fingerprints(lab: Lab, pool: Engine) -> None:
    wrong = ssh_key_pair()[1]
    (reason,) = half(pool, lab.values(lab.host(0, host_key=wrong), lab.host(1)))
    right = lab.nodes[0].host_key
    assert reason == (
        f"wrong host key: b200-00 (127.0.0.1 port {lab.nodes[0].port}): expected {login.fingerprint(wrong)}, "
        f"seen {login.fingerprint(right)}; nothing was sent"
    )
    assert pool.state
    assert [h.name for h in pool.state.outputs.hosts] == ["b200-01"]


def test_create_host_key_of_another_type_is_a_wrong_key(lab: Lab, pool: Engine) -> None:
    rsa = (
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDPWm1LwJ3N0Zs9XHjxvGYkRlT0c8FZ0y4bG5n7w1kzvP2mE6b1sE1wq0vI1Jx6jT5cVbLw=="
    )
    (reason,) = half(pool, lab.values(lab.host(0, host_key=rsa)))
    assert reason.startswith("wrong host key: b200-00 ")
    assert "seen a key of another type" in reason


def test_create_wrong_user_is_refused_by_the_host(lab: Lab, pool: Engine) -> None:
    reasons = half(pool, lab.values(user="nobody"))
    assert len(reasons) == 2
    assert reasons[0].startswith("login refused: b200-00 (127.0.0.1 port ")
    assert "does not let nobody in with this key" in reasons[0]


def test_create_wrong_key_is_refused_by_the_host(lab: Lab, pool: Engine) -> None:
    (reason,) = half(pool, lab.values(lab.host(0), ssh_private_key=ssh_key_pair()[0]))
    assert reason.startswith("login refused: b200-00 ")


def test_create_closed_port_is_unreachable(lab: Lab, pool: Engine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    (reason,) = half(pool, lab.values(lab.host(0, port=port), lab.host(1)))
    assert reason.startswith(f"unreachable: b200-00 (127.0.0.1 port {port}): ")
    assert "Connection refused" in reason


def test_create_host_that_hangs_ends_at_the_deadline(lab: Lab, pool: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aifactory.provider.static.node_pool.LOGIN_TIMEOUT_S", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        (reason,) = half(pool, lab.values(lab.host(0, port=silent.getsockname()[1])))
    assert time.monotonic() - started < 10
    assert reason.startswith("unreachable: b200-00 ")


def test_create_host_without_python_says_so(lab: Lab, pool: Engine) -> None:
    lab.run(0, "mv /usr/bin/python3 /usr/bin/python3.away")
    try:
        (reason,) = half(pool, lab.values())
    finally:
        lab.run(0, "mv /usr/bin/python3.away /usr/bin/python3")
    assert reason == f"no python3: b200-00 (127.0.0.1 port {lab.nodes[0].port}) has no python3 on PATH; install it"


def test_create_host_without_sudo_says_so_and_the_next_up_goes_on(lab: Lab, pool: Engine) -> None:
    lab.run(1, "mv /etc/sudoers.d/ops /root/ops")
    try:
        (reason,) = half(pool, lab.values())
    finally:
        lab.run(1, "mv /root/ops /etc/sudoers.d/ops")
    assert reason.startswith("no sudo: ops on b200-01 ")
    state = pool.up(lab.values())
    assert len(state.outputs.hosts) == 2
    assert state.reasons == ()


@pytest.fixture
def logins(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the hosts that were logged into."""
    seen: list[str] = []
    real: Callable[..., object] = login.Logins.refusal

    def refusal(self: object, host: object, timeout_s: float) -> object:
        seen.append(host.name)  # type: ignore[attr-defined]
        return real(self, host, timeout_s)

    monkeypatch.setattr(login.Logins, "refusal", refusal)
    return seen


def test_up_unchanged_opens_no_connection(lab: Lab, pool: Engine, logins: list[str]) -> None:
    pool.up(lab.values())
    logins.clear()
    pool.up(lab.values())
    pool.refresh()
    assert logins == []
    assert pool.operations == ["create"]


def test_up_added_host_is_the_only_one_asked(lab: Lab, pool: Engine, logins: list[str]) -> None:
    run = pool.up(lab.values(lab.host(0))).outputs.run_id
    logins.clear()
    outputs = pool.up(lab.values(lab.host(0, labels={"rack": "r9"}), lab.host(1))).outputs
    hosts = outputs.hosts
    assert logins == ["b200-01"]
    assert outputs.run_id != run
    assert hosts[0].labels == {"rack": "r9"}


def test_up_another_key_asks_every_host(lab: Lab, pool: Engine, logins: list[str], tmp_path: Path) -> None:
    pool.up(lab.values())
    logins.clear()
    key = tmp_path / "id"
    key.touch(mode=0o600)
    key.write_text(lab.ground.private_key)
    pool.up(lab.values(ssh_private_key="", ssh_private_key_path=str(key)))
    assert sorted(logins) == ["b200-00", "b200-01"]


def test_up_dropped_host_goes_from_the_fleet_and_is_not_touched(lab: Lab, pool: Engine, logins: list[str]) -> None:
    pool.up(lab.values())
    logins.clear()
    assert [h.name for h in pool.up(lab.values(lab.host(0))).outputs.hosts] == ["b200-00"]
    pool.destroy()
    assert logins == []


def test_create_through_a_jump_host(lab: Lab, pool: Engine) -> None:
    inner = lab.nodes[1]
    behind = lab.host(1, address=inner.node_address, port=22)
    jump = lab.nodes[0]
    bastion = {"bastion": f"ops@127.0.0.1:{jump.port}", "bastion_host_key": jump.host_key}
    (host,) = pool.up(lab.values(behind, **bastion)).outputs.hosts
    assert (host.address, host.port) == (inner.node_address, 22)


def test_create_jump_host_with_a_wrong_key_is_told_as_such(lab: Lab, pool: Engine) -> None:
    behind = lab.host(1, address=lab.nodes[1].node_address, port=22)
    wrong = ssh_key_pair()[1]
    bastion = {"bastion": f"ops@127.0.0.1:{lab.nodes[0].port}", "bastion_host_key": wrong}
    (reason,) = half(pool, lab.values(behind, **bastion))
    assert reason.startswith(f"wrong host key: bastion ops@127.0.0.1:{lab.nodes[0].port}: ")
    assert f"expected {login.fingerprint(wrong)}, seen {login.fingerprint(lab.nodes[0].host_key)}" in reason


def test_preview_knows_the_hosts_beforehand(lab: Lab, pool: Engine) -> None:
    diff, outs = pool.preview(lab.values())
    assert diff is None
    assert [h.name for h in outs.hosts] == ["b200-00", "b200-01"]
    assert outs.nonce is UNKNOWN


@pytest.mark.parametrize(("hosts", "where"), [([], "hosts"), ([0, 0], "hosts[1].name")])
def test_check_wrong_hosts_are_named(lab: Lab, pool: Engine, hosts: list[int], where: str) -> None:
    values = lab.values() | {"hosts": [lab.host(i) for i in hosts]}
    with pytest.raises(CheckFailed) as failed:
        pool.up(values)
    assert [f.property for f in failed.value.failures] == [where]
