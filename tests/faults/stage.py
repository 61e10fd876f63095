"""A project of its own: the toolkit's Stack, the real engine and plugin, the region's resources as its program."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aifactory import paths
from aifactory.provider.server import descendants
from aifactory.toolchain.processes import look

from tests.emulator import Emulator, credentials
from tests.faults.region import REGION

HERE = Path(__file__).parent
PROJECT = """name: faulty
main: stacks
stackConfigDir: regions
runtime:
  name: python
  options:
    virtualenv: {virtualenv}
plugins:
  providers:
    - name: aifactory
      path: bin
"""
PLUGIN = """#!{python}
import sys
sys.path[:0] = {path!r}
from aifactory.provider.server import serve
from tests.faults.plugin import registry
serve(registry(), sys.argv[1:])
"""


@dataclass
class Answer:
    """How an operation ended. `text` is all it had to say."""

    exit: int
    seconds: float
    text: str = ""
    notes: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    changes: dict[str, int] = field(default_factory=dict)
    """Number of resources by what was done to them: create, update, same …"""

    @property
    def writes(self) -> int:
        return sum(count for op, count in self.changes.items() if op not in ("same", "read"))

    @property
    def brief(self) -> str:
        """A line of the text, without the folders of this run."""
        return re.sub(r"/\S*/(?=\S)", "…/", " ".join(self.text.split()))[:160]

    def ok(self) -> Answer:
        assert self.exit == 0, self.text
        return self


class Stage:
    def __init__(self, folder: Path, emulator: Emulator, name: str = REGION) -> None:
        self.folder, self.emulator, self.name = folder, emulator, name
        self.project, self.home, self.regions = folder / "project", folder / "home", folder / "regions"
        self.running: list[subprocess.Popen[str]] = []
        self.env_more: dict[str, str] = {}
        for each in (self.project / "stacks", self.project / "bin", self.home, self.regions):
            each.mkdir(parents=True)
        shutil.copy(HERE / "program.py", self.project / "stacks" / "__main__.py")
        path = [str(paths.REPO), str(paths.REPO / "stacks")]
        plugin = self.project / "bin" / "pulumi-resource-aifactory"
        plugin.write_text(PLUGIN.format(python=sys.executable, path=path))
        plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
        text = PROJECT.format(virtualenv=Path(sys.executable).parents[1])
        (self.project / "Pulumi.yaml").write_text(text)

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(paths.REPO), str(paths.REPO / "stacks")])
        return {
            **os.environ, **credentials(), "AIFACTORY_HOME": str(self.home), "AIFACTORY_REGIONS": str(self.regions),
            "PYTHONPATH": path, **self.env_more,
        }  # fmt: skip

    def want(self, resources: list[dict[str, Any]]) -> None:
        (self.regions / f"{self.name}.yaml").write_text(json.dumps({"resources": resources}))

    # -- running

    def start(self, operation: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.drive", str(self.project), self.name, operation],
            cwd=paths.REPO, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        self.running.append(process)
        return process

    def run(self, operation: str, timeout_s: float = 240.0) -> Answer:
        return self.end(self.start(operation), time.monotonic(), timeout_s)

    def up(self, timeout_s: float = 240.0) -> Answer:
        return self.run("up", timeout_s)

    def destroy(self, timeout_s: float = 240.0) -> Answer:
        return self.run("destroy", timeout_s)

    def end(self, process: subprocess.Popen[str], begun: float, timeout_s: float = 240.0) -> Answer:
        out, err = process.communicate(timeout=timeout_s)
        seconds = time.monotonic() - begun
        lines = out.splitlines()
        if not lines:
            return Answer(process.returncode, seconds, err[-3000:])
        said = json.loads(lines[-1])
        listed = {name: tuple(said.get(name, ())) for name in ("notes", "rules")}
        return Answer(said["exit"], seconds, said["text"], changes=said.get("changes", {}), **listed)

    def interrupted(self, number: int, when: Callable[[], bool], operation: str = "up") -> tuple[Answer, float]:
        """Signals the toolkit once `when()`; the answer, and the seconds from the signal to the end."""
        process, begun = self.start(operation), time.monotonic()
        wait_for(when, process)
        process.send_signal(number)
        sent = time.monotonic()
        answer = self.end(process, begun)
        return answer, time.monotonic() - sent

    def killed(self, when: Callable[[], bool], operation: str = "up") -> None:
        """kill -9 of the toolkit, the engine, its program and its plugin, all at once, once `when()`."""
        process = self.start(operation)
        wait_for(when, process)
        family = [process.pid, *descendants(process.pid)]
        if (engine := self.engine_pid()) is not None:
            family += [engine, *descendants(engine)]
        for pid in dict.fromkeys(family):
            kill(pid)
        process.communicate()
        wait_for(lambda: engine is None or look(engine) is None)

    def engine_pid(self) -> int | None:
        path = self.home / "runs" / f"{self.name}.json"
        return int(json.loads(path.read_text())["engine_pid"]) if path.exists() else None

    def stop(self) -> None:
        for process in self.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    # -- what it has written

    def state(self) -> dict[str, Any]:
        """The engine's state: `resources`, `pending_operations`. Secrets in it are ciphertext."""
        text = self.run("snapshot").ok().text
        found: dict[str, Any] = json.loads(text).get("deployment") or {} if text else {}
        return found

    def journals(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.home.glob(f"journals/{self.name}/*.json"))]

    def lock_files(self) -> list[Path]:
        return [path for path in (self.home / "state" / ".pulumi" / "locks").rglob("*.json") if path.is_file()]


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def wait_for(when: Callable[[], bool], process: subprocess.Popen[str] | None = None, limit_s: float = 90.0) -> None:
    until = time.monotonic() + limit_s
    while not when():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended too early: {process.communicate()}")
        assert time.monotonic() < until, "what was waited for did not come"
        time.sleep(0.02)
