"""Three in the morning: killed, interrupted, broken and started twice, in every phase. Nothing is simulated."""

from __future__ import annotations

import os
import signal

import pytest

from tests.e2e.driver import LocalRegion, eventually, podman

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.containers, pytest.mark.timeout(900)]

PHASES = (
    r"Network network: making",
    r"NodePool serve: making",
    r"NodePool serve: \d/2 nodes reachable",
    r"Configuration serve: runtime: ",
    r"Service chat: inference: ",
    r"FrontDoor front-door: front_door: ",
    r"Acceptance acceptance: making",
)


def stands(region: LocalRegion) -> None:
    """The region is whole: three nodes, one network, proved, and no process or lock left over."""
    assert set(region.containers()) == {region.node(0), region.node(1), region.node(0, "front")}
    networks = [n for n in podman("network", "ls", "--format", "{{.Name}}").split() if region.name in n]
    assert len(networks) == 1
    verdicts = region.json("verify")["verdicts"]
    assert [v for v in verdicts if v["verdict"] != "pass"] == []
    assert eventually(lambda: region.orphans() == [], 20), region.orphans()


def test_killed_then_stopped_in_each_phase_and_the_next_up_goes_on(fresh: LocalRegion) -> None:
    for index in range(len(PHASES)):
        here = "|".join(PHASES[index:])  # a phase that the killed run got through does not come again
        if index < len(PHASES) - 1:
            running = fresh.start("up", "--yes")
            running.until(here)
            # in turn: the engine alone, or our command
            os.kill(fresh.engine_pid() if index % 2 else running.process.pid, signal.SIGKILL)
            running.end()
        number, code = ((signal.SIGINT, 130), (signal.SIGTERM, 143))[index % 2]
        running = fresh.start("up", "--yes")
        running.until(here)
        running.signal(number)
        assert running.end() == code, running.text
        assert eventually(lambda: fresh.orphans() == [], 20), (PHASES[index], fresh.orphans())
    done = fresh.run("up", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    stands(fresh)


def test_destroy_right_after_kill_9_leaves_nothing(fresh: LocalRegion) -> None:
    running = fresh.start("up", "--yes")
    running.until(PHASES[2])
    running.signal(signal.SIGKILL)
    running.end()
    done = fresh.run("destroy", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert fresh.leftovers() == []


def test_two_ups_at_once_and_a_node_that_dies_and_one_that_cannot_be_configured(fresh: LocalRegion) -> None:
    """One region, three faults after each other, because bringing one up is what takes the time."""
    running = fresh.start("up", "--yes")
    running.until(r"NodePool serve: made")
    second = fresh.run("up", "--yes")
    assert second.returncode == 3, second.stdout + second.stderr
    assert "`up` is running (pid " in second.stderr, second.stderr
    # apt on node 1 cannot read its sources: the play fails there and only there
    broken = "/etc/apt/sources.list.d/broken.list"
    podman("exec", fresh.node(1), "sh", "-c", f"echo nonsense > {broken}")
    assert running.end() == 4, running.text
    assert fresh.node(1) in running.text
    assert "failed (task" in running.text
    assert fresh.ok("ssh", fresh.node(1), "hostname").strip() == fresh.node(1), "to look for what is wrong"
    # the other one dies while Ansible is on it
    podman("exec", fresh.node(1), "rm", broken)
    running = fresh.start("up", "--yes")
    running.until(r"Configuration serve: .*making|Configuration serve: changing")
    podman("kill", fresh.node(1))
    assert running.end() == 4, running.text
    assert "unreachable" in running.text
    done = fresh.run("up", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    stands(fresh)
