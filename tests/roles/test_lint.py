"""Playbooks and roles against ansible-lint's production profile and yamllint. Real: both tools. No host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from aifactory import paths

BIN = Path(sys.executable).parent


@pytest.mark.parametrize("command", [["ansible-lint", "--nocolor", "-q"], ["yamllint", "--strict", "."]])
def test_playbooks_are_clean(command: list[str], tmp_path: Path) -> None:
    environment = {
        "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8",
        "ANSIBLE_HOME": str(tmp_path / "ansible"),
    }  # fmt: skip
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]], cwd=paths.PLAYBOOKS, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_layer_has_playbook_role_and_specification() -> None:
    for layer in ("host", "fabric", "gpu", "runtime"):
        role = paths.PLAYBOOKS / "roles" / layer
        assert (paths.PLAYBOOKS / f"{layer}.yml").is_file()
        assert (role / "meta" / "argument_specs.yml").is_file()
        text = (role / "tasks" / "main.yml").read_text()
        assert f"tags: [{layer}_install, {layer}_configure, {layer}_run]" in text
