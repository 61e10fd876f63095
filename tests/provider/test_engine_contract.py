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
    # A run costs a second: what test_engine_life.py and test_engine_faults.py show more closely is not repeated.
    test_preview_of_a_create_touches_nothing = None
    test_refresh_finds_what_create_said = None
    test_killed_create_is_adopted_under_a_new_nonce = None
    test_object_that_is_gone_is_deleted_without_complaint = None
    test_delete_with_an_old_nonce_touches_nothing = None
    test_cancelled_create_can_be_destroyed = None
    test_secrets_are_nowhere_in_clear = None

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Backend:
        (tmp_path / "cloud").mkdir()
        return GangBackend(tmp_path / "cloud")

    @pytest.fixture
    def driver(self, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
        project = Project(tmp_path / "project")
        monkeypatch.setenv("AIFACTORY_HOME", project.env["AIFACTORY_HOME"])
        return RealDriver(backend, project)
