"""Where the engine is found. Real: PATH, files, processes. Stand-ins: shell scripts for `pulumi` and its host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aifactory.errors import Exit, ProblemError
from aifactory.toolchain import locate, lock


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing on PATH and an empty cache."""
    monkeypatch.setenv("AIFACTORY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path


def program(path: Path, prints: str = "", code: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\nprintf '%s\\n' '{prints}'\nexit {code}\n")
    path.chmod(0o755)
    return path


def built() -> Path:
    folder = locate.engine_dir()
    locked = lock.load()
    names = [*(b.name for b in locked.binaries), *(s.name for s in locked.scripts)]
    for name in names:
        program(folder / "bin" / name)
    versions = {"binaries": {b.name: b.version for b in locked.binaries}, "scripts": [s.name for s in locked.scripts]}
    (folder / "versions.json").write_text(json.dumps(versions))
    return folder


def test_nothing_anywhere_is_a_problem_with_its_fix() -> None:
    with pytest.raises(ProblemError, match="make setup") as caught:
        locate.resolve()
    assert caught.value.code == Exit.PREFLIGHT


@pytest.mark.parametrize(
    ("version", "used"), [("v3.259.0", True), ("v3.300.1", True), ("v3.258.9", False), ("v4.0.0", False)]
)
def test_pulumi_on_path_is_used_within_the_locked_range(machine: Path, version: str, used: bool) -> None:
    program(machine / "bin" / "pulumi", version)
    program(machine / "bin" / locate.LANGUAGE_HOST)
    found = locate.on_path()
    assert (found is not None) == used
    if found:
        assert (found.source, found.version, found.bin_dir) == ("path", version[1:], machine / "bin")


def test_pulumi_on_path_without_a_language_host_is_not_used(machine: Path) -> None:
    program(machine / "bin" / "pulumi", "v3.259.0")
    assert locate.on_path() is None


def test_a_broken_pulumi_on_path_is_not_used(machine: Path) -> None:
    program(machine / "bin" / "pulumi", "v3.259.0", code=1)
    program(machine / "bin" / locate.LANGUAGE_HOST)
    assert locate.on_path() is None


def test_a_host_elsewhere_on_path_must_be_let_be_found(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(machine / "bin" / "pulumi", "v3.259.0")
    program(machine / "other" / locate.LANGUAGE_HOST)
    monkeypatch.setenv("PATH", f"{machine / 'bin'}:{machine / 'other'}")
    found = locate.on_path()
    assert found
    assert found.ambient_host


def test_a_linked_pulumi_finds_the_host_beside_its_target(machine: Path) -> None:
    (machine / "bin" / "pulumi").symlink_to(program(machine / "opt" / "pulumi", "v3.259.0"))
    program(machine / "opt" / locate.LANGUAGE_HOST)
    found = locate.on_path()
    assert found
    assert found.bin_dir == machine / "opt"
    assert not found.ambient_host


def test_the_cache_is_used_when_path_has_nothing() -> None:
    folder = built()
    found = locate.resolve()
    assert (found.source, found.pulumi) == ("cache", folder / "bin" / "pulumi")


def test_a_cache_with_a_binary_missing_is_not_used() -> None:
    (built() / "bin" / locate.LANGUAGE_HOST).unlink()
    assert locate.in_cache() is None


def test_the_kubernetes_provider_stands_where_the_engine_looks(machine: Path) -> None:
    with pytest.raises(ProblemError, match="make setup-kubernetes"):
        locate.install_kubernetes(machine / "home")
    binary = program(locate.kubernetes_dir() / "pulumi-resource-kubernetes")
    for _ in range(2):
        placed = locate.install_kubernetes(machine / "home")
        assert placed.resolve() == binary.resolve()
    version = lock.load().kubernetes.version
    assert placed.parent == machine / "home" / "plugins" / f"resource-kubernetes-v{version}"
    assert [p.name for p in placed.parent.iterdir()] == ["pulumi-resource-kubernetes"]
