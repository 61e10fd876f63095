"""Digests that decide whether Ansible runs. Real: files, hashing; `paths` point at a small tree of the test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aifactory import paths
from aifactory.hosts import digest
from aifactory.hosts.play import Play

from .conftest import fleet_host

KEY = b"k"
SPEC = "argument_specs: {main: {options: {%s: {type: dict, options: {word: {type: str, default: x}, pin: {}}}}}}\n"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """playbooks/ and templates/ with two roles, one and two."""
    monkeypatch.setattr(paths, "PLAYBOOKS", tmp_path / "playbooks")
    monkeypatch.setattr(paths, "TEMPLATES", tmp_path / "templates")
    for role in ("one", "two"):
        for file, text in {
            f"playbooks/{role}.yml": "- hosts: x\n",
            f"playbooks/roles/{role}/tasks/main.yml": "[]\n",
            f"playbooks/roles/{role}/meta/argument_specs.yml": SPEC % role,
            f"templates/{role}/a.j2": "a\n",
        }.items():
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text(text)
    for file in ("playbooks/both.yml", "playbooks/marker.yml", "playbooks/library/m.py", "playbooks/ansible.cfg"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("# \n")
    return tmp_path


def play(**changes: object) -> Play:
    plain = Play("both.yml", "m", (fleet_host(),), ("one", "two"))
    return replace(plain, **changes)  # type: ignore[arg-type]


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return [layer for layer in before if before[layer] != after[layer]]


@pytest.mark.parametrize(
    ("file", "layers"),
    [
        ("playbooks/roles/one/tasks/main.yml", ["one"]),
        ("playbooks/one.yml", ["one"]),
        ("templates/two/a.j2", ["two"]),
        ("playbooks/both.yml", ["one", "two"]),
        ("playbooks/library/m.py", ["one", "two"]),
        ("playbooks/ansible.cfg", ["one", "two"]),
    ],
)
def test_changed_file_changes_the_layers_that_use_it(tree: Path, file: str, layers: list[str]) -> None:
    before = digest.digests(play(), KEY)
    (tree / file).write_text((tree / file).read_text() + "# more\n")
    assert changed(before, digest.digests(play(), KEY)) == layers


def test_new_and_executable_files_count_touched_and_cached_ones_do_not(tree: Path) -> None:
    before = digest.digests(play(), KEY)
    (tree / "playbooks/one.yml").touch()
    (tree / "playbooks/roles/one/__pycache__").mkdir()
    (tree / "playbooks/roles/one/__pycache__/x.pyc").write_text("x")
    assert changed(before, digest.digests(play(), KEY)) == []
    (tree / "templates/one/b.j2").write_text("")
    assert changed(before, digest.digests(play(), KEY)) == ["one"]
    (tree / "templates/two/a.j2").chmod(0o755)
    assert changed(before, digest.digests(play(), KEY)) == ["one", "two"]


def test_variable_changes_its_layer_and_a_default_given_changes_nothing(tree: Path) -> None:
    before = digest.digests(play(), KEY)
    assert changed(before, digest.digests(play(role_vars={"one": {"word": "y"}}), KEY)) == ["one"]
    assert changed(before, digest.digests(play(role_vars={"one": {"word": "x"}}), KEY)) == []


def test_secret_enters_as_hmac_under_the_key(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = list[bytes]()
    canonical: Callable[[object], bytes] = digest._canonical
    monkeypatch.setattr(digest, "_canonical", lambda value: hashed.append(canonical(value)) or hashed[-1])
    secret = play(secret_vars={"one": {"pin": "1234"}})
    with_key = digest.digests(secret, KEY)
    assert b"1234" not in b"".join(hashed)
    assert changed(with_key, digest.digests(secret, b"other")) == ["one"]
    assert changed(with_key, digest.digests(play(secret_vars={"one": {"pin": "1235"}}), KEY)) == ["one"]


def test_controller_file_counts_by_content(tree: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_text("a")
    before = digest.digests(play(files=(file,)), KEY)
    file.write_text("b")
    assert changed(before, digest.digests(play(files=(file,)), KEY)) == ["one", "two"]


def test_hosts_and_limit_do_not_enter_a_layers_digest(tree: Path) -> None:
    before = digest.digests(play(), KEY)
    assert digest.digests(play(hosts=(fleet_host("b"),), limit=("b",)), KEY) == before


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({"id": "other"}, True),
        ({"rank": 3}, True),
        ({"labels": {"rack": "r2"}}, True),
        ({"node_address": "1.2.3.4"}, True),
        ({"address": "10.0.0.9"}, False),
        ({"port": 2222}, False),
        ({"created_at": "now"}, False),
        ({"urn": "u"}, False),
    ],
)
def test_node_digest_changes_with_what_roles_see_of_the_host(change: dict[str, object], counts: bool) -> None:
    before = digest.node_digest(fleet_host(), {"one": "d"})
    assert (digest.node_digest(fleet_host(**change), {"one": "d"}) != before) is counts


def test_node_digest_changes_with_a_layer() -> None:
    assert digest.node_digest(fleet_host(), {"one": "d"}) != digest.node_digest(fleet_host(), {"one": "e"})
