"""What a change of the file does to a running region. Real: specs from files, the field metadata."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from aifactory.region import changes, loader
from aifactory.region.spec import Change, Region, Section

from tests.unit.region import cases

FOLDER = cases.CASES / "region"


def region(folder: Path, base: str, *edits: tuple[str, str], more: str = "") -> Region:
    content = (FOLDER / f"file.ok.{base}.yaml").read_text() + more
    for old, new in edits:
        assert old in content
        content = content.replace(old, new, 1)
    path = folder / "case.yaml"
    path.write_text(content)
    return loader.load(path).spec


@pytest.mark.parametrize(
    ("base", "edit", "expected"),
    [
        ("local", ("nodes: 2", "nodes: 4"), ("pools[serve].nodes", "add_or_drain", 2, 4)),
        ("local", ("country: DE", "country: NO"), ("jurisdiction.country", "policy", "DE", "NO")),
        ("local", ("pool: serve", "pool: serve, replicas: 2"), ("services[chat].replicas", "in_place", 1, 2)),
        ("local", ("model: golden-tiny", "model: golden-tiny, context_tokens: 64"), ("services[chat].context_tokens",
         "blue_green", None, 64)),
        ("local", ("nodes: 2", "nodes: 2, generation: 2"), ("pools[serve].generation", "rolling", 1, 2)),
        ("static", ("10.40.0.12", "10.40.0.13"), ("pools[train].hosts[b200-02].address", "in_place",
         "10.40.0.12", "10.40.0.13")),
        ("static", ("dgx-b200", "dgx-h200"), ("pools[train].shape", "replaces_nodes", "dgx-b200", "dgx-h200")),
        ("aws", ("    zone: eusc-de-east-1a\n", ""), ("pools[train].zone", "replaces_nodes", "eusc-de-east-1a", None)),
    ],
)  # fmt: skip
def test_changes_one_field(
    base: str, edit: tuple[str, str], expected: tuple[str, Change, object, object], tmp_path: Path
) -> None:
    before, after = region(tmp_path, base), region(tmp_path, base, edit)
    assert changes.changes(before, after) == (changes.Changed(*expected),)
    assert changes.refused(before, after) == ()


def test_changes_same_region_none(tmp_path: Path) -> None:
    assert changes.changes(region(tmp_path, "static"), region(tmp_path, "static")) == ()


def test_changes_hosts_moved_in_their_list_none(tmp_path: Path) -> None:
    before = region(tmp_path, "static")
    pool = before.pools[0]
    moved = before.model_copy(update={"pools": (pool.model_copy(update={"hosts": pool.hosts[::-1]}),)})
    assert changes.changes(before, moved) == ()


def test_changes_pool_added_and_removed(tmp_path: Path) -> None:
    one = region(tmp_path, "local")
    two = region(tmp_path, "local", ("services:", "  - {name: more, shape: local-cpu, nodes: 1}\nservices:"))
    (added,) = changes.changes(one, two)
    (removed,) = changes.changes(two, one)
    assert (added.path, added.change, added.old, added.new["nodes"]) == ("pools[more]", "add_or_drain", None, 1)
    assert (removed.path, removed.change, removed.old["nodes"], removed.new) == ("pools[more]", "add_or_drain", 1, None)
    assert changes.refused(two, one) == ()


SCRATCH = "storage:\n  - {name: scratch, kind: lustre, capacity_gib: 2400, mount: /scratch}\n"


@pytest.mark.parametrize(
    ("base", "more", "edit", "path"),
    [
        ("local", "network: {cidr: 10.64.0.0/16}\n", ("10.64.0.0", "10.65.0.0"), "network.cidr"),
        ("local", "", ("kind: local", "kind: local, engine: podman"), "provider.engine"),
        ("aws", "", ("123456789012", "123456789013"), "provider.account"),
        ("aws", SCRATCH, ("2400", "1200"), "storage[0].capacity_gib"),
        ("aws", SCRATCH, ("capacity_gib: 2400", "capacity_gib: 2400, export: x:/y"), "storage[0].export"),
        ("aws", SCRATCH, (SCRATCH, ""), "storage"),
        ("local", "state: {secrets: passphrase}\n", ("passphrase", "awskms://alias/a"), "state.secrets"),
        ("local", "", ("nodes: 2", "nodes: 2, generation: 1"), None),
    ],
)
def test_refused_what_a_running_region_does_not_allow(
    base: str, more: str, edit: tuple[str, str], path: str | None, tmp_path: Path
) -> None:
    found = changes.refused(region(tmp_path, base, more=more), region(tmp_path, base, edit, more=more))
    assert [p.path for p in found] == ([path] if path else [])
    assert all(p.rule == "SPEC-070" and p.fix for p in found)


def test_refused_generation_never_goes_back(tmp_path: Path) -> None:
    higher = region(tmp_path, "local", ("nodes: 2", "nodes: 2, generation: 3"))
    (problem,) = changes.refused(higher, region(tmp_path, "local"))
    assert problem.path == "pools[0].generation"


def test_storage_growing_or_added_in_place(tmp_path: Path) -> None:
    small = region(tmp_path, "aws", more=SCRATCH)
    (grown,) = changes.changes(small, region(tmp_path, "aws", ("2400", "4800"), more=SCRATCH))
    (added,) = changes.changes(region(tmp_path, "aws"), small)
    assert (grown.change, added.change) == ("in_place", "in_place")


def test_provider_of_another_kind_refused_as_one_thing(tmp_path: Path) -> None:
    found = changes.refused(region(tmp_path, "local"), region(tmp_path, "static"))
    assert "provider.kind" in [p.path for p in found]
    assert not any(p.path and p.path.startswith("provider.ssh") for p in found)


def test_spec_every_field_says_what_a_change_does() -> None:
    known = set(get_args(Change))
    for section in Section.__subclasses__():
        for name, info in section.model_fields.items():
            extra = info.json_schema_extra
            assert isinstance(extra, dict), f"{section.__name__}.{name}"
            assert extra.get("change") in known, f"{section.__name__}.{name}"
            assert info.description, f"{section.__name__}.{name}"
