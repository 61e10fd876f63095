"""Whether a node answers: its SSH banner, then a login with its host key checked. Of all providers that make nodes."""

from __future__ import annotations

import socket

from aifactory.hosts.fleet import FleetHost
from aifactory.provider.static.login import Logins, Refusal

LOGIN_PAUSES_S = (1.0, 3.0, 5.0)
"""Between logins, the last one again and again. sshd 9.8 and later counts 5 s against an address for a failed login
and shuts it out at 15 s (PerSourcePenalties): quicker, and we would lock ourselves and the play out."""
BANNER_TIMEOUT_S = 3.0
LOGIN_TIMEOUT_S = 10.0


def silence(host: FleetHost) -> str:
    """Empty when sshd sends its banner, else why not; far cheaper than an ssh process a try."""
    try:
        with socket.create_connection((host.address, host.port), timeout=BANNER_TIMEOUT_S) as connection:
            return "" if connection.recv(4) == b"SSH-" else "the port is open, but no SSH server answers on it"
    except OSError as error:
        return f"{host.address} port {host.port}: {(error.strerror or str(error)).lower()}"


def refusal(logins: Logins, host: FleetHost, timeout_s: float = LOGIN_TIMEOUT_S) -> Refusal | None:
    """None when `host` lets its user in.

    Without a key of our own a refused login counts as one: the host key was checked before it was refused.
    """
    found = logins.refusal(host, max(1.0, min(LOGIN_TIMEOUT_S, timeout_s)))
    return None if found is not None and found.obstacle == "login" and not logins.has_key else found
