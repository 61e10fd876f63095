"""The Ansible engine without a host. Real: child process, runner, ansible, ssh; nothing listens where it knocks."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from aifactory.errors import ProblemError
from aifactory.hosts import run as hosts_run
from aifactory.hosts.play import Play, SshAccess
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from .conftest import fleet_host

NOBODY = 1
"""A port of the loopback address on which nothing listens."""


@pytest.fixture(scope="module")
def access() -> SshAccess:
    key = ed25519.Ed25519PrivateKey.generate()
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    return SshAccess(private_key=text.decode())


def fleet_play(hosts: int) -> Play:
    fleet = tuple(fleet_host(f"n-{i:03d}", port=NOBODY, rank=i) for i in range(hosts))
    return Play("site.yml", "configuration", fleet, ("host",))


def test_large_pool_is_split_and_every_host_has_its_outcome(access: SshAccess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts_run, "SHARD_HOSTS", 2)
    children = list[int]()
    start = hosts_run._Shard.start

    def counted(shard: hosts_run._Shard) -> None:
        children.append(len(shard.play.targets()))
        start(shard)

    monkeypatch.setattr(hosts_run._Shard, "start", counted)
    play = fleet_play(5)
    result = hosts_run.run_play(play, access)
    assert children == [2, 2, 1]
    assert list(result.hosts) == [host.name for host in play.hosts]
    assert {outcome.status for outcome in result.hosts.values()} == {"unreachable"}
    assert not result.ok


@pytest.mark.parametrize(("hosts", "sizes"), [(1, [1]), (32, [32]), (33, [17, 16]), (1000, [32] * 31 + [8])])
def test_shards_are_even(hosts: int, sizes: list[int]) -> None:
    assert [len(part) for part in hosts_run._split(fleet_play(hosts).hosts)] == sizes


def test_rack_is_not_split_where_it_fits() -> None:
    racks = [f"r{i // 18}" for i in range(72)]
    hosts = [fleet_host(f"n-{i:03d}", labels={"rack": rack}) for i, rack in enumerate(racks)]
    assert [len(part) for part in hosts_run._split(hosts)] == [18] * 4
    one = [fleet_host(f"n-{i:03d}", labels={"rack": "r"}) for i in range(40)]
    assert [len(part) for part in hosts_run._split(one)] == [20, 20]
    mixed = [*fleet_play(10).hosts, *(replace(host, name=f"m{host.name}") for host in one)]
    assert sum(len(part) for part in hosts_run._split(mixed)) == 50


def test_child_has_a_worker_for_each_host_and_skips_the_check_that_was_made(
    access: SshAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[hosts_run._Shard]()
    monkeypatch.setattr(hosts_run, "_drive", lambda shards, *_: seen.extend(shards) or "stopped")
    hosts_run.run_play(fleet_play(30), access)
    hosts_run.run_play(replace(fleet_play(40), check=True), access)
    assert [shard._environment["ANSIBLE_FORKS"] for shard in seen] == ["30", "20", "20"]
    assert [shard.job()["cmdline"] for shard in seen[:2]] == ["--skip-tags always", "--skip-tags always --check"]
    assert Path(seen[0]._environment["AIFACTORY_MODULE_CACHE"]).is_dir()


def test_nothing_to_do_starts_nothing(access: SshAccess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts_run, "_drive", lambda *_: pytest.fail("a child was started"))
    assert hosts_run.run_play(replace(fleet_play(2), limit=("nobody",)), access).hosts == {}


def test_cancel_before_the_first_task_is_never_started(access: SshAccess) -> None:
    result = hosts_run.run_play(fleet_play(2), access, cancelled=lambda: True)
    assert {o.status for o in result.hosts.values()} == {"never_started"}
    assert {o.message for o in result.hosts.values()} == {"stopped"}
    assert result.seconds < hosts_run.STOP_S + 5


def test_bad_address_starts_nothing(access: SshAccess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts_run, "_drive", lambda *_: pytest.fail("a child was started"))
    with pytest.raises(ProblemError):
        hosts_run.run_play(replace(fleet_play(1), hosts=(fleet_host(address="-x"),)), access)


def test_environment_of_the_child_holds_nothing_of_ours(
    access: SshAccess, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "s3cret")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    seen = list[dict[str, str]]()
    monkeypatch.setattr(
        hosts_run, "_drive", lambda shards, *_: seen.extend(s._environment for s in shards) or "stopped"
    )
    hosts_run.run_play(fleet_play(1), access)
    assert "s3cret" not in str(seen)
    assert "SSH_AUTH_SOCK" not in seen[0]
    assert seen[0]["HOME"] != os.environ.get("HOME")
    hosts_run.run_play(fleet_play(1), SshAccess())
    assert seen[1]["SSH_AUTH_SOCK"] == "/run/agent"


def test_second_run_waits_its_turn_and_a_stopped_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = threading.Semaphore(1)
    monkeypatch.setattr(hosts_run, "_runs", lambda: turns)
    said: list[str] = []
    with hosts_run._turn(None, said.append, lambda: False):
        assert said == []
        with hosts_run._turn(None, said.append, lambda: bool(said)):  # stopped once it has said that it waits
            assert said == ["waiting for another run of Ansible"]
    assert turns.acquire(blocking=False)
    assert not turns.acquire(blocking=False)
