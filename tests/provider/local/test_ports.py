"""Ports of this machine. Real: sockets, processes, /proc."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from aifactory.provider.local import ports
from aifactory.provider.local.engine_output import Container


def test_pick_is_the_same_for_the_same_node_and_outside_the_kernels_range() -> None:
    first = ports.pick("d/n0", set())
    assert ports.pick("d/n0", set()) == first
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert ports.SSH_FIRST <= first < ports.SSH_FIRST + ports.SSH_COUNT <= low


def test_pick_passes_over_taken_and_listening_ports() -> None:
    first = ports.pick("d/n0", set())
    with socket.create_server(("127.0.0.1", first)):
        second = ports.pick("d/n0", set())
        assert second == first + 1
        assert ports.pick("d/n0", {second}) == second + 1


def test_pick_gives_a_node_its_old_port_back_while_it_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        old = server.getsockname()[1]
        assert ports.pick("d/n0", set(), old) != old
    assert ports.pick("d/n0", set(), old) == old
    assert ports.pick("d/n0", {old}, old) != old


def test_pick_says_when_nothing_is_left() -> None:
    with pytest.raises(OSError, match="no free port between 20000 and 29999"):
        ports.pick("d/n0", range(20000, 30000))


def test_holder_is_the_container_that_publishes_it() -> None:
    mine = Container("1", "web", "running", "i", {"aifactory.deployment": "d", "aifactory.region": "r"}, ((8443, 443),))
    assert ports.holder(8443, [mine]) == "container web of region r of deployment d"


def test_holder_is_the_process_that_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        name = Path("/proc/self/comm").read_text().strip()
        assert ports.holder(server.getsockname()[1], []) == f"{name} (process {os.getpid()})"


def test_holder_nobody_known_is_another_program() -> None:
    assert ports.holder(1, []) == "another program"
