"""The node image's recipe against its golden files (GOLDEN_UPDATE=1 rewrites them). Pure."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from aifactory.provider.local.image_recipe import PACKAGES, Recipe, containerfile, mmdebstrap_argv

GOLDEN = Path(__file__).parent / "golden"
RECIPE = Recipe("trixie", "amd64")


def golden(name: str, text: str) -> None:
    file = GOLDEN / name
    if os.environ.get("GOLDEN_UPDATE"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert file.read_text() == text


def test_containerfile_and_its_context() -> None:
    for name, text in containerfile(RECIPE).items():
        golden(f"node-image-{name}", text)


def test_mmdebstrap_arguments() -> None:
    golden("node-image-mmdebstrap.txt", "\n".join(shlex.quote(a) for a in mmdebstrap_argv(RECIPE)) + "\n")


def test_both_ways_install_the_same_packages() -> None:
    assert f"--include={','.join(PACKAGES)}" in mmdebstrap_argv(RECIPE)
    assert f"install -y {' '.join(PACKAGES)} " in containerfile(RECIPE)["Containerfile"]


def test_image_is_bare_what_the_play_installs_is_not_in_it() -> None:
    assert not {"podman", "docker.io", "haproxy", "curl"} & set(PACKAGES)


def test_mirror_is_the_last_argument_and_only_when_given() -> None:
    assert mmdebstrap_argv(RECIPE)[-2:] == ["trixie", "-"]
    assert mmdebstrap_argv(Recipe("trixie", "amd64", mirror="http://m/debian"))[-1] == "http://m/debian"


@pytest.mark.parametrize(
    "other",
    [Recipe("forky", "amd64"), Recipe("trixie", "arm64"), Recipe("trixie", "amd64", mirror="http://m/debian")],
    ids=["suite", "architecture", "mirror"],
)
def test_key_changes_with_whatever_goes_in(other: Recipe) -> None:
    assert other.key("mmdebstrap") != RECIPE.key("mmdebstrap")


def test_key_base_image_counts_only_where_it_is_used() -> None:
    based = Recipe("trixie", "amd64", base="registry.example/debian:trixie")
    assert based.key("mmdebstrap") == RECIPE.key("mmdebstrap")
    assert based.key("containerfile") != RECIPE.key("containerfile")
    assert containerfile(based)["Containerfile"].startswith("FROM registry.example/debian:trixie\n")
