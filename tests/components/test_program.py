"""The whole program under the real engine, in previews: nothing is made. Real: engine, plugin, program, region files.

`AIFACTORY_TEST_ENGINE` may name a folder with the engine; else the toolchain's is taken.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aifactory import paths, toolchain
from aifactory.provider import tokens

pytestmark = pytest.mark.engine

PROJECT = """
name: aifactory
main: stacks
stackConfigDir: regions
runtime: {name: python, options: {virtualenv: VENV}}
plugins:
  providers:
    - {name: aifactory, path: VENV/bin}
"""
REGION = """
version: 1
name: t-program
jurisdiction: {country: DE}
provider: {kind: local}
network: {cidr: 10.77.34.0/24}
front_door: {port: 18734}
pools:
  - {name: serve, shape: local-cpu, nodes: 2}
services:
  - {name: chat, model: golden-tiny, pool: serve, replicas: 2}
"""

CLOUD = """
version: 1
name: t-program
jurisdiction: {country: DE}
provider:
  kind: aws
  partition: aws-eusc
  region: eusc-de-east-1
  account: "123456789012"
  zones: [eusc-de-east-1a]
  credentials: {env_prefix: NOBODY_HAS_SET_}
  ssh: {source: [10.30.0.0/24]}
network: {flow_logs: artifacts}
pools:
  - {name: serve, shape: c7i.large, nodes: 2, image: ami-0123456789abcdef0, placement: cluster}
storage:
  - {name: scratch, kind: lustre, capacity_gib: 1200, bucket: artifacts}
  - {name: artifacts, kind: object}
services:
  - {name: chat, model: golden-tiny, pool: serve, replicas: 2}
"""


@dataclass(frozen=True)
class Project:
    """A Pulumi project whose program is the toolkit's, with regions of its own."""

    folder: Path
    environment: dict[str, str]

    def pulumi(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["pulumi", "--non-interactive", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def write(self, text: str) -> None:
        (self.folder / "regions" / "t-program.yaml").write_text(text, encoding="utf-8")

    def preview(self) -> tuple[int, list[dict[str, Any]]]:
        """Exit code and events of a preview."""
        done = self.pulumi("preview", "-s", "t-program", "--json")
        events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        assert events, done.stderr
        return done.returncode, events


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("program")
    bin_dir = os.environ.get("AIFACTORY_TEST_ENGINE") or str(toolchain.resolve().bin_dir)
    (folder / "regions").mkdir()
    (folder / "stacks").symlink_to(paths.REPO / "stacks")
    (folder / "Pulumi.yaml").write_text(PROJECT.replace("VENV", sys.prefix), encoding="utf-8")
    (folder / "passphrase").write_text("test\n", encoding="utf-8")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PULUMI_")}
    environment = {
        **kept,
        "PATH": os.pathsep.join([bin_dir, str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "PULUMI_HOME": str(folder / "pulumi"),
        "PULUMI_BACKEND_URL": f"file://{folder}",
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(folder / "passphrase"),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
        "PULUMI_ENABLE_STREAMING_JSON_PREVIEW": "true",
        "AIFACTORY_REGIONS": str(folder / "regions"),
        "AIFACTORY_HOME": str(folder / "home"),
        "AIFACTORY_CACHE": str(folder / "cache"),
    }
    made = Project(folder, environment)
    for arguments in (("stack", "init", "t-program"), ("config", "set", "aifactory:deployment", "deploy-program-1")):
        where = () if arguments[0] == "stack" else ("-s", "t-program")
        done = made.pulumi(*arguments, *where)
        assert done.returncode == 0, done.stderr
    return made


def messages(events: list[dict[str, Any]], severity: str) -> list[str]:
    found = [event["diagnosticEvent"] for event in events if "diagnosticEvent" in event]
    return [d["message"] for d in found if d["severity"] == severity]


def test_preview_local_region_shows_every_resource(project: Project) -> None:
    project.write(REGION)
    code, events = project.preview()
    assert (code, messages(events, "error")) == (0, [])
    steps = Counter(e["resourcePreEvent"]["metadata"]["type"] for e in events if "resourcePreEvent" in e)
    twice = {tokens.LOCAL_NODE_POOL, tokens.HOST_CONFIGURATION, tokens.COMPONENT_POOL}
    static = {tokens.STATIC_NODE_POOL}
    cloud = {value for name, value in vars(tokens).items() if name.startswith(("AWS_", "COMPONENT_AWS"))}
    every = {value for name, value in vars(tokens).items() if name.isupper()} - static - cloud
    assert {t: n for t, n in steps.items() if t.startswith("aifactory:")} == {t: 2 if t in twice else 1 for t in every}


def test_preview_cloud_region_shows_every_resource_and_asks_nobody(project: Project) -> None:
    """Before the first `up` there is nothing to ask about: the keys that the file names need not be there yet."""
    project.write(CLOUD)
    code, events = project.preview()
    assert (code, messages(events, "error")) == (0, [])
    steps = Counter(e["resourcePreEvent"]["metadata"]["type"] for e in events if "resourcePreEvent" in e)
    pooled = (tokens.AWS_NODE_POOL, tokens.AWS_LAUNCH_TEMPLATE, tokens.HOST_CONFIGURATION, tokens.COMPONENT_POOL)
    twice = {*pooled, tokens.HOST_KEYS}
    elsewhere = {v for name, v in vars(tokens).items() if name.startswith(("LOCAL_", "STATIC_"))}
    every = {value for name, value in vars(tokens).items() if name.isupper()} - elsewhere
    assert {t: n for t, n in steps.items() if t.startswith("aifactory:")} == {t: 2 if t in twice else 1 for t in every}


def test_preview_wrong_file_tells_every_problem_and_registers_nothing(project: Project) -> None:
    project.write(REGION.replace("local-cpu", "local-cpv").replace("golden-tiny", "golden-tinny"))
    code, events = project.preview()
    assert code != 0
    (text,) = messages(events, "error")
    assert "Traceback" not in text
    assert "local-cpu" in text
    assert "golden-tiny" in text
    made = [e["resourcePreEvent"]["metadata"]["type"] for e in events if "resourcePreEvent" in e]
    assert set(made) <= {"pulumi:pulumi:Stack"}


def test_preview_region_that_this_version_cannot_bring_up_says_so(project: Project) -> None:
    project.write(REGION.replace("model: golden-tiny", "model: apertus-8b, engine: llama-cpp"))
    code, events = project.preview()
    assert code != 0
    (text,) = messages(events, "error")
    assert "services[0]" in text
