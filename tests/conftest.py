"""How the whole suite runs on two workers: what makes containers shares one of them, one test after the other.

pytest-xdist's own groups (`--dist loadgroup`) do nothing with this pytest: it rewrites a node id that is no
longer read. So the scheduler is told here: a file that makes containers belongs to the one group, any other
file stays together.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from aifactory import paths

if TYPE_CHECKING:
    import pytest
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

_MARKED = re.compile(r"\bmark\.(containers|e2e)\b")


@functools.cache
def makes_containers(file: str) -> bool:
    """True when the test file (relative to the checkout) has a test marked `containers` or `e2e`."""
    return _MARKED.search((paths.REPO / file).read_text(encoding="utf-8")) is not None


def group(nodeid: str) -> str:
    file = nodeid.split("::", 1)[0]
    return "containers" if makes_containers(file) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    from xdist.scheduler import LoadScopeScheduling

    class OneWorkerForContainers(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    return OneWorkerForContainers(config, log)
