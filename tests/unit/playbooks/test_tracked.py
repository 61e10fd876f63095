"""What playbooks/ runs is known to git: a file that is ignored would work here and be missing in a clone.

Real: the files, git's index.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aifactory import paths
from ruamel.yaml import YAML

BOOKS = paths.PLAYBOOKS
UTILS_RE = re.compile(r"ansible\.module_utils(?: import |\.)(aifactory_\w+)")
TEMPLATE_RE = re.compile(r"\bsrc: (\S+\.j2)\b")
OWN_RE = re.compile(r"^\s*(?:- )?((?:aifactory|gpu)_\w+):", re.M)


def used() -> Iterator[Path]:
    """Every file that a playbook of the folder reaches: playbooks, whole roles, modules and what those import."""
    for book in sorted(BOOKS.glob("*.yml")):
        yield book
        for value in _values(YAML(typ="safe").load(book), "ansible.builtin.import_playbook"):
            yield BOOKS / value
        roles = {*_roles(YAML(typ="safe").load(book))}
        for role in sorted(roles):
            yield from _role(role)
    yield from (BOOKS / name for name in ("ansible.cfg", "callback_plugins/aifactory_result.py"))


def _values(tree: Any, key: str) -> Iterator[Any]:
    """Values of the key, wherever it stands."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == key:
                yield value
            yield from _values(value, key)
    elif isinstance(tree, list):
        for item in tree:
            yield from _values(item, key)


def _roles(tree: Any) -> Iterator[str]:
    for listed in _values(tree, "roles"):
        yield from (entry if isinstance(entry, str) else entry["role"] for entry in listed)
    for key in ("ansible.builtin.import_role", "ansible.builtin.include_role"):
        yield from (value["name"] for value in _values(tree, key))


def _role(name: str) -> Iterator[Path]:
    folder = BOOKS / "roles" / name
    assert (folder / "tasks").is_dir(), f"playbooks/roles/{name} has no tasks"
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        yield file
        if file.suffix == ".yml":
            text = file.read_text("utf-8")
            yield from (paths.TEMPLATES / found for found in TEMPLATE_RE.findall(text) if "{" not in found)
            for module in OWN_RE.findall(text):
                yield from _module(folder, module)


def _module(role: Path, name: str) -> Iterator[Path]:
    """The module's file, the action plugin of its name, and what it imports of ours; a variable's name has none."""
    found = [file for file in (role / "library" / f"{name}.py", BOOKS / "library" / f"{name}.py") if file.is_file()]
    action = BOOKS / "action_plugins" / f"{name}.py"
    for file in (*found[:1], *([action] if action.is_file() else [])):
        yield file
        yield from _imported(file)


def _imported(file: Path) -> Iterator[Path]:
    for name in UTILS_RE.findall(file.read_text("utf-8")):
        util = BOOKS / "module_utils" / f"{name}.py"
        yield util
        yield from _imported(util)


def test_everything_that_playbooks_run_is_tracked() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "playbooks", "templates"], cwd=paths.REPO, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("no checkout of git: run this in a clone")
    tracked = set(listed.stdout.split("\0"))
    missing = {str(file.relative_to(paths.REPO)) for file in used()} - tracked
    assert not missing, f"not known to git (ignored, or not added): {', '.join(sorted(missing))}"


def test_walk_reaches_each_kind_of_file() -> None:
    """A walk that finds nothing would be pleased with everything."""
    names = {str(file.relative_to(paths.REPO)) for file in used()}
    assert names >= {
        "playbooks/marker.yml", "playbooks/roles/reboot/library/aifactory_reboot.py",
        "playbooks/roles/gpu/meta/argument_specs.yml", "playbooks/library/gpu_platform.py",
        "playbooks/action_plugins/aifactory_files.py", "playbooks/module_utils/aifactory_vendor.py",
        "templates/host/sshd.conf.j2",
    }  # fmt: skip
