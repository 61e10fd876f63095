"""A folder that only this run reads: 0700, in memory where the machine has that, gone when the run is over.

It may hold a private key and secrets, so a folder whose owner was killed is removed by the next run.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAME_RE = re.compile(r"run-(\d+)-(\d+)-.+")


@contextmanager
def private_dir() -> Iterator[Path]:
    """A fresh folder; its path stays short because SSH control sockets inside may have 104 characters at most."""
    base = _base()
    _remove_orphans(base)
    pid = os.getpid()
    path = Path(tempfile.mkdtemp(prefix=f"run-{pid}-{_started(pid)}-", dir=base))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _base() -> Path:
    """`aifactory-<uid>` under XDG_RUNTIME_DIR, /dev/shm or the temporary folder, whichever is there first."""
    candidates = [os.environ.get("XDG_RUNTIME_DIR"), "/dev/shm", tempfile.gettempdir()]  # noqa: S108
    root = next(Path(c) for c in candidates if c and os.access(c, os.W_OK | os.X_OK))
    base = root / f"aifactory-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    state = base.lstat()
    if base.is_symlink() or state.st_uid != os.getuid() or state.st_mode & 0o077:
        raise PermissionError(f"{base} is not a folder that only uid {os.getuid()} can read; remove it")
    return base


def _remove_orphans(base: Path) -> None:
    for path in base.iterdir():
        match = _NAME_RE.fullmatch(path.name)
        if match and _started(int(match[1])) != int(match[2]):
            shutil.rmtree(path, ignore_errors=True)


def _started(pid: int) -> int:
    """Start time of a process in clock ticks since boot, 0 when it is gone: tells a process from a later one."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[19])
