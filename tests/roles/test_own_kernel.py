"""What the role `host` does where the node has a kernel of its own: time, limits, kernel settings.

Real: the node, the packages, timesyncd, sysctl. Not real: the node says that it is no container, and the
settings tried are those of its own network namespace, so that this machine's kernel stays as it is. The
time server is an address of RFC 5737 that nobody has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from aifactory.hosts import run as hosts_run
from aifactory.hosts.play import Play

from tests.roles.conftest import Node, Site

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

PRETEND = """
printf '#!/bin/sh\\ncase "$*" in *--quiet*) exit 1;; esac\\necho none\\nexit 1\\n' > /usr/local/bin/systemd-detect-virt
chmod 755 /usr/local/bin/systemd-detect-virt
mkdir -p /etc/systemd/system/systemd-timesyncd.service.d
printf '[Unit]\\nConditionVirtualization=\\n' > /etc/systemd/system/systemd-timesyncd.service.d/test.conf
"""
SETTINGS = {
    "nofile": 4096,
    "time_servers": ["192.0.2.1"],
    "sysctl": {"net.ipv4.tcp_rmem": "4096  131072 6291457", "net.ipv4.ip_default_ttl": "63"},
}


@pytest.fixture(scope="module")
def node(nodes: Callable[..., tuple[Node, ...]]) -> Node:
    (node,) = nodes("own")
    node.sh(PRETEND)
    return node


@pytest.fixture(scope="module")
def play(node: Node) -> Play:
    return Play("site.yml", "configuration", (node.host,), ("host",), {"host": SETTINGS})


@pytest.fixture(scope="module")
def runs(site: Site, play: Play) -> list[hosts_run.RunResult]:
    """check on the fresh node, first run, second run."""
    return [hosts_run.run_play(replace(play, check=check), site.ssh) for check in (True, False, False)]


def test_fresh_node_passes_check_mode_and_the_run(runs: list[hosts_run.RunResult]) -> None:
    assert [run.failed() for run in runs] == [{}, {}, {}]


def test_second_run_changes_nothing(runs: list[hosts_run.RunResult]) -> None:
    assert [outcome.changed for outcome in runs[2].hosts.values()] == [0]


def test_kernel_settings_are_in_force(runs: list[hosts_run.RunResult], node: Node) -> None:
    assert node.sh("sysctl -n net.ipv4.ip_default_ttl") == "63"
    assert node.sh("sysctl -n net.ipv4.tcp_rmem").split() == ["4096", "131072", "6291457"]


def test_setting_that_somebody_changed_is_put_back(
    runs: list[hosts_run.RunResult], node: Node, site: Site, play: Play
) -> None:
    """The file is as it should be; the kernel is not."""
    node.sh("sysctl -w net.ipv4.ip_default_ttl=11")
    assert hosts_run.run_play(play, site.ssh).ok
    assert node.sh("sysctl -n net.ipv4.ip_default_ttl") == "63"


def test_time_is_kept_from_the_servers_named(runs: list[hosts_run.RunResult], node: Node) -> None:
    assert node.sh("systemctl is-active systemd-timesyncd") == "active"
    assert "192.0.2.1" in node.sh(
        "journalctl -u systemd-timesyncd -o cat; timedatectl show-timesync 2>/dev/null || true"
    )


def test_limits_reach_services_and_logins(runs: list[hosts_run.RunResult], node: Node) -> None:
    shown = node.sh("systemctl show -p DefaultLimitMEMLOCK -p DefaultLimitNOFILE")
    assert set(shown.splitlines()) == {"DefaultLimitMEMLOCK=infinity", "DefaultLimitNOFILE=4096"}
    assert node.sh("su - ops -c 'ulimit -n'") == "4096"


def test_setting_that_the_kernel_does_not_know_is_named(
    runs: list[hosts_run.RunResult], site: Site, play: Play
) -> None:
    unknown = replace(play, role_vars={"host": {"sysctl": {"net.ipv4.no_such_thing": "1"}}})
    (outcome,) = hosts_run.run_play(unknown, site.ssh).hosts.values()
    assert outcome.failed_task == "host : Read the kernel settings"
    assert "no_such_thing" in (outcome.message or "")
