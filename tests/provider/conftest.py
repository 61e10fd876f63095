"""Fixtures of the real-engine tests: one project and one cloud a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.provider.cloud import Cloud
from tests.provider.pulumi_project import Project


@pytest.fixture
def things(tmp_path: Path) -> Cloud:
    """An empty test cloud."""
    (tmp_path / "cloud").mkdir()
    return Cloud(str(tmp_path / "cloud"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An empty stack; journals of this process and of the server's are the same."""
    project = Project(tmp_path / "project")
    monkeypatch.setenv("AIFACTORY_HOME", project.env["AIFACTORY_HOME"])
    return project
