"""The layers host, fabric, gpu, runtime on real nodes.

Real: everything (containers with systemd and sshd, apt against the distribution's mirror, ssh, ansible).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from aifactory.hosts import run as hosts_run
from aifactory.hosts.play import Play

from tests.roles.conftest import Node, Site

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

KEY = b"t-key"
LAYERS = ("host", "fabric", "gpu", "runtime")
SERVERS = {"host": {"journal_max_mib": 77}, "runtime": {"registries": ["registry.example.eu"]}}


@pytest.fixture(scope="module")
def pair(nodes: Callable[..., tuple[Node, ...]]) -> tuple[Node, ...]:
    return nodes("la", "lb")


@pytest.fixture(scope="module")
def play(pair: tuple[Node, ...]) -> Play:
    return Play("site.yml", "configuration", tuple(node.host for node in pair), LAYERS, SERVERS)


@pytest.fixture(scope="module")
def runs(site: Site, play: Play) -> dict[str, hosts_run.RunResult]:
    """The four runs that tell a role apart from a script: before, first, second, after."""
    steps = {"check before": True, "first": False, "second": False, "check after": True}
    return {name: hosts_run.run_play(replace(play, check=check), site.ssh, key=KEY) for name, check in steps.items()}


@pytest.mark.parametrize("step", ["check before", "first", "second", "check after"])
def test_every_run_reaches_the_end(runs: dict[str, hosts_run.RunResult], step: str) -> None:
    assert runs[step].failed() == {}


@pytest.mark.parametrize("step", ["second", "check after"])
def test_converged_host_nothing_changes(runs: dict[str, hosts_run.RunResult], step: str) -> None:
    assert {o.status for o in runs[step].hosts.values()} == {"converged"}
    assert sum(o.changed for o in runs[step].hosts.values()) == 0


def test_check_before_says_what_would_change(runs: dict[str, hosts_run.RunResult]) -> None:
    assert all(outcome.changed >= 4 for outcome in runs["check before"].hosts.values())


@pytest.mark.parametrize(
    "note",
    [
        "gpu: shape local-cpu has no GPUs, nothing to configure",
        "fabric: shape local-cpu has no fabric cards, nothing to configure",
        "host: nodes are containers: time, limits and kernel settings belong to the machine below and stay untouched",
    ],
)
def test_layers_with_nothing_to_do_say_so_once(runs: dict[str, hosts_run.RunResult], note: str) -> None:
    assert runs["first"].notes.count(note) == 1


def test_sshd_takes_the_hardening(runs: dict[str, hosts_run.RunResult], pair: tuple[Node, ...]) -> None:
    effective = pair[0].sh("sshd -T").splitlines()
    assert {"passwordauthentication no", "permitrootlogin no", "x11forwarding no"} <= set(effective)
    assert "allowtcpforwarding no" in effective


def test_node_stays_healthy(runs: dict[str, hosts_run.RunResult], pair: tuple[Node, ...]) -> None:
    assert pair[0].sh("systemctl is-system-running || systemctl --failed --no-legend") == "running"


def test_journal_limit_is_in_force(runs: dict[str, hosts_run.RunResult], pair: tuple[Node, ...]) -> None:
    assert "77M" in pair[0].sh("cat /etc/systemd/journald.conf.d/90-aifactory.conf")
    assert "max 77M" in pair[0].sh("journalctl -b -u systemd-journald -o cat | tail -3")


def test_kernel_settings_are_written_and_not_applied(
    runs: dict[str, hosts_run.RunResult], pair: tuple[Node, ...]
) -> None:
    assert "vm.max_map_count = 1048576" in pair[0].sh("cat /etc/sysctl.d/90-aifactory.conf")


def test_operator_reads_the_journal_without_sudo(runs: dict[str, hosts_run.RunResult], pair: tuple[Node, ...]) -> None:
    assert "systemd-journal" in pair[0].sh("id -nG ops").split()


def test_image_from_a_source_that_is_not_allowed_is_refused(
    runs: dict[str, hosts_run.RunResult], pair: tuple[Node, ...]
) -> None:
    """The policy is asked once the source has answered; a tar file stands for a registry out of reach here."""
    told = pair[0].sh("mkdir -p /root/t && tar -C /root/t -cf /root/t.tar . && ! podman import -q /root/t.tar 2>&1")
    assert "rejected by policy" in told
    assert "short-name" in pair[0].sh("podman pull no-such-image 2>&1 || true")
    policy = json.loads(pair[0].sh("cat /etc/containers/policy.json"))
    assert policy["default"] == [{"type": "reject"}]
    assert list(policy["transports"]["docker"]) == ["registry.example.eu"]


def test_runtime_facts_say_what_the_engine_can(runs: dict[str, hosts_run.RunResult], pair: tuple[Node, ...]) -> None:
    facts = json.loads(pair[0].sh("cat /etc/ansible/facts.d/aifactory_runtime.fact"))
    assert facts["engine"] == "podman"
    assert (facts["containers"], facts["quadlet"]) == (True, True)
    assert pair[0].sh("podman ps -a -q; ls /var/tmp | grep aifactory || true") == ""


def test_marker_holds_the_digests_of_this_run(runs: dict[str, hosts_run.RunResult], site: Site, play: Play) -> None:
    markers = hosts_run.read_markers(play.hosts, site.ssh, "configuration")
    for host in play.hosts:
        marker = markers[host.name]
        assert marker is not None
        assert marker["digests"] == hosts_run.digests(play, KEY)
        assert marker["node_id"] == host.id


def test_sshd_refuses_a_bad_file_and_the_old_one_stays(
    runs: dict[str, hosts_run.RunResult], site: Site, play: Play, pair: tuple[Node, ...]
) -> None:
    ours, broken = "/etc/ssh/sshd_config.d/00-aifactory.conf", "/etc/ssh/sshd_config.d/zz-broken.conf"
    before = pair[0].sh(f"sha256sum {ours}")
    pair[0].sh(f"echo 'NoSuchKeyword yes' > {broken}; echo >> {ours}")
    changed = pair[0].sh(f"sha256sum {ours}")
    try:
        result = hosts_run.run_play(replace(play, limit=(play.hosts[0].name,), layers=("host",)), site.ssh, key=KEY)
        outcome = result.hosts[play.hosts[0].name]
        assert outcome.status == "failed"
        assert outcome.failed_task == "host : Write the configuration files"
        assert "the file is as it was before" in (outcome.message or "")
        assert "NoSuchKeyword" in (outcome.message or "")
        assert pair[0].sh(f"sha256sum {ours}") == changed
    finally:
        pair[0].sh(f"rm {broken}")
    hosts_run.run_play(replace(play, limit=(play.hosts[0].name,), layers=("host",)), site.ssh, key=KEY)
    assert pair[0].sh(f"sha256sum {ours}") == before


@pytest.mark.parametrize(
    ("layer", "role_vars", "words"),
    [
        ("gpu", {"gpu": {"gpus_per_node": 8, "kind": "some-gpu"}}, "layer gpu configures shapes without GPUs only"),
        ("fabric", {"fabric": {"kind": "roce", "nics_per_node": 8}}, "layer fabric configures shapes without fabric"),
    ],
)
def test_layer_refuses_hardware_it_does_not_configure(
    site: Site, play: Play, layer: str, role_vars: dict[str, dict[str, object]], words: str
) -> None:
    result = hosts_run.run_play(replace(play, layers=(layer,), role_vars=role_vars), site.ssh, key=KEY)
    for outcome in result.hosts.values():
        assert (outcome.status, outcome.changed) == ("failed", 0)
        assert words in (outcome.message or "")
        assert f"layer {layer}" in (outcome.message or "")
