"""A project in a temporary folder with a provider of one resource: the real engine, quick things to make.

Real here: the Pulumi engine, its language host, the file backend, signals and kills. The provider is
tests/engine/tiny, whose resources are JSON files in a folder. Needs the built engine: `make setup`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aifactory.engine import Stack
from aifactory.region.spec import Region
from aifactory.toolchain.processes import look

HERE = Path(__file__).parent
NAME = "t-engine"


def spec(name: str = NAME) -> Region:
    document = {
        "version": 1,
        "name": name,
        "jurisdiction": {"country": "DE"},
        "provider": {"kind": "local"},
        "pools": [{"name": "a", "shape": "local-cpu", "nodes": 1}],
    }
    return Region.model_validate_json(json.dumps(document))


@dataclass
class Project:
    """The project of one test, and the processes that it started."""

    root: Path
    things: Path
    regions: Path
    home: Path
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def stack(self) -> Stack:
        return Stack(spec(), project=self.root)

    def want(self, things: dict[str, dict[str, Any]], **more: Any) -> None:
        """Writes the region's file: the things there shall be, with their seconds, failures and so on."""
        full = {name: {"folder": str(self.things), **props} for name, props in things.items()}
        (self.regions / f"{NAME}.yaml").write_text(json.dumps({"things": full, **more}), encoding="utf-8")

    def made(self) -> dict[str, dict[str, Any]]:
        return {p.stem: json.loads(p.read_text() or "{}") for p in self.things.glob("*.json")}

    def start(self, operation: str) -> subprocess.Popen[str]:
        """The operation in a process of its own, as `aifactory` would be; its answer is one JSON line on stdout."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.engine.drive", str(self.root), NAME, operation],
            cwd=HERE.parents[1],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def engine_pid(self) -> int:
        return int(json.loads((self.home / "runs" / f"{NAME}.json").read_text())["engine_pid"])

    def engine_lives(self, pid: int) -> bool:
        process = look(pid)
        return process is not None and process.is_engine()


def wait_for(what: Callable[[], bool], limit_s: float = 30.0) -> None:
    until = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=90)
    assert out, err
    return dict(json.loads(out.splitlines()[-1]))
