"""Fixtures of the matrix, and the row that each test leaves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aifactory.provider.aws import clients
from aifactory.toolchain import locate

from tests.emulator import Emulator, emulator, emulator_process
from tests.faults import ledger
from tests.faults.stage import Stage

__all__ = ["emulator", "emulator_process"]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    if isinstance(item, pytest.Function):
        ledger.record(item, outcome.get_result())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What only the whole matrix runs is left out of the suite without a word."""
    out = [item for item in items if any(mark == ledger.whole.mark for mark in item.iter_markers("skipif"))]
    if out and not os.environ.get(ledger.RESULTS):
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in set(out)]


@pytest.fixture
def notes() -> ledger.Notes:
    return ledger.Notes()


@pytest.fixture
def stage(emulator: Emulator, tmp_path: Path) -> Iterator[Stage]:
    if locate.on_path() is None and locate.in_cache() is None:
        pytest.skip("the engine is not built yet: make setup")
    made = Stage(tmp_path, emulator)
    yield made
    made.stop()


@pytest.fixture
def here(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """The emulator for resources that run in this process, with a home and clients of their own."""
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(clients, "_clients", {})
    return emulator
