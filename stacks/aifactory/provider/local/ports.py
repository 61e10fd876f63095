"""Ports of this machine's loopback address: free ones for SSH, and who holds a taken one."""

from __future__ import annotations

import contextlib
import hashlib
import socket
from collections.abc import Collection, Iterable
from pathlib import Path

from aifactory.provider.local import labels
from aifactory.provider.local.driver import LOOPBACK
from aifactory.provider.local.engine_output import Container

SSH_FIRST, SSH_COUNT = 20000, 10000
"""SSH ports of nodes: below the range that the kernel hands out by itself, so that a stopped node gets its own back."""

_LISTEN = "0A"


def is_free(port: int, address: str = LOOPBACK) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a connection in TIME_WAIT holds nothing
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def pick(key: str, taken: Collection[int], preferred: int | None = None) -> int:
    """A free port: `preferred` where it can be had, else the first free one from a place that `key` decides."""
    if preferred is not None and preferred not in taken and is_free(preferred):
        return preferred
    start = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) % SSH_COUNT
    for step in range(SSH_COUNT):
        port = SSH_FIRST + (start + step) % SSH_COUNT
        if port not in taken and is_free(port):
            return port
    raise OSError(f"no free port between {SSH_FIRST} and {SSH_FIRST + SSH_COUNT - 1}")


def holder(port: int, containers: Iterable[Container]) -> str:
    """Who holds a port, as far as it can be told."""
    for container in containers:
        if any(outside == port for outside, _ in container.ports):
            return f"container {container.name} of {labels.holder(container.labels)}"
    found = _process(port)
    return f"{found[1]} (process {found[0]})" if found else "another program"


def _process(port: int) -> tuple[int, str] | None:
    """(pid, name) of the process that listens on a port; None where /proc does not tell this user."""
    sockets = {f"socket:[{inode}]" for inode in _listeners(port)}
    if not sockets:
        return None
    for folder in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            for file in folder.iterdir():
                with contextlib.suppress(OSError):
                    if str(file.readlink()) in sockets:
                        name = (folder.parent / "comm").read_text(encoding="utf-8", errors="replace").strip()
                        return int(folder.parent.name), name
    return None


def _listeners(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(fields[9])
    return found
