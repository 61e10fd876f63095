"""The `project` fixture: see engine_project.py for what is real in it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aifactory.toolchain import locate

from tests.engine.engine_project import HERE, Project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    if locate.on_path() is None and locate.in_cache() is None:
        pytest.skip("the engine is not built yet: make setup")
    root = tmp_path / "project"
    shutil.copytree(HERE / "tiny", root)
    text = (root / "Pulumi.yaml.in").read_text().replace("@VENV@", str(Path(sys.executable).parents[1]))
    (root / "Pulumi.yaml").write_text(text)
    made = Project(root, tmp_path / "things", tmp_path / "regions", tmp_path / "home")
    made.things.mkdir()
    made.regions.mkdir()
    monkeypatch.setenv("AIFACTORY_HOME", str(made.home))
    monkeypatch.setenv("AIFACTORY_REGIONS", str(made.regions))
    yield made
    for process in made.running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
