"""The command itself on a region file of the emulated cloud: for faults that are met before the engine starts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from aifactory import paths

from tests.emulator import ACCOUNT, ENV_PREFIX, IMAGE, SERVICES, Emulator, credentials
from tests.faults.region import CLOUD_REGION, SHAPE, ZONE

NAME = "faulty"
CLI = Path(sys.executable).parent / "aifactory"


@dataclass
class Said:
    exit: int
    text: str
    seconds: float


@dataclass
class Command:
    """A region of `nodes` p6-b200 nodes in a file of its own; `env` is added to the command's environment."""

    folder: Path
    emulator: Emulator
    nodes: int = 16
    image: str = IMAGE
    more: str = ""
    env: dict[str, str] = field(default_factory=dict)

    def write(self) -> Path:
        regions = self.folder / "regions"
        regions.mkdir(parents=True, exist_ok=True)
        endpoints = ", ".join(f'{service}: "{self.emulator.url}"' for service in SERVICES)
        path = regions / f"{NAME}.yaml"
        path.write_text(
            f"version: 1\nname: {NAME}\njurisdiction: {{country: DE}}\n"
            f"provider:\n  kind: aws\n  partition: aws-eusc\n  region: {CLOUD_REGION}\n"
            f'  account: "{ACCOUNT}"\n  zones: [{ZONE}]\n  credentials: {{env_prefix: {ENV_PREFIX}}}\n'
            f"  endpoints: {{{endpoints}}}\n  ssh: {{source: [10.30.0.0/24]}}\n"
            'network: {cidr: 10.20.0.0/16, egress: ["192.0.2.10:443"]}\nfabric: {kind: efa}\n'
            f"pools:\n  - {{name: train, shape: {SHAPE}, nodes: {self.nodes}, zone: {ZONE}, image: {self.image},"
            f" placement: cluster, root_volume_gib: 200, data_volume_gib: 500}}\n{self.more}"
        )
        return path

    def run(self, *arguments: str, timeout_s: float = 120.0) -> Said:
        self.write()
        env = {
            **os.environ, **credentials(), "AIFACTORY_HOME": str(self.folder / "home"),
            "AIFACTORY_REGIONS": str(self.folder / "regions"), "NO_COLOR": "1", **self.env,
        }  # fmt: skip
        begun = time.monotonic()
        done = subprocess.run(
            [str(CLI), *arguments],
            cwd=paths.REPO,
            env=env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Said(done.returncode, done.stdout + done.stderr, time.monotonic() - begun)
