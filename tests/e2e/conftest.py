"""Regions for the end-to-end tests. Real: engine, provider, containers, SSH, Ansible, llama.cpp, HAProxy."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator

import pytest

from tests.e2e.driver import LocalRegion


def _region(factory: pytest.TempPathFactory, octet: int) -> Iterator[LocalRegion]:
    if shutil.which("podman") is None:
        pytest.skip("no podman here; install it (apt-get install podman) or run `make setup`")
    region = LocalRegion(factory.mktemp("region"), octet)
    yield region
    for running in region.started:
        if running.process.poll() is None:
            running.signal(signal.SIGTERM)
            running.end()
    region.write()
    done = region.run("destroy", "--yes")
    assert done.returncode == 0, done.stderr
    assert region.leftovers() == []


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegion]:
    """A region that is up, shared by the tests of a module; each leaves it as it found it."""
    for region in _region(tmp_path_factory, 1):
        done = region.run("up", "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        yield region


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegion]:
    """A region of which only the file exists."""
    yield from _region(tmp_path_factory, 2)
