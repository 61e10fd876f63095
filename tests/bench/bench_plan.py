"""How long planning takes: `python tests/bench/bench_plan.py`. Real: spec, catalogue, plan. Prints JSON lines.

Bars (docs/performance.md): 1,024 nodes in ≤ 1 s, 100 regions in ≤ 5 s, on two cores. A bench and not a test:
its numbers depend on what else the machine does.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from aifactory.plan import build, render
from aifactory.region.spec import Region

from tests.unit.plan import regions


def wide(nodes: int) -> Region:
    """One region: `nodes` GPU nodes, a copy of a service on each."""
    services = [{"name": "a", "model": "apertus-70b", "pool": "train", "replicas": nodes}]
    return regions.cloud("p6-b200.48xlarge", nodes, services)


def best_of(runs: int, work: Callable[[], object]) -> float:
    """The shortest of some runs, in seconds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    build.plan(wide(1))  # the catalogue is read once a process
    large, hundred = wide(1024), [wide(16) for _ in range(100)]
    plan = build.plan(large)
    measures = {
        "plan_1024_nodes_s": (best_of(3, lambda: build.plan(large)), 1.0),
        "table_explain_1024_nodes_s": (best_of(3, lambda: render.table(plan, explain=True)), 1.0),
        "json_1024_nodes_s": (best_of(3, lambda: json.dumps(render.to_dict(plan))), 1.0),
        "plan_100_regions_s": (best_of(3, lambda: [build.plan(spec) for spec in hundred]), 5.0),
    }
    for name, (seconds, bar) in measures.items():
        print(json.dumps({"measure": name, "seconds": round(seconds, 4), "bar": bar, "ok": seconds <= bar}))


if __name__ == "__main__":
    main()
