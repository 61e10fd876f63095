"""OpenSSH configuration made from the fleet: host keys always checked, nothing of the user's own settings.

Ansible and `remote.execute` read the same generated file, so both reach a host the same way or not at all.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable
from pathlib import Path

from aifactory.errors import Exit, Problem, ProblemError

from .fleet import FleetHost
from .play import SshAccess

CONNECT_TIMEOUT_S = 10

_HOST_KEY_RE = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-[a-z0-9@.-]+) [A-Za-z0-9+/]+={0,3}")
_USER_RE = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
_DNS_RE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_BASTION_RE = re.compile(r"(?:(?P<user>[^@\s]+)@)?(?P<host>\[[0-9a-fA-F:.]+\]|[^:@\s]+)(?::(?P<port>\d{1,5}))?")

_OPTIONS = f"""\
  BatchMode yes
  StrictHostKeyChecking yes
  GlobalKnownHostsFile /dev/null
  UpdateHostKeys no
  CheckHostIP no
  PreferredAuthentications publickey
  ConnectTimeout {CONNECT_TIMEOUT_S}
  ServerAliveInterval 10
  ServerAliveCountMax 3
  ForwardAgent no
  ForwardX11 no
  RequestTTY no
  LogLevel ERROR
"""


def write(folder: Path, hosts: Iterable[FleetHost], ssh: SshAccess) -> Path:
    """Writes key, known_hosts and ssh_config into `folder` (which is 0700) and returns the config's path.

    Raises ProblemError when an address, user or host key could be read as anything else by ssh.
    """
    hosts = tuple(hosts)
    _refuse_odd(hosts, ssh)
    known = folder / "known_hosts"
    known.write_text("".join(known_hosts_line(h.address, h.port, h.host_key) for h in hosts))
    identity = _identity(folder, ssh)
    hop = _hop(folder, ssh, identity) if ssh.bastion else ""
    blocks = [f"Host {h.name}\n  HostName {h.address}\n  Port {h.port}\n  User {h.user}\n" for h in hosts]
    blocks.append(f"Host *\n  UserKnownHostsFile {_quote(known)}\n{identity}{_OPTIONS}{hop}")
    config = folder / "ssh_config"
    config.write_text("\n".join(blocks))
    return config


def known_hosts_line(address: str, port: int, host_key: str) -> str:
    """`[addr]:port type base64`, or plain `addr` for port 22, as OpenSSH looks it up."""
    name = address if port == 22 else f"[{address}]:{port}"
    return f"{name} {host_key}\n"


def bastion_parts(bastion: str) -> tuple[str | None, str, int]:
    """(user, host, port) of `[user@]host[:port]`; ValueError when it is something else."""
    match = _BASTION_RE.fullmatch(bastion)
    if not match:
        raise ValueError(f"{bastion} is not [user@]host[:port]")
    return match["user"], match["host"].strip("[]"), int(match["port"] or 22)


def _hop(folder: Path, ssh: SshAccess, identity: str) -> str:
    """Writes the configuration of the jump host, with a known_hosts of its own; returns the ProxyCommand line."""
    user, host, port = bastion_parts(ssh.bastion or "")
    known = folder / "bastion_known_hosts"
    known.write_text(known_hosts_line(host, port, ssh.bastion_host_key or ""))
    config = folder / "bastion_config"
    login = f"  User {user}\n" if user else ""
    if ssh.asks_agent:
        identity = "".join(line for line in identity.splitlines(keepends=True) if line.startswith("  IdentityFile "))
    config.write_text(
        f"Host bastion\n  HostName {host}\n  Port {port}\n{login}"
        f"  UserKnownHostsFile {_quote(known)}\n{identity}{_OPTIONS}"
    )
    return f'  ProxyCommand ssh -F {_quote(config)} -W "[%h]:%p" bastion\n'


def _identity(folder: Path, ssh: SshAccess) -> str:
    """The lines that name the key; without one the agent named by SSH_AUTH_SOCK is the only source."""
    if ssh.private_key is not None:
        path = folder / "identity"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(ssh.private_key.rstrip("\n") + "\n")
    elif ssh.private_key_path is not None:
        path = Path(ssh.private_key_path).expanduser()
        if not path.is_file():
            problem = Problem("SSH-003", f"SSH key {path} does not exist.", fix="set provider.ssh.private_key")
            raise ProblemError([problem], Exit.PREFLIGHT)
    else:
        return "  IdentityFile none\n"
    return f"  IdentityFile {_quote(path)}\n  IdentitiesOnly yes\n  IdentityAgent none\n"


def _quote(path: Path) -> str:
    return '"' + str(path).replace("%", "%%") + '"'


def _refuse_odd(hosts: tuple[FleetHost, ...], ssh: SshAccess) -> None:
    """A value with a blank, a newline or a leading dash would become another ssh option."""
    problems = []
    for host in hosts:
        if not _is_address(host.address):
            problems.append(Problem("SSH-001", f"{host.name}: address is neither an IP address nor a DNS name."))
        if not _USER_RE.fullmatch(host.user):
            problems.append(Problem("SSH-001", f"{host.name}: user is not a login name."))
        if not _HOST_KEY_RE.fullmatch(host.host_key):
            problems.append(Problem("SSH-002", f"{host.name}: host_key is not `type base64` of an SSH public key."))
    if ssh.bastion:
        try:
            user, address, _ = bastion_parts(ssh.bastion)
        except ValueError:
            user, address = None, ""
        if not _is_address(address) or (user and not _USER_RE.fullmatch(user)):
            problems.append(Problem("SSH-001", "bastion is not [user@]host[:port]."))
        if not _HOST_KEY_RE.fullmatch(ssh.bastion_host_key or ""):
            problems.append(
                Problem(
                    "SSH-002",
                    f"The host key of bastion {ssh.bastion} is not known.",
                    fix="set provider.ssh.bastion_host_key to the line that `ssh-keygen -y` or the console shows",
                )
            )
    if problems:
        raise ProblemError(problems, Exit.BAD_INPUT)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return bool(_DNS_RE.fullmatch(text))
    return True
