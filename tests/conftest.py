"""How the whole suite runs on two workers: what makes containers shares one of them, one test after the other."""

from __future__ import annotations

from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)  # round pytest-xdist's own, which reads the groups first of all
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, None, None]:
    for item in items:
        if any(item.get_closest_marker(name) for name in ("containers", "e2e")):
            item.add_marker(pytest.mark.xdist_group("containers"))
    return (yield)
