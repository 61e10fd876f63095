"""What goes wrong, under the real engine: half-made, refused, stopped, killed in each phase, two at once. All real."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.provider.cloud import Cloud
from tests.provider.pulumi_project import Project, custom
from tests.provider.test_engine_life import PASSWORD, gang, named, network

pytestmark = pytest.mark.engine

UP = ("up", "-s", "it", "--yes", "--skip-preview")
DESTROY = ("destroy", "-s", "it", "--yes", "--skip-preview")


def fault(things: Cloud, name: str) -> Path:
    path = things.folder / name
    path.touch()
    return path


def test_half_made_is_kept_survives_a_refresh_and_is_finished_by_the_next_up(project: Project, things: Cloud) -> None:
    broken = fault(things, "net.broken")
    project.program([network(things, password={"secret": PASSWORD}), gang(things)])
    shown = project.up().failed("net did not boot", "[secret] was no help").output
    assert PASSWORD not in shown
    assert things.calls() == ["create network net"], "the dependent must not be started"
    half = project.resource("net")
    assert half
    assert (half["id"], len(half["initErrors"])) == (things.all()[0]["id"], 2)
    assert project.pending() == []
    project.refresh()
    half = project.resource("net")
    assert half
    assert half["initErrors"]
    broken.unlink()
    project.up().ok()
    done = project.resource("net")
    assert done
    assert not done.get("initErrors")
    assert things.calls() == ["create network net", "create node n0"]
    fault(things, "net.broken")
    project.program([network(things, size=5, password={"secret": PASSWORD}), gang(things)])
    project.up().failed("net did not boot")
    project.destroy().ok()
    assert things.all() == []


def test_refused_and_bug_keep_nothing_and_show_no_secret(project: Project, things: Cloud) -> None:
    project.program([network(things, password={"secret": PASSWORD})])
    refuse = fault(things, "refuse")
    shown = project.up().failed("no quota for [secret]").output
    refuse.unlink()
    fault(things, "bug")
    shown += project.up("--debug").failed("internal error in create of net (cloud.py:", "Traceback").output
    assert PASSWORD not in shown
    assert project.resource("net") is None
    assert project.pending() == []


def test_time_that_is_up_keeps_what_exists(project: Project, things: Cloud) -> None:
    slow = fault(things, "net.slow")
    project.program([network(things, options={"timeouts": {"create": "1s"}})])
    project.up().failed("timed out: the time set for this operation is over")
    assert project.resource("net")
    slow.unlink()
    project.up().ok()
    assert things.calls() == ["create network net"]


def test_sigterm_stops_like_ctrl_c(project: Project, things: Cloud) -> None:
    slow = fault(things, "n0.slow")
    project.program([network(things), gang(things)])
    project.interrupted(signal.SIGTERM, lambda: len(things.all()) == 2, *UP).failed("cancelled")
    half = project.resource("gang")
    assert half
    assert half["outputs"]["hosts"][0]["id"] == named(things, "n0")["id"]
    assert project.pending() == []
    assert not project.providers()
    slow.unlink()
    project.up().ok()
    assert things.calls() == ["create network net", "create node n0"]


def test_killed_create_dies_with_the_cli_and_is_adopted(project: Project, things: Cloud) -> None:
    """The gang is killed at its first of two nodes: the second must not be made by an orphan."""
    slow = fault(things, "n0.slow")
    nodes = [{"name": "n0", "size": 1}, {"name": "n1", "size": 1}]
    project.program([network(things), gang(things, nodes=nodes)])
    project.killed(lambda: len(things.all()) == 2, *UP)
    slow.unlink()
    before = things.all()
    assert len(before) == 2
    assert project.pending() == ["creating"]
    project.up().ok()
    assert [t for t in things.all() if t["name"] != "n1"] == before
    project.pulumi("refresh", "-s", "it", "--yes", "--skip-preview", "--clear-pending-creates").ok()
    assert project.pending() == []
    project.destroy().ok()
    assert things.all() == []


def test_replacement_killed_in_its_create_leaves_one_object(project: Project, things: Cloud) -> None:
    project.program([network(things)])
    project.up().ok()
    old = named(things, "net")
    slow = fault(things, "net.slow")
    project.program([network(things, zone="b")])
    project.killed(lambda: len(things.all()) == 2, *UP)
    slow.unlink()
    only_the_new_one_is_left(project, things, old["id"])


def test_replacement_killed_in_its_delete_leaves_one_object(project: Project, things: Cloud) -> None:
    project.program([network(things)])
    project.up().ok()
    old = named(things, "net")
    stuck = fault(things, "net.stuck")
    project.program([network(things, generation=2)])
    project.killed(lambda: "delete network net" in things.calls(), *UP)
    stuck.unlink()
    only_the_new_one_is_left(project, things, old["id"])


def only_the_new_one_is_left(project: Project, things: Cloud, old_id: str) -> None:
    """After the next `up`; and a destroy leaves nothing at all."""
    project.up().ok()
    [left] = things.all()
    assert left["id"] != old_id
    assert things.calls().count("create network net") == 2
    project.destroy().ok()
    assert things.all() == []
    assert list((project.folder / "aifactory").glob("journals/*/*")) == []


def test_killed_delete_before_replace_is_gone_on_with(project: Project, things: Cloud) -> None:
    project.program([network(things)])
    project.up().ok()
    slow = fault(things, "net.stuck")
    project.program([network(things, cidr="10.7.0.0/24")])
    project.killed(lambda: not things.all(), *UP)
    slow.unlink()
    project.up().ok()
    assert [t["cidr"] for t in things.all()] == ["10.7.0.0/24"]
    project.destroy().ok()
    assert things.all() == []


def test_killed_destroy_is_gone_on_with(project: Project, things: Cloud) -> None:
    project.program([network(things), gang(things)])
    project.up().ok()
    slow = fault(things, "n0.slow")
    project.killed(lambda: len(things.all()) == 1, *DESTROY)
    slow.unlink()
    project.destroy().ok()
    assert things.all() == []


def test_nonce_lost_in_a_killed_taint_is_taken_back(project: Project, things: Cloud) -> None:
    """The killed run had adopted the object under a new nonce that no state knows: the fence would keep it for ever."""
    project.program([network(things)])
    made = project.up().ok()
    found = project.resource("net")
    assert found, made
    slow = fault(things, "net.slow")
    journal = next((project.folder / "aifactory").glob("journals/*/*.json"))
    before = journal.read_text()
    project.killed(lambda: journal.read_text() != before, *UP, "--replace", found["urn"])
    slow.unlink()
    assert "nonce: " in project.preview("--diff").ok().output
    project.up().ok()
    project.up("--expect-no-changes").ok()
    project.destroy().ok()
    assert things.all() == []
    assert things.calls() == ["create network net", "delete network net"]


def test_two_stacks_at_once_do_not_meet(project: Project, things: Cloud, tmp_path: Path) -> None:
    """Same names, same cloud, other deployment: each has its own objects, and stopping one stops one."""
    other = Project(tmp_path / "other", deployment="t-other")
    fault(things, "n0.slow")
    for one in (project, other):
        one.program([custom("aifactory:test:Gang", "gang", {"cloud": str(things.folder), "nodes": [{"name": "n0"}]})])
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(other.up()))
    thread.start()
    project.interrupted(signal.SIGINT, lambda: len(things.all()) == 2, *UP).failed("cancelled")
    assert thread.is_alive()
    (things.folder / "n0.slow").unlink()
    thread.join(30)
    results[0].ok()
    project.destroy().ok()
    assert len(things.all()) == 1
    other.destroy().ok()
    assert things.all() == []
