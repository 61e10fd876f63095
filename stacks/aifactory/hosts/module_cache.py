"""Where the archives in which Ansible's modules travel are kept from run to run: 0.1 s of work a module, each run.

The archives hold code of this checkout and of ansible-core, no variables. Ansible reads them as pickles, so the folder
is used only while it belongs to this user and nobody else can write it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import time
from pathlib import Path

from aifactory import paths

from . import digest

KEPT_S = 7 * 86400.0
"""A folder of other content that no run has used for so long is removed."""


def folder() -> Path | None:
    """The folder for today's modules, made where it is missing; None where the cache cannot be used."""
    base = paths.cache() / "modules"
    mine = base / f"{digest.modules()[:16]}-{platform.python_version()}"
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        mine.mkdir(mode=0o700, exist_ok=True)
        if not (_is_private(base) and _is_private(mine)):
            return None
        os.utime(mine)
        _forget(base, mine)
    except OSError:
        return None
    return mine


def _is_private(path: Path) -> bool:
    state = path.lstat()
    return not path.is_symlink() and state.st_uid == os.getuid() and not state.st_mode & 0o022


def _forget(base: Path, mine: Path) -> None:
    for other in base.iterdir():
        with contextlib.suppress(OSError):
            if other != mine and time.time() - other.stat().st_mtime > KEPT_S:
                shutil.rmtree(other, ignore_errors=True)
