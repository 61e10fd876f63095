"""The result callback under plain ansible-playbook. Real: ansible-core, on this machine (connection local)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aifactory import paths

SECRET = "s3cret-in-a-task"

PLAYBOOK = f"""
- name: Cases
  hosts: all
  gather_facts: false
  tasks:
    - name: Pass
      ansible.builtin.command: "true"
      changed_when: false
    - name: Change
      ansible.builtin.copy: {{content: "x", dest: "{{{{ dir }}}}/x-{{{{ inventory_hostname }}}}"}}
      diff: true
    - name: Skip
      ansible.builtin.command: "true"
      when: false
    - name: Ignore
      ansible.builtin.command: "false"
      ignore_errors: true
    - name: Fail hidden
      ansible.builtin.command: cat /no/such/{SECRET}
      no_log: true
      when: inventory_hostname == 'hidden'
    - name: Fail on an item
      ansible.builtin.command: "{{{{ item }}}}"
      loop: ["true", "ls /no/such/file"]
      changed_when: false
      when: inventory_hostname == 'items'
    - name: Talk a lot
      ansible.builtin.command: "python3 -c 'import sys; sys.exit(\\"y\\" * 9000)'"
      when: inventory_hostname == 'long'
    - name: Note
      ansible.builtin.assert: {{that: true, success_msg: "nothing   to\\n do"}}
      tags: [note]
    - name: End
      ansible.builtin.assert: {{that: true}}
      tags: [aifactory_end]
"""


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """One run on four hosts; the lines come through an inherited descriptor."""
    folder = tmp_path_factory.mktemp("callback")
    (folder / "play.yml").write_text(PLAYBOOK)
    read, write = os.pipe()
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8",
        "ANSIBLE_CONFIG": str(paths.PLAYBOOKS / "ansible.cfg"), "AIFACTORY_RESULT_FD": str(write),
    }  # fmt: skip
    inventory = "good,hidden,items,long,"
    argv = ["ansible-playbook", "-i", inventory, "-c", "local", "-D", "-e", f"dir={folder}"]
    argv += ["-e", f"ansible_python_interpreter={sys.executable}", "play.yml"]
    with os.fdopen(read) as stream:
        done = subprocess.run(
            argv, cwd=folder, env=environment, pass_fds=[write], capture_output=True, text=True, check=False
        )
        os.close(write)
        text = stream.read()
    assert text, done.stdout + done.stderr
    return [json.loads(line) for line in text.splitlines()]


def of(lines: list[dict[str, Any]], kind: str, **wanted: object) -> list[dict[str, Any]]:
    return [line for line in lines if line["kind"] == kind and all(line.get(k) == v for k, v in wanted.items())]


def test_only_the_host_that_got_through_has_an_end(lines: list[dict[str, Any]]) -> None:
    assert [line["host"] for line in of(lines, "end")] == ["good"]


def test_each_task_is_announced_once(lines: list[dict[str, Any]]) -> None:
    assert [line["task"] for line in of(lines, "task")][:4] == ["Pass", "Change", "Skip", "Ignore"]


@pytest.mark.parametrize(
    ("task", "status"), [("Pass", "ok"), ("Change", "changed"), ("Skip", "skipped"), ("Ignore", "ignored")]
)
def test_results_are_told_apart(lines: list[dict[str, Any]], task: str, status: str) -> None:
    assert len(of(lines, "host", task=task, status=status)) == 4


def test_change_comes_with_its_diff(lines: list[dict[str, Any]]) -> None:
    assert '"after": "x"' in of(lines, "host", task="Change")[0]["diff"]


def test_condition_is_told_from_check_mode(lines: list[dict[str, Any]]) -> None:
    assert of(lines, "host", task="Skip")[0]["why"] == "condition"


def test_no_log_hides_the_reason(lines: list[dict[str, Any]]) -> None:
    assert of(lines, "host", host="hidden", status="failed")[0]["message"] == "output is hidden (no_log)"
    assert SECRET not in json.dumps(lines)


def test_failed_item_gives_the_reason(lines: list[dict[str, Any]]) -> None:
    message = of(lines, "host", host="items", status="failed")[0]["message"]
    assert "/no/such/file" in message


def test_long_output_is_cut(lines: list[dict[str, Any]]) -> None:
    message = of(lines, "host", host="long", status="failed")[0]["message"]
    assert 100 < len(message) <= 600
    assert message.endswith("…")


def test_note_is_one_line(lines: list[dict[str, Any]]) -> None:
    assert of(lines, "note", host="good")[0]["message"] == "nothing to do"


def test_totals_close_the_run(lines: list[dict[str, Any]]) -> None:
    assert lines[-1]["kind"] == "stats"
    assert lines[-1]["hosts"]["good"]["failures"] == 0
