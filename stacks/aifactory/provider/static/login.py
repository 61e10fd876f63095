"""Whether a host can be logged into, with its host key checked, and what stands in the way where it cannot.

One `ssh` process a try, with the same generated configuration that Ansible uses later (hosts/ssh.py).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aifactory.hosts import ssh
from aifactory.hosts.fleet import FleetHost
from aifactory.hosts.play import SshAccess
from aifactory.hosts.private_dir import private_dir

Obstacle = Literal["unreachable", "host_key", "login", "python", "sudo"]

_SCRIPT = (
    "echo aifactory-in; "
    "command -v python3 >/dev/null 2>&1 || echo aifactory-no-python; "
    '[ "$(id -u)" = 0 ] || sudo -n true >/dev/null 2>&1 || echo aifactory-no-sudo'
)
_WRONG_KEY = re.compile(r"host key verification failed|host identification has changed|no matching host key type", re.I)
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


@dataclass(frozen=True)
class Refusal:
    """Why a host is not ready. `reason` begins with a word that people and scripts can look for."""

    obstacle: Obstacle
    reason: str


class Logins:
    """Tries logins on the hosts it was opened for. Many threads may use one."""

    def __init__(self, config: Path, access: SshAccess) -> None:
        self._config, self._access = config, access
        self.has_key = access.private_key is not None or access.private_key_path is not None

    def refusal(self, host: FleetHost, timeout_s: float) -> Refusal | None:
        """None when the login works and finds Python and sudo. Blocks for `timeout_s` at most."""
        connect_s = str(max(1, min(ssh.CONNECT_TIMEOUT_S, int(timeout_s))))
        argv = ["ssh", "-F", str(self._config), "-o", f"ConnectTimeout={connect_s}", host.name, _SCRIPT]
        try:
            done = subprocess.run(
                argv,
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Refusal("unreachable", f"unreachable: {_where(host)} did not answer within {timeout_s:.0f} s")
        if "aifactory-in" in done.stdout:
            return _missing(host, done.stdout)
        return self._why(host, done.stderr)

    def _why(self, host: FleetHost, stderr: str) -> Refusal:
        last = _last_line(stderr)
        if "bastion_known_hosts" in stderr or "bastion_config" in stderr:
            return Refusal(
                "host_key",
                f"wrong host key: bastion {self._access.bastion}: {_keys(self._access.bastion_host_key or '', stderr)}",
            )
        if _WRONG_KEY.search(stderr):
            return Refusal("host_key", f"wrong host key: {_where(host)}: {_keys(host.host_key, stderr)}")
        if re.search(r"permission denied|too many authentication failures", stderr, re.IGNORECASE):
            return Refusal("login", f"login refused: {_where(host)} does not let {host.user} in with this key: {last}")
        return Refusal("unreachable", f"unreachable: {_where(host)}: {last or 'no answer'}")


@contextlib.contextmanager
def opened(hosts: Iterable[FleetHost], access: SshAccess) -> Iterator[Logins]:
    """Keys and configuration stand in a private folder meanwhile. Raises ProblemError for odd addresses."""
    with private_dir() as folder:
        yield Logins(ssh.write(folder, hosts, access), access)


def fingerprint(host_key: str) -> str:
    """`SHA256:…` of a public key line, as ssh-keygen -l shows it; the line itself where it is not base64."""
    try:
        blob = base64.b64decode(host_key.split()[1], validate=True)
    except (IndexError, binascii.Error):
        return host_key
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _missing(host: FleetHost, stdout: str) -> Refusal | None:
    if "aifactory-no-python" in stdout:
        return Refusal("python", f"no python3: {_where(host)} has no python3 on PATH; install it")
    if "aifactory-no-sudo" in stdout:
        return Refusal("sudo", f"no sudo: {host.user} on {_where(host)} may not use sudo without a password")
    return None


def _keys(expected: str, stderr: str) -> str:
    seen = _FINGERPRINT.search(stderr)
    other = (
        seen[0]
        if seen
        else f"a key of another type ({_last_line(stderr.replace('Host key verification failed.', ''))})"
    )
    return f"expected {fingerprint(expected)}, seen {other}; nothing was sent"


def _where(host: FleetHost) -> str:
    return f"{host.name} ({host.address} port {host.port})"


def _last_line(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip() and not line.startswith("@")]
    return lines[-1] if lines else ""
