"""Where the engine is: on PATH within the locked range, or in the toolkit's cache. Never builds, never downloads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from aifactory import paths
from aifactory.errors import Exit, fail
from aifactory.toolchain import lock

LANGUAGE_HOST = "pulumi-language-python"


@dataclass(frozen=True)
class Toolchain:
    """A usable engine. `bin_dir` goes first on PATH of every engine call."""

    pulumi: Path
    bin_dir: Path
    version: str
    source: str
    """`path` or `cache`."""
    ambient_host: bool = False
    """True: the language host stands elsewhere on PATH, so the engine must be let look there."""


def engine_dir() -> Path:
    """Cache folder of the locked engine; it exists only when it is complete."""
    return paths.cache() / "engine" / lock.load().engine_key


def kubernetes_dir() -> Path:
    return paths.cache() / "engine" / f"kubernetes-{lock.load().kubernetes_key}"


def resolve() -> Toolchain:
    """The engine to use; raises ProblemError (exit 3) with what mends it when there is none."""
    found = on_path() or in_cache()
    if found is None:
        raise fail("TOOL-001", "There is no Pulumi engine yet.", code=Exit.PREFLIGHT, fix="make setup")
    return found


def on_path() -> Toolchain | None:
    """`pulumi` on PATH when its version is in the locked range and a language host is there too."""
    command = shutil.which("pulumi")
    if command is None:
        return None
    locked = lock.load()
    version = program_version(command)
    if not locked.at_least <= version < locked.below:
        return None
    pulumi = Path(command)
    beside = [p for p in (pulumi.parent, pulumi.resolve().parent) if os.access(p / LANGUAGE_HOST, os.X_OK)]
    if not beside and shutil.which(LANGUAGE_HOST) is None:
        return None
    return Toolchain(
        pulumi=pulumi,
        bin_dir=beside[0] if beside else pulumi.parent,
        version=lock.version_text(version),
        source="path",
        ambient_host=not beside,
    )


def in_cache() -> Toolchain | None:
    """The engine built earlier from the lock of this checkout."""
    folder = engine_dir()
    try:
        versions = json.loads((folder / "versions.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not all(os.access(folder / "bin" / name, os.X_OK) for name in (*versions["binaries"], *versions["scripts"])):
        return None
    return Toolchain(
        pulumi=folder / "bin" / "pulumi", bin_dir=folder / "bin", version=versions["binaries"]["pulumi"], source="cache"
    )


def program_version(command: str) -> tuple[int, ...]:
    """Version that `pulumi version` prints; empty when it cannot be run."""
    env = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"}
    try:
        done = subprocess.run([command, "version"], capture_output=True, text=True, timeout=20, env=env, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return lock.parse_version(done.stdout) if done.returncode == 0 else ()


def install_kubernetes(pulumi_home: Path) -> Path:
    """Puts the built Kubernetes provider where the engine looks for it; raises ProblemError when it is not built.

    The engine wants the exact version in the folder's name. Safe to repeat.
    """
    binary = kubernetes_dir() / "pulumi-resource-kubernetes"
    version = lock.load().kubernetes.version
    if not binary.exists():
        raise fail(
            "TOOL-002",
            f"This region needs the Kubernetes provider {version}, which is not built yet.",
            code=Exit.PREFLIGHT,
            fix="make setup-kubernetes",
        )
    target = pulumi_home / "plugins" / f"resource-kubernetes-v{version}" / binary.name
    if target.resolve() != binary.resolve():
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_suffix(f".{os.getpid()}")
        fresh.symlink_to(binary)
        fresh.replace(target)
    return target
