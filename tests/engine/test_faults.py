"""What an operator does to a running `up` at three in the morning, and that the next command ends right.

Real: the engine, its locks and state, SIGINT, SIGTERM, SIGKILL. Tiny: the provider (see engine_project.py).
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from aifactory.engine import locks, state
from aifactory.errors import Exit
from aifactory.toolchain import processes

from tests.engine.engine_project import NAME, Project, answer, wait_for

pytestmark = pytest.mark.engine

SLOW = 30


def _lock_files(project: Project) -> list[Path]:
    return list((project.home / "state" / ".pulumi" / "locks").rglob("*.json"))


def _snapshot(project: Project) -> state.Snapshot:
    found = project.stack.snapshot()
    assert found
    return found


def _began(project: Project, thing: str) -> None:
    wait_for(lambda: thing in project.made() and not project.made()[thing].get("ready"))


def _kill_engine_and_toolkit(project: Project, thing: str) -> int:
    """`up` until `thing` is being made, then kill -9 of both processes; the engine's process id."""
    process = project.start("up")
    _began(project, thing)
    engine = project.engine_pid()
    os.kill(process.pid, signal.SIGKILL)
    os.kill(engine, signal.SIGKILL)
    wait_for(lambda: not project.engine_lives(engine))
    return engine


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_stopped_once_keeps_what_exists_and_leaves_no_process_or_lock(project: Project, signum: int, code: int) -> None:
    project.want({"a": {}, "slow": {"seconds": SLOW, "after": ["a"]}})
    process = project.start("up")
    _began(project, "slow")
    engine = project.engine_pid()

    os.kill(process.pid, signum)

    assert answer(process)["exit"] == code
    assert process.returncode == code
    assert not project.engine_lives(engine)
    assert _lock_files(project) == []
    assert _snapshot(project).pending == ()
    project.want({"a": {}, "slow": {}})
    assert project.stack.up().ok
    assert project.made()["slow"] == {"made": 2, "ready": True}


def test_destroy_stopped_between_two_steps_is_stopped_and_the_next_one_ends_it(project: Project) -> None:
    """Nothing failed then, so the engine itself says that it succeeded."""
    project.want({"first": {}, "last": {"after": ["first"], "delete_s": 3}})
    assert project.stack.up().ok
    process = project.start("destroy")
    wait_for((project.things / "deleting").exists)

    os.kill(process.pid, signal.SIGTERM)

    assert answer(process)["exit"] == int(Exit.TERMINATED)
    assert list(project.made()) == ["first"], "stopped before this one"
    assert project.stack.destroy().ok
    assert project.made() == {}
    project.stack.remove()


def test_stopped_twice_ends_at_once_and_the_next_up_goes_on(project: Project) -> None:
    project.want({"slow": {"seconds": SLOW, "deaf": True}})
    process = project.start("up")
    _began(project, "slow")
    engine = project.engine_pid()

    os.kill(process.pid, signal.SIGINT)
    wait_for((project.things / "cancelled").exists)
    began = time.monotonic()
    os.kill(process.pid, signal.SIGINT)

    assert answer(process)["exit"] == int(Exit.INTERRUPTED)
    assert time.monotonic() - began < SLOW / 2, "not waited for"
    assert not project.engine_lives(engine)
    project.want({"slow": {}})
    assert project.stack.up().ok
    assert _snapshot(project).pending == ()


def test_killed_toolkit_lets_its_engine_end_in_order(project: Project) -> None:
    project.want({"slow": {"seconds": SLOW}})
    process = project.start("up")
    _began(project, "slow")
    engine = project.engine_pid()

    os.kill(process.pid, signal.SIGKILL)

    wait_for(lambda: not project.engine_lives(engine), limit_s=SLOW / 2)
    assert _lock_files(project) == []
    assert _snapshot(project).pending == ()
    assert any(urn.endswith("::slow") for urn in _snapshot(project).urns), "half made, and in the state"


def test_up_right_after_the_toolkit_was_killed_waits_for_its_engine(project: Project) -> None:
    project.want({"slow": {"seconds": SLOW}})
    process = project.start("up")
    _began(project, "slow")
    engine = project.engine_pid()

    os.kill(process.pid, signal.SIGKILL)

    project.want({"slow": {}})
    done = answer(project.start("up"))  # at once, while the orphan may still be ending
    assert done["exit"] == 0
    assert not project.engine_lives(engine)
    assert _snapshot(project).pending == ()
    assert _lock_files(project) == []


def test_killed_engine_is_told_and_the_next_up_adopts(project: Project) -> None:
    project.want({"slow": {"seconds": SLOW}})
    process = project.start("up")
    _began(project, "slow")

    engine = project.engine_pid()
    os.kill(engine, signal.SIGKILL)

    done = answer(process)
    assert processes.session_left(engine, since=0) == [], "its language host and program went with it"
    assert done["exit"] == int(Exit.FAILED)
    assert "SIGKILL" in done["reasons"][-1]
    project.want({"slow": {}})
    assert project.stack.up().ok
    assert project.made()["slow"]["made"] == 2, "adopted, not made beside the first"
    assert _snapshot(project).pending == ()


def test_up_after_both_were_killed_ends_right(project: Project) -> None:
    project.want({"a": {}, "slow": {"seconds": SLOW, "after": ["a"]}, "later": {"after": ["slow"]}})
    engine = _kill_engine_and_toolkit(project, "slow")
    assert _lock_files(project)
    project.want({"a": {}, "slow": {"after": ["a"]}, "later": {"after": ["slow"]}})

    done = answer(project.start("up"))

    assert done["exit"] == 0
    assert processes.session_left(engine, since=0) == []
    assert any("broke the lock" in note for note in done["notes"])
    assert any("is in the state now" in note for note in done["notes"])
    assert set(project.made()) == {"a", "slow", "later"}
    assert _snapshot(project).pending == ()
    assert answer(project.start("up"))["changes"] == {"same": 5}


def test_up_with_another_file_after_a_kill_forgets_nothing(project: Project) -> None:
    project.want({"a": {}, "gone": {"seconds": 3, "after": ["a"]}})
    _kill_engine_and_toolkit(project, "gone")
    project.want({"a": {}})

    done = answer(project.start("up"))

    assert done["exit"] == 0
    assert set(project.made()) == {"a"}, "what the killed run had begun to make was adopted, then removed"
    assert _snapshot(project).pending == ()


def test_destroy_right_after_both_were_killed_leaves_nothing(project: Project) -> None:
    project.want({"a": {}, "slow": {"seconds": 3, "after": ["a"]}, "later": {"after": ["slow"]}})
    _kill_engine_and_toolkit(project, "slow")

    done = answer(project.start("destroy"))

    assert done["exit"] == 0
    assert project.made() == {}
    project.stack.remove()
    assert not project.stack.exists()


def test_destroy_refuses_while_it_cannot_tell_what_exists(project: Project) -> None:
    project.want({"a": {}, "slow": {"seconds": SLOW, "after": ["a"]}})
    _kill_engine_and_toolkit(project, "slow")
    project.want({"a": {}})
    (project.home / "applied" / NAME / f"{NAME}.yaml").unlink()  # as after a plain `pulumi up`

    done = answer(project.start("destroy"))

    assert done["exit"] == int(Exit.FAILED)
    assert done["rules"] == ["ENG-020"]
    assert set(project.made()) == {"a", "slow"}, "nothing was destroyed"
    project.want({"a": {}, "slow": {"after": ["a"]}})
    assert answer(project.start("destroy"))["exit"] == 0
    assert project.made() == {}


def test_destroy_killed_half_way_goes_on(project: Project) -> None:
    project.want({"a": {}, "b": {"after": ["a"], "delete_s": 2}})
    assert project.stack.up().ok
    process = project.start("destroy")
    wait_for((project.things / "deleting").exists)
    engine = project.engine_pid()
    os.kill(process.pid, signal.SIGKILL)
    os.kill(engine, signal.SIGKILL)

    assert answer(project.start("destroy"))["exit"] == 0
    assert project.made() == {}
    assert _snapshot(project).pending == ()


def test_two_ups_at_once_the_second_is_refused_and_names_the_first(project: Project) -> None:
    project.want({"slow": {"seconds": 4}})
    first = project.start("up")
    _began(project, "slow")

    second = answer(project.start("up"))

    assert second["exit"] == int(Exit.PREFLIGHT)
    assert second["rules"] == ["ENG-010"]
    assert f"pid {first.pid}" in second["text"]
    assert answer(first)["exit"] == 0


def test_a_lock_of_a_living_engine_or_of_another_host_is_not_broken(project: Project) -> None:
    project.want({})
    project.stack.up()
    folder = project.home / "state" / ".pulumi" / "locks" / "organization" / "tiny" / NAME
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / "11111111-1111-1111-1111-111111111111.json"
    lock.write_text(
        json.dumps({"pid": 1, "username": "x", "hostname": "elsewhere", "timestamp": "2026-01-01T00:00:00Z"})
    )

    done = answer(project.start("up"))

    assert done["rules"] == ["ENG-012"]
    assert "elsewhere" in done["text"]
    assert lock.exists()


def test_a_run_record_without_a_process_is_no_hindrance(project: Project) -> None:
    project.want({})
    project.stack.up()
    locks.write_run(NAME, locks.Run("up", 999_999, 999_998, 1.0, ""))
    assert project.stack.up().ok
    assert locks.read_run(NAME) is None
