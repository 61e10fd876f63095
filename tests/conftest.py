"""How the whole suite runs on several workers, and what its children inherit."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

LONGEST_FIRST = (
    "tests/roles/test_gpu_nvlink.py", "tests/roles/test_inference.py", "tests/e2e/", "tests/roles/", "tests/engine/",
    "tests/provider/",
)  # fmt: skip
"""Begun first, so that no worker is left alone with them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        starts = [item.nodeid.startswith(folder) for folder in LONGEST_FIRST]
        return starts.index(True) if any(starts) else len(starts)

    items.sort(key=place)


def pytest_configure(config: pytest.Config) -> None:
    # A shell without job control starts what it runs in the background deaf to SIGINT, and children inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    from xdist.scheduler import LoadScopeScheduling

    class Files(LoadScopeScheduling):
        """A file stays on one worker: its tests share what took half a minute to make."""

        def _split_scope(self, nodeid: str) -> str:
            return nodeid.split("::", 1)[0]

    return Files(config, log)
