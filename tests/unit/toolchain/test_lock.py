"""The engine's lock. Real: lock.toml and the go.mod files of this checkout, pyproject.toml."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest
from aifactory import paths
from aifactory.toolchain import lock


def test_the_python_packages_equal_the_locked_engine() -> None:
    project = tomllib.loads((paths.REPO / "pyproject.toml").read_text())["project"]
    pins = dict(re.fullmatch(r"([a-z-]+)==([\d.]+)", d).groups() for d in project["dependencies"] if "==" in d)  # type: ignore[union-attr]
    locked = lock.load()
    assert pins["pulumi"] == locked.pulumi_version
    assert pins["pulumi-kubernetes"] == locked.kubernetes.version


def test_the_go_modules_pin_the_locked_versions() -> None:
    locked = lock.load()
    for binary in locked.binaries:
        text = (lock.GO_FOLDERS / binary.folder / "go.mod").read_text()
        assert f"github.com/pulumi/pulumi/sdk/v3 v{binary.version}" in text
        assert binary.stamp.endswith(f"=v{binary.version}")
    assert locked.kubernetes_module in (lock.GO_FOLDERS / "kubernetes" / "go.mod").read_text()


def test_every_go_module_has_its_sums() -> None:
    for folder in ("pulumi", "language-python", "kubernetes"):
        needed = re.findall(
            r"^\t([^\s/]+\.[^\s]+) (v\S+)", (lock.GO_FOLDERS / folder / "go.mod").read_text(), re.MULTILINE
        )
        sums = (lock.GO_FOLDERS / folder / "go.sum").read_text()
        assert needed
        assert [m for m in needed if f"{m[0]} {m[1]}/go.mod h1:" not in sums] == []


@pytest.mark.parametrize(
    ("changed", "engine", "kubernetes"),
    [
        ("go/pulumi/go.sum", True, False),
        ("go/language-python/go.mod", True, False),
        ("go/kubernetes/main.go", False, True),
        ("lock.py", False, False),
    ],
)
def test_the_key_changes_with_what_is_built_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str, engine: bool, kubernetes: bool
) -> None:
    shutil.copytree(lock.HERE, tmp_path / "t")
    monkeypatch.setattr(lock, "HERE", tmp_path / "t")
    monkeypatch.setattr(lock, "GO_FOLDERS", tmp_path / "t" / "go")
    before = lock.load.__wrapped__()
    with (tmp_path / "t" / changed).open("a") as file:
        file.write("\n")
    after = lock.load.__wrapped__()
    assert (before.engine_key != after.engine_key, before.kubernetes_key != after.kubernetes_key) == (
        engine,
        kubernetes,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [("v3.259.0", (3, 259, 0)), ("go version go1.26.8 linux/amd64", (1, 26, 8)), ("go 1.26", (1, 26, 0)), ("dev", ())],
)
def test_versions_are_read_out_of_text(text: str, expected: tuple[int, ...]) -> None:
    assert lock.parse_version(text) == expected
