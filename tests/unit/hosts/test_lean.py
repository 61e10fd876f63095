"""The callback that makes workers cheaper. Real: ansible-playbook, on this machine without SSH."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from aifactory import paths

PROBE = """
import gc, pathlib, sys
from ansible.plugins.action import ActionBase
class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        loaded = [name for name in sys.modules if name.startswith("ansible.plugins.filter.core")]
        pathlib.Path(self._task.args["to"]).write_text(f"{gc.isenabled()} {len(loaded)}")
        return {}
"""
"""Says what the worker it runs in is like."""


def run(folder: Path, cache: Path | None, *, lean: bool = True) -> subprocess.CompletedProcess[str]:
    (folder / "plugins").mkdir(exist_ok=True)
    (folder / "plugins" / "probe.py").write_text(PROBE)
    tasks = [{"probe": {"to": str(folder / "told")}}, {"ansible.builtin.ping": {}}]
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
    (folder / "play.json").write_text(json.dumps([play]))
    bin_dir = Path(sys.executable).parent
    environment = {
        "PATH": f"{bin_dir}:/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1",
        "ANSIBLE_CALLBACK_PLUGINS": str(paths.PLAYBOOKS / "callback_plugins"),
        "ANSIBLE_ACTION_PLUGINS": str(folder / "plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "aifactory_lean" if lean else "aifactory_result",
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        **({"AIFACTORY_MODULE_CACHE": str(cache)} if cache else {}),
    }  # fmt: skip
    return subprocess.run(
        [str(bin_dir / "ansible-playbook"), "-i", "localhost,", str(folder / "play.json")],
        env=environment, cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(("lean", "told"), [(True, "False 1"), (False, "True 0")])
def test_worker_collects_no_garbage_and_finds_plugins_loaded(tmp_path: Path, lean: bool, told: str) -> None:
    done = run(tmp_path, None, lean=lean)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "told").read_text() == told


def test_archives_are_kept_for_the_next_run_and_a_damaged_one_is_made_anew(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    assert run(tmp_path, cache).returncode == 0
    (archive,) = (path for path in cache.glob("ansible.modules.ping-*") if path.suffix != ".lock")
    whole, made = archive.read_bytes(), archive.stat().st_mtime_ns
    assert run(tmp_path, cache).returncode == 0
    assert archive.stat().st_mtime_ns == made
    archive.write_bytes(whole[: len(whole) // 2])
    assert run(tmp_path, cache).returncode == 0
    assert len(archive.read_bytes()) > len(whole) // 2


def test_folder_that_is_not_there_costs_nothing_but_time(tmp_path: Path) -> None:
    done = run(tmp_path, tmp_path / "gone")
    assert done.returncode == 0, done.stdout + done.stderr
