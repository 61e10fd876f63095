"""Fixtures of tests with real nodes: one image a session, one network a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.provider.local import ground as real


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AIFACTORY_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def node_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    real.find_podman()
    with real.node_image(tmp_path_factory.mktemp("image")) as image:
        yield image


@pytest.fixture(scope="module")
def module_ground(node_image: str) -> Iterator[real.Ground]:
    with real.ground(node_image) as made:
        yield made


@pytest.fixture
def ground(module_ground: real.Ground) -> Iterator[real.Ground]:
    yield module_ground
    module_ground.clear()
