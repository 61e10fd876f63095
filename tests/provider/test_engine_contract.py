"""The contract on the test cloud under the real engine: CLI, language host, our server as a plugin process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.provider.cloud_backend import GangBackend
from tests.provider.contract import Backend, Contract, Driver
from tests.provider.pulumi_project import Project
from tests.provider.real_driver import RealDriver

pytestmark = pytest.mark.engine


class TestGang(Contract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> Backend:
        (tmp_path / "cloud").mkdir()
        return GangBackend(tmp_path / "cloud")

    @pytest.fixture
    def driver(self, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
        project = Project(tmp_path / "project")
        monkeypatch.setenv("AIFACTORY_HOME", project.env["AIFACTORY_HOME"])
        return RealDriver(backend, project)
