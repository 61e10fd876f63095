"""A Pulumi project in a temporary folder, run by the real engine against the real server with test resources.

The program is data (`program.json`): plain CustomResources. `AIFACTORY_TEST_ENGINE` may name a folder with the
engine; else the toolchain's is taken.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aifactory import paths, toolchain
from aifactory.errors import ProblemError
from aifactory.provider.server import descendants
from aifactory.toolchain import Toolchain

PROGRAM = """
import json, os, pulumi, signal
from pathlib import Path

# Without this every failed run takes 5 s more: the SDK waits in a thread for an answer that no longer comes.
signal.signal(signal.SIGINT, lambda number, frame: os._exit(1))
made = {}

def value(v):
    if isinstance(v, dict) and set(v) == {"secret"}:
        return pulumi.Output.secret(v["secret"])
    if isinstance(v, dict) and set(v) == {"from", "output"}:
        return getattr(made[v["from"]], v["output"])
    if isinstance(v, dict):
        return {k: value(i) for k, i in v.items()}
    return [value(i) for i in v] if isinstance(v, list) else v

for r in json.loads(Path("program.json").read_text()):
    props = {**{name: None for name in r["outputs"]}, **{k: value(v) for k, v in r["inputs"].items()}}
    options = pulumi.ResourceOptions(
        depends_on=[made[d] for d in r["depends_on"]],
        custom_timeouts=pulumi.CustomTimeouts(**r["timeouts"]) if r["timeouts"] else None,
        ignore_changes=r["ignore_changes"],
        aliases=[pulumi.Alias(name=a) for a in r["aliases"]],
        import_=r["import"],
    )
    made[r["name"]] = type(r["type"].rpartition(":")[2], (pulumi.CustomResource,), {
        "__init__": lambda self, t, n, p, o: pulumi.CustomResource.__init__(self, t, n, p, o),
        **{name: property(lambda self, name=name: pulumi.get(self, name)) for name in r["outputs"]},
    })(r["type"], r["name"], props, options)
"""

SERVER = """#!{python}
import sys
sys.path[:0] = {path!r}
from aifactory.provider.server import serve
from {module} import registry
serve(registry(), sys.argv[1:])
"""


def engine() -> Toolchain | None:
    """The toolchain's engine; None where `AIFACTORY_TEST_ENGINE` names a folder. Skips where there is none."""
    if os.environ.get("AIFACTORY_TEST_ENGINE"):
        return None
    try:
        return toolchain.resolve()
    except ProblemError as error:
        pytest.skip(f"the engine is not built yet: make setup ({error.problems[0].message})")


def custom(type_: str, name: str, inputs: Mapping[str, Any], outputs: tuple[str, ...] = (), **given: Any) -> Any:
    """One resource of the program."""
    defaults: dict[str, Any] = {
        "depends_on": [],
        "timeouts": None,
        "ignore_changes": None,
        "aliases": [],
        "import": None,
    }
    return {"type": type_, "name": name, "inputs": dict(inputs), "outputs": outputs, **defaults, **given}


@dataclass
class Run:
    code: int
    output: str
    seconds: float


class Project:
    """One project with one stack `it`; `folder` holds everything, the engine's home and state included."""

    def __init__(self, folder: Path, *, module: str = "tests.provider.cloud", deployment: str = "t-deploy") -> None:
        self.folder, self.project = folder, "testing"
        self.env = self._environment()
        (folder / "bin").mkdir(parents=True)
        (folder / "state").mkdir()
        server = folder / "bin" / "pulumi-resource-aifactory"
        path = [str(paths.REPO), str(paths.REPO / "stacks")]
        server.write_text(SERVER.format(python=sys.executable, path=path, module=module))
        server.chmod(server.stat().st_mode | stat.S_IXUSR)
        (folder / "__main__.py").write_text(PROGRAM)
        runtime = {"name": "python", "options": {"virtualenv": sys.prefix}}
        providers = {"providers": [{"name": "aifactory", "path": "bin"}]}
        (folder / "Pulumi.yaml").write_text(
            json.dumps({"name": self.project, "runtime": runtime, "plugins": providers})
        )
        self.configure({"aifactory:deployment": deployment} if deployment else {})
        self.program([])
        self.pulumi("stack", "init", "it").ok()

    def _environment(self) -> dict[str, str]:
        found = engine()
        folder = str(found.bin_dir) if found else os.environ["AIFACTORY_TEST_ENGINE"]
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith("PULUMI_")},
            "PATH": os.pathsep.join([folder, str(Path(sys.prefix) / "bin"), os.environ["PATH"]]),
            "PULUMI_HOME": str(self.folder / "home"),
            "PULUMI_BACKEND_URL": f"file://{self.folder}/state",
            "PULUMI_CONFIG_PASSPHRASE": "",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_IGNORE_AMBIENT_PLUGINS": "false" if found and found.ambient_host else "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "AIFACTORY_HOME": str(self.folder / "aifactory"),
        }

    def configure(self, values: Mapping[str, Any]) -> None:
        """Writes the stack's configuration; the salt that `stack init` adds must stay."""
        path = self.folder / "Pulumi.it.yaml"
        kept = [line for line in path.read_text().splitlines() if "encryptionsalt" in line] if path.exists() else []
        path.write_text("\n".join([*kept, f"config: {json.dumps(dict(values))}", ""]))

    def program(self, resources: list[Any]) -> None:
        (self.folder / "program.json").write_text(json.dumps(resources))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The CLI as a child in its own process group, its output in one pipe."""
        return subprocess.Popen(
            ["pulumi", *arguments, "--non-interactive"],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def pulumi(self, *arguments: str, timeout_s: float = 60) -> Result:
        begun = time.monotonic()
        process = self.start(*arguments)
        return self.end(process, begun, timeout_s)

    def end(self, process: subprocess.Popen[str], begun: float, timeout_s: float = 60) -> Result:
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return Result(process.returncode, output, time.monotonic() - begun)

    def up(self, *more: str) -> Result:
        return self.pulumi("up", "-s", "it", "--yes", "--skip-preview", *more)

    def destroy(self, *more: str) -> Result:
        return self.pulumi("destroy", "-s", "it", "--yes", "--skip-preview", *more)

    def refresh(self, *more: str) -> Result:
        return self.pulumi("refresh", "-s", "it", "--yes", "--skip-preview", *more)

    def preview(self, *more: str) -> Result:
        return self.pulumi("preview", "-s", "it", *more)

    def interrupted(self, number: int, when: Callable[[], bool], *arguments: str) -> Result:
        """Runs the CLI and sends it a signal once `when()` holds."""
        begun = time.monotonic()
        process = self.start(*arguments)
        wait_for(when, process)
        process.send_signal(number)
        return self.end(process, begun)

    def killed(self, when: Callable[[], bool], *arguments: str) -> None:
        """Runs the CLI and kills it once `when()`; our server must follow it. The lock is cleared."""
        process = self.start(*arguments)
        wait_for(when, process)
        orphans = descendants(process.pid)
        process.kill()
        try:
            wait_for(lambda: not self.providers(), timeout_s=4)
        finally:
            for orphan in orphans:  # the language host and the program: they would stay for ever
                with contextlib.suppress(ProcessLookupError):
                    os.kill(orphan, signal.SIGKILL)
        process.communicate()
        self.pulumi("cancel", "-s", "it", "--yes").ok()

    def deployment(self) -> dict[str, Any]:
        """What the state file holds: `resources`, `pending_operations`."""
        path = self.folder / "state" / ".pulumi" / "stacks" / self.project / "it.json"
        found: dict[str, Any] = json.loads(path.read_text())["checkpoint"]["latest"] or {}
        return found

    def resource(self, name: str) -> dict[str, Any] | None:
        resources = self.deployment().get("resources", [])
        found = [r for r in resources if r["urn"].endswith(f"::{name}") and not r.get("delete")]
        return found[0] if found else None

    def clear_text(self, name: str) -> dict[str, Any] | None:
        """The resource of the state with its secrets decrypted."""
        exported = self.pulumi("stack", "export", "-s", "it", "--show-secrets").ok().output
        resources = json.loads(exported)["deployment"].get("resources", [])
        found = [r for r in resources if r["urn"].endswith(f"::{name}") and not r.get("delete")]
        return _decrypted(found[0]) if found else None

    def pending(self) -> list[str]:
        return [o["type"] for o in self.deployment().get("pending_operations") or []]

    def providers(self) -> list[int]:
        """Processes that serve this project."""
        wanted, found = str(self.folder / "bin" / "pulumi-resource-aifactory"), []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if wanted in path.read_text():
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found


def _decrypted(tree: Any) -> Any:
    if isinstance(tree, dict):
        if "plaintext" in tree:
            return json.loads(tree["plaintext"])
        return {key: _decrypted(item) for key, item in tree.items()}
    return [_decrypted(item) for item in tree] if isinstance(tree, list) else tree


class Result(Run):
    def ok(self) -> Result:
        assert self.code == 0, self.output
        return self

    def failed(self, *texts: str) -> Result:
        assert self.code != 0, self.output
        for text in texts:
            assert text in self.output, self.output
        return self


def wait_for(when: Callable[[], bool], process: subprocess.Popen[str] | None = None, timeout_s: float = 20.0) -> None:
    """Polls until `when()`; fails when the process ends first."""
    end = time.monotonic() + timeout_s
    while not when():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended too early:\n{process.communicate()[0]}")
        if time.monotonic() > end:
            raise AssertionError("what was waited for did not come")
        time.sleep(0.01)
