"""Lines of the callback → outcomes and progress. Written by hand here; test_callback.py has Ansible write them."""

from __future__ import annotations

import json

import pytest
from aifactory.hosts.play import HostOutcome
from aifactory.hosts.results import Results, plain

from .conftest import fleet_host


def results(*names: str) -> Results:
    return Results(tuple(fleet_host(name) for name in names))


def line(kind: str, **more: object) -> str:
    return json.dumps({"v": 1, "kind": kind, **more})


def host(name: str, status: str, task: str = "runtime : Install packages", **more: object) -> str:
    return line("host", host=name, task=task, status=status, **more)


def test_end_marker_alone_makes_a_host_converged() -> None:
    run = results("a", "b")
    run.feed([host("a", "ok"), host("b", "ok"), line("end", host="a")])
    outcomes = run.outcomes("stopped")
    assert outcomes["a"] == HostOutcome("converged", 0, 1)
    assert outcomes["b"] == HostOutcome("aborted", 0, 1, message="stopped")


def test_changed_task_makes_it_changed() -> None:
    run = results("a")
    run.feed([host("a", "changed"), host("a", "ok"), line("end", host="a")])
    assert run.outcomes("")["a"] == HostOutcome("changed", 1, 2)


def test_rescued_failure_does_not_count_once_the_end_is_reached() -> None:
    run = results("a")
    run.feed([host("a", "failed", message="x"), line("end", host="a")])
    assert run.outcomes("")["a"].status == "converged"


def test_failed_names_task_and_message() -> None:
    run = results("a")
    run.feed([host("a", "failed", message="No package")])
    outcome = run.outcomes("")["a"]
    assert outcome.status == "failed"
    assert outcome.reason("a") == "failed (task runtime : Install packages): a: No package"


def test_host_without_a_line_never_started() -> None:
    assert results("a").outcomes("stopped")["a"] == HostOutcome("never_started", message="stopped")


def test_skipped_and_ignored_do_not_end_or_fail_a_host() -> None:
    run = results("a")
    run.feed([host("a", "skipped"), host("a", "ignored"), line("end", host="a")])
    assert run.outcomes("")["a"] == HostOutcome("converged", 0, 0)


def test_order_is_the_fleets() -> None:
    run = results("b", "a")
    run.feed([line("end", host="a"), line("end", host="b")])
    assert list(run.outcomes("")) == ["b", "a"]


def test_progress_counts_the_hosts_that_are_through_with_the_task() -> None:
    run = results("a", "b", "c")
    run.feed([line("task", task="runtime : Install packages"), host("a", "ok"), host("b", "changed")])
    assert run.progress == "runtime: install packages (2/3 hosts)"
    run.feed([host("c", "failed")])
    assert run.progress == "runtime: install packages (2/2 hosts)"
    run.feed([line("task", task="runtime : Try the container engine")])
    assert run.progress == "runtime: try the container engine (0/2 hosts)"


def test_notes_are_told_once() -> None:
    run = results("a", "b")
    run.feed([line("note", host=name, layer="gpu", message="nothing to do") for name in ("a", "b")])
    assert list(run.notes) == ["gpu: nothing to do"]


def test_kind_of_a_later_callback_is_ignored() -> None:
    run = results("a")
    run.feed([line("weather", host="a"), line("end", host="a")])
    assert run.outcomes("")["a"].done


@pytest.mark.parametrize("ssh", ["Connection refused", "Connection timed out", "No route to host", "Broken pipe"])
def test_host_that_is_lost_is_told_with_what_to_do(ssh: str) -> None:
    assert "see whether the node is up and can be reached, then run again" in plain(fleet_host(), ssh)


@pytest.mark.parametrize(
    ("ssh", "words"),
    [
        (
            "@@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@@ Host key verification failed.",
            "another SSH host key",
        ),
        ("ops@127.0.0.1: Permission denied (publickey).", "does not accept the SSH key for user ops"),
        ("ssh: connect to host x port 1: Connection refused", "connection refused"),
        ("ssh: connect to host x port 1: Connection timed out", "no answer"),
        ("ssh: Could not resolve hostname x: Name or service not known", "does not resolve"),
        ("something new", "something new"),
        ("", "SSH ended without a message"),
    ],
)
def test_ssh_errors_are_told_plainly(ssh: str, words: str) -> None:
    told = plain(fleet_host(), ssh)
    assert words in told
    assert told.startswith("127.0.0.1 port 2211")
