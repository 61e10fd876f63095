"""Running tools. Real: processes."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from aifactory.serving import process


def test_run_returns_code_and_lines_as_they_come() -> None:
    seen: list[str] = []
    code = process.run(
        [sys.executable, "-c", "import sys; print('a\\nb', file=sys.stderr); sys.exit(3)"],
        check=lambda: None,
        line=seen.append,
    )
    assert code == (3, ["a", "b"])
    assert seen == ["a", "b"]


def test_run_stopped_ends_the_whole_group(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def stop() -> None:
        if pids.exists() and len(pids.read_text().split()) == 2:
            raise KeyboardInterrupt

    script = f"sleep 60 & echo $$ $! > {pids}; wait"
    with pytest.raises(KeyboardInterrupt):
        process.run(["sh", "-c", script], check=stop)
    deadline = time.monotonic() + 5
    while any(_runs(pid) for pid in pids.read_text().split()):
        assert time.monotonic() < deadline


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] not in "ZX"
    except FileNotFoundError:
        return False
