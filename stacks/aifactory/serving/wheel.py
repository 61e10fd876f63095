"""The engine's wheel: fetched on the controller by hash, so that nodes need no package index."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from aifactory.errors import Exit, fail

from . import process

# The tag of the oldest C library the wheels run on, as pip writes it.
_PLATFORMS = {"amd64": "manylinux2014_x86_64", "arm64": "manylinux2014_aarch64"}
_PYTHON = "3.11"  # the wheels are abi3: they run on this and every later one


def fetch(requirements: Path, architecture: str, folder: Path, check: Callable[[], None]) -> Path:
    """The wheel that the lock file pins, in `folder`; its hash is checked by pip on every call."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
    ]
    command += ["--only-binary", ":all:", "--platform", _PLATFORMS[architecture], "--python-version", _PYTHON]
    command += ["--dest", str(folder), "--requirement", str(requirements)]
    code, lines = process.run(command, check=check)
    if code:
        reason = "\n".join(lines[-4:])
        raise fail(
            "SRV-014",
            f"The inference engine's wheel could not be downloaded:\n{reason}",
            code=Exit.FAILED,
            fix="check the network and pip's configuration (`pip config list`), then run again",
        )
    return next(folder.glob("*.whl"))


def files(wheel: Path) -> dict[str, tuple[bytes, int]]:
    """Path → (content, mode) of everything in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        return {
            entry.filename: (archive.read(entry), 0o755 if entry.filename.endswith(".so") else 0o644)
            for entry in entries
        }
