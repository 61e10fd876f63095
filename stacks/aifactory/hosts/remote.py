"""One SSH command on one host, and the marker files of many: what needs no Ansible."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import ssh as ssh_config
from .fleet import FleetHost
from .play import SshAccess
from .private_dir import private_dir

MARKERS = "/var/lib/aifactory"
"""Folder on a host; roles/marker writes one file there for each kind of run."""

AT_ONCE = 32
UNREACHABLE = 255
"""Exit status of ssh itself; `TIMED_OUT` when the command did not end in time."""
TIMED_OUT = 124


def execute(
    host: FleetHost, ssh: SshAccess, argv: Sequence[str], *, timeout_s: float, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `argv` on the host and returns code, stdout, stderr; the host key is checked.

    Return code 255: SSH failed (stderr says why), 124: not through within `timeout_s`. Blocks; ends the local
    ssh when the time is over, the remote command sees its connection closed.
    """
    with private_dir() as folder:
        config = ssh_config.write(folder, (host,), ssh)
        return _ssh(config, host, ssh, argv, timeout_s=timeout_s, stdin=stdin)


@contextmanager
def session(host: FleetHost, ssh: SshAccess) -> Iterator[list[str]]:
    """argv of an interactive ssh to the host, host key checked; append a command or nothing. Good inside the block.

    A shell gets a terminal, a command none, as with plain ssh.
    """
    with private_dir() as folder:
        yield ["ssh", "-F", str(ssh_config.write(folder, (host,), ssh)), "-o", "RequestTTY=auto", host.name]


def read_markers(
    hosts: Sequence[FleetHost], ssh: SshAccess, marker: str, *, timeout_s: float = 20
) -> dict[str, dict[str, Any] | None]:
    """Marker of each host that answered, None where it has none; hosts that did not answer are left out."""
    if not hosts:
        return {}
    argv = ("cat", f"{MARKERS}/{marker}.json")
    with private_dir() as folder:
        config = ssh_config.write(folder, hosts, ssh)
        with ThreadPoolExecutor(min(len(hosts), AT_ONCE)) as pool:
            answers = list(pool.map(lambda h: _ssh(config, h, ssh, argv, timeout_s=timeout_s), hosts))
    return {
        host.name: _parsed(answer.stdout) if answer.returncode == 0 else None
        for host, answer in zip(hosts, answers, strict=True)
        if answer.returncode not in (UNREACHABLE, TIMED_OUT)
    }


def _ssh(
    config: Path, host: FleetHost, ssh: SshAccess, argv: Sequence[str], *, timeout_s: float, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    command = ["ssh", "-F", str(config), "-T", host.name, "--", shlex.join(argv)]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
    if ssh.asks_agent and "SSH_AUTH_SOCK" in os.environ:
        environment["SSH_AUTH_SOCK"] = os.environ["SSH_AUTH_SOCK"]
    try:
        return subprocess.run(
            command, input=stdin or "", capture_output=True, text=True, errors="replace",
            timeout=timeout_s, env=environment, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as expired:
        partial = expired.stdout.decode(errors="replace") if isinstance(expired.stdout, bytes) else expired.stdout or ""
        return subprocess.CompletedProcess(command, TIMED_OUT, partial, f"not through within {timeout_s:.0f} s")


def _parsed(text: str) -> dict[str, Any] | None:
    """A marker that cannot be read counts as none: the host is configured again."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
