"""Locks, run records and state files. Real: files, flock, live and dead processes. Made up: the lock files' owners."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aifactory.engine import leftovers, locks, problems, stackfile, state
from aifactory.engine.events import Note
from aifactory.errors import Exit, ProblemError
from aifactory.toolchain import enginelocks, processes

NAME = "t-locks"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AIFACTORY_REGIONS", str(tmp_path / "regions"))
    (tmp_path / "regions").mkdir()
    return tmp_path / "home"


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def lock(home: Path, pid: int, host: str, when: float | None = None, name: str = "1") -> Path:
    folder = home / "state" / ".pulumi" / "locks" / "organization" / "aifactory" / NAME
    folder.mkdir(parents=True, exist_ok=True)
    stamp = dt.datetime.fromtimestamp(when or time.time(), dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "123Z"
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"pid": pid, "username": "u", "hostname": host, "timestamp": stamp}))
    Path(f"{path}.attrs").write_text("{}")
    return path


def settle(home: Path) -> list[str]:
    notes: list[Note] = []
    leftovers.settle(NAME, home / "state", "aifactory", notes.append)
    return [note.message for note in notes]


def test_a_region_is_held_by_one_at_a_time(home: Path) -> None:
    script = (
        "from aifactory.engine import locks\nfrom aifactory.errors import ProblemError\n"
        f"try:\n    with locks.hold('{NAME}', 'up'): print('held')\n"
        "except ProblemError as error: print(error)\n"
    )
    argv = [sys.executable, "-c", script]
    with locks.hold(NAME, "destroy"):
        refused = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    free = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "[ENG-010]" in refused
    assert "`destroy` is running (pid" in refused
    assert free == "held\n"


def test_the_lock_of_a_dead_process_of_this_host_is_broken(home: Path) -> None:
    path = lock(home, dead_pid(), socket.gethostname())
    assert "broke the lock" in settle(home)[0]
    assert list(path.parent.iterdir()) == []


def test_a_pid_that_somebody_else_has_now_counts_as_dead(home: Path) -> None:
    other = subprocess.Popen(["sleep", "60"])
    younger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "pulumi"])
    try:
        lock(home, other.pid, socket.gethostname(), name="1")
        lock(home, younger.pid, socket.gethostname(), when=time.time() - 3600, name="2")
        assert len(settle(home)) == 2
    finally:
        for process in (other, younger):
            process.kill()
            process.wait()


TOLD = (
    "the stack is currently locked by 2 lock(s). Either wait for the other process(es) to end or delete the lock file "
    "with `pulumi cancel`.\n"
    "  s3://state/.pulumi/locks/organization/aifactory/t-locks/1.json?region=x: created by ada@far (pid 7) at "
    "2026-11-25T03:04:05+01:00\n"
    "  s3://state/.pulumi/locks/organization/aifactory/t-locks/2.json?region=x: created by bo@near (pid 8) at "
    "2026-11-25T03:04:05Z"
)


def test_locks_that_the_engine_tells_of_have_their_owners() -> None:
    far, near = locks.told(TOLD)
    assert (far.user, far.host, far.pid, near.user) == ("ada", "far", 7, "bo")
    assert near.started - far.started == 3600
    assert locks.told("no such stack") == []


def test_a_lock_elsewhere_is_refused_with_its_owner(home: Path) -> None:
    problem = problems.known(NAME, TOLD)
    assert problem is not None
    assert problem.problems[0].rule == "ENG-012"
    assert "pid 7 of ada on far" in str(problem)
    assert problem.code == Exit.PREFLIGHT


def test_the_lock_of_a_living_engine_is_refused(home: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "pulumi"])
    try:
        path = lock(home, process.pid, socket.gethostname(), when=time.time() + 1)
        with pytest.raises(ProblemError, match=rf"pid {process.pid}") as caught:
            settle(home)
        assert caught.value.code == Exit.PREFLIGHT
        assert path.exists()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("text", ['{"pid": 1}', "not json", '{"pid":1,"username":"u","hostname":"h","timestamp":"x"}'])
def test_a_lock_that_cannot_be_read_is_not_broken(home: Path, text: str) -> None:
    path = lock(home, 1, "x")
    path.write_text(text)
    with pytest.raises(ProblemError, match="another host"):
        settle(home)
    assert path.exists()


def test_lock_time_is_read_with_and_without_fractions(home: Path) -> None:
    path = lock(home, 1, "x")
    for stamp in ("2026-11-24T20:43:05.330495317Z", "2026-11-24T20:43:05Z", "2026-11-24T20:43:05.3Z"):
        path.write_text(json.dumps({"pid": 1, "username": "u", "hostname": "h", "timestamp": stamp}))
        (found,) = enginelocks.find(home / "state", "aifactory", NAME)
        assert int(found.started) == int(dt.datetime(2026, 11, 24, 20, 43, 5, tzinfo=dt.UTC).timestamp())
        assert found.region == NAME


def test_what_is_left_of_a_session_is_ended_but_not_what_it_left_on_purpose() -> None:
    began = time.time()
    argv = ["/bin/sh", "-c", "sleep 60 & echo $!; wait"]
    leader = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True)
    assert leader.stdout
    monitor = int(leader.stdout.readline())
    try:
        assert processes.end_session(leader.pid, began) == 0
        assert processes.look(monitor), "`sleep` stands for a container's monitor: not ours to end"
    finally:
        os.killpg(leader.pid, signal.SIGKILL)
        leader.wait()


def test_a_leftover_plugin_is_ended(tmp_path: Path) -> None:
    plugin = tmp_path / "pulumi-resource-x"
    plugin.write_text("#!/bin/sh\ntrap '' TERM\necho ready\nwhile :; do sleep 0.1; done\n")
    plugin.chmod(0o755)
    began = time.time()
    process = subprocess.Popen([str(plugin)], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout
    process.stdout.readline()
    assert processes.end_session(process.pid, began, grace_s=0.2) == 1, "deaf to SIGTERM, so SIGKILL"
    assert process.wait() == -9


def test_the_deployment_id_is_read_from_the_config_file(home: Path) -> None:
    assert stackfile.deployment(NAME) is None
    stackfile.path(NAME).write_text("encryptionsalt: v1:x\nconfig:\n  other:key: a\n  aifactory:deployment: 4f-2\n")
    assert stackfile.deployment(NAME) == "4f-2"


def test_state_tells_open_creates_and_the_deployment() -> None:
    document = {
        "deployment": {
            "resources": [
                {"urn": "urn:a", "type": "pulumi:providers:aifactory", "inputs": {"deployment": "4f-2"}},
                {"urn": "urn:b", "type": "x"},
            ],
            "pending_operations": [
                {"resource": {"urn": "urn:pulumi:s::p::a:b:C$a:b:D::name"}, "type": "creating"},
                {"resource": {"urn": "urn:b"}, "type": "deleting"},
            ],
        }
    }
    snapshot = state.parse(json.dumps(document))
    assert snapshot.deployment == "4f-2"
    assert [(p.name, p.type) for p in snapshot.creates] == [("name", "a:b:D")]
    assert len(snapshot.pending) == 2
    nothing = state.parse('{"deployment": {}}')
    assert (nothing.urns, nothing.pending) == (frozenset(), ())


def test_a_changed_region_file_is_noticed(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "regions" / f"{NAME}.yaml"
    assert not leftovers.file_changed(NAME), "no file, nothing kept"
    file.write_text("a: 1\n")
    leftovers.keep_file(NAME)
    assert not leftovers.file_changed(NAME)
    file.write_text("a: 2\n")
    assert leftovers.file_changed(NAME)
