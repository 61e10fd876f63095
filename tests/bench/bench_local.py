"""`make bench-local`: the numbers of docs/performance.md, measured on this machine with the real `local` region.

Not a test: prints a Markdown table of what was measured beside its bar and exits 0 whatever the figures are.
Real: everything. The region is brought up under its own name and state, and removed at the end.
Cold start (engine built from modules, nothing cached) takes minutes and is measured only with --cold.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
REGION = "bench-local"
REGION_YAML = f"""version: 1
name: {REGION}
jurisdiction: {{country: DE}}
provider: {{kind: local}}
network: {{cidr: 10.87.0.0/24}}
pools:
  - {{name: serve, shape: local-cpu, nodes: 2}}
services:
  - {{name: chat, model: golden-tiny, pool: serve, replicas: 2}}
front_door: {{port: 18443}}
"""


def descendants(root: int) -> set[int]:
    """Process ids below `root`, by parent links in /proc (containers hang off conmon, which is not below us)."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            children.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry.name))
    found: set[int] = set()
    todo = [root]
    while todo:
        pid = todo.pop()
        found.add(pid)
        todo.extend(children.get(pid, ()))
    return found


def memory_mib(pids: set[int]) -> float:
    """Proportional set size of all, MiB: shared pages are counted once over the tree."""
    total = 0
    for pid in pids:
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        except OSError:
            continue
    return total / 1024


class Measured:
    """One finished command: wall seconds, peak memory of its process tree, exit code, output."""

    def __init__(self, argv: list[str], env: dict[str, str], *, memory: bool = False) -> None:
        start = time.monotonic()
        process = subprocess.Popen(argv, env=env, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.peak_mib = 0.0
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(0.2):
                self.peak_mib = max(self.peak_mib, memory_mib(descendants(process.pid)))

        watcher = threading.Thread(target=watch, daemon=True)
        if memory:
            watcher.start()
        self.output, _ = process.communicate()
        stop.set()
        self.seconds = time.monotonic() - start
        self.code = process.returncode
        if self.code not in (0, None):
            print(f"$ {' '.join(argv)}\nexit {self.code}\n{self.output[-3000:]}", file=sys.stderr)


def median(argv: list[str], env: dict[str, str], runs: int = 5) -> float:
    return statistics.median(Measured(argv, env).seconds for _ in range(runs))


def region_files(folder: Path, count: int) -> list[str]:
    names = []
    for i in range(count):
        name = f"bench-{i:03d}"
        text = (
            REGION_YAML.replace(REGION, name).replace("10.87.0.0", f"10.{100 + i}.0.0").replace("18443", str(20000 + i))
        )
        (folder / f"{name}.yaml").write_text(text)
        names.append(str(folder / f"{name}.yaml"))
    return names


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cold", action="store_true", help="also measure a start with an empty cache (minutes)")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="aifactory-bench-"))
    regions = work / "regions"
    regions.mkdir()
    (regions / f"{REGION}.yaml").write_text(REGION_YAML)
    env = {**os.environ, "AIFACTORY_HOME": str(work / "home"), "AIFACTORY_REGIONS": str(regions)}
    cli = str(BIN / "aifactory")
    rows: list[tuple[str, str, str]] = []
    try:
        rows.append(("`--help`", f"{median([cli, '--help'], env):.2f} s", "≤ 0.4 s"))
        rows.append(("`validate`, one region", f"{median([cli, 'validate', REGION], env):.2f} s", "≤ 0.8 s"))
        many = work / "many"
        many.mkdir()
        files = region_files(many, 100)
        rows.append(("`validate`, 100 regions", f"{median([cli, 'validate', *files], env, 3):.2f} s", "≤ 5 s"))
        if options.cold:
            cold_env = {**env, "AIFACTORY_CACHE": str(work / "cache")}
            cold = Measured([cli, "up", REGION, "--yes"], cold_env)
            rows.append(("`up` cold (engine and images built)", f"{cold.seconds:.0f} s", "≤ 9 min (`make up`)"))
            Measured([cli, "destroy", REGION, "--yes"], cold_env)
        up = Measured([cli, "up", REGION, "--yes"], env, memory=True)
        rows.append(("`up` warm (engine and images cached)", f"{up.seconds:.0f} s", "≤ 90 s (`make up`)"))
        rows.append(
            ("peak memory of the process tree during `up`, nodes aside (PSS)", f"{up.peak_mib:.0f} MiB", "≤ 450 MiB")
        )
        rows.append(("unchanged `up`", f"{median([cli, 'up', REGION, '--yes'], env, 3):.1f} s", "≤ 4 s"))
        down = Measured([cli, "destroy", REGION, "--yes"], env)
        rows.append(("`destroy`", f"{down.seconds:.1f} s", "–"))
    finally:
        Measured([cli, "destroy", REGION, "--yes"], env) if (work / "home").exists() else None
        shutil.rmtree(work, ignore_errors=True)
    print(
        f"Machine: {os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}, "
        f"Python {platform.python_version()}\n"
    )
    print("| measure | here | bar |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print("\n" + json.dumps({name: value for name, value, _ in rows}, ensure_ascii=False), file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
