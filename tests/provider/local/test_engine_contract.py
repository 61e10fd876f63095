"""The hardest promises of the contract on a local pool. Real: everything (Pulumi, our plugin process, podman, SSH)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.provider.contract import Backend, Contract, Driver
from tests.provider.local.ground import SHARED_CACHE, Ground
from tests.provider.local.test_contract import PoolBackend
from tests.provider.pulumi_project import Project
from tests.provider.real_driver import RealDriver

pytestmark = [pytest.mark.engine, pytest.mark.containers]


class TestNodePool:
    @pytest.fixture
    def backend(self, ground: Ground) -> Backend:
        return PoolBackend(ground)

    @pytest.fixture
    def driver(self, backend: Backend, ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
        monkeypatch.setenv("AIFACTORY_CACHE", str(SHARED_CACHE))  # the engine is there
        project = Project(tmp_path / "project", module="tests.provider.ours", deployment=ground.deployment)
        monkeypatch.setenv("AIFACTORY_HOME", project.env["AIFACTORY_HOME"])
        return RealDriver(backend, project)

    test_killed_create = Contract.test_killed_create_is_adopted_under_a_new_nonce
    test_cancelled_create = Contract.test_cancelled_create_keeps_what_exists_and_the_next_up_goes_on
