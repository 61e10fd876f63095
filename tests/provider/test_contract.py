"""The contract on the test cloud, in one process. Real: resources, journals, wire. The engine is the harness."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.provider.cloud_backend import GangBackend, NetworkBackend
from tests.provider.contract import Backend, Contract


class TestGang(Contract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> Backend:
        (tmp_path / "cloud").mkdir()
        return GangBackend(tmp_path / "cloud")


class TestNetwork(Contract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> Backend:
        (tmp_path / "cloud").mkdir()
        return NetworkBackend(tmp_path / "cloud")
