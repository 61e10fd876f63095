"""How the whole suite runs on two workers: what makes containers shares one of them, one test after the other."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(item.get_closest_marker(name) for name in ("containers", "e2e")):
            item.add_marker(pytest.mark.xdist_group("containers"))
