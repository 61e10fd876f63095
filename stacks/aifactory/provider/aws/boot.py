"""The first boot of a node: what it is told (cloud-init's user data), and the host key that it shows on its console.

The console is the channel that the cloud vouches for: only the machine itself writes to it, only the account reads it.
cloud-init prints the public host keys there at the end of the first boot, between two lines of its own, after every
other script. Source: cloud-init, config/cc_keys_to_console.py, tools/write-ssh-key-fingerprints, cloud.cfg.tmpl
(cloud_final_modules); read 2026-11-25.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aifactory import paths
from aifactory.provider.resource import Refused

if TYPE_CHECKING:
    from jinja2 import Template

USER_DATA_BYTES = 16 * 1024
"""Before base64. Source: Amazon EC2 User Guide, user data."""
TEMPLATE = "boot/user-data.yaml.j2"
USER_RE = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
PUBLIC_KEY_RE = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+={0,3}( [^\s]+)?")

_KEYS = re.compile(r"-----BEGIN SSH HOST KEY KEYS-----(.*?)-----END SSH HOST KEY KEYS-----", re.DOTALL)
_ED25519 = re.compile(r"\bssh-ed25519 (AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43})(?![A-Za-z0-9+/=])")


@dataclass(frozen=True)
class Boot:
    """What the nodes of one pool are told. `name` is the beginning of their host names: `<region>-<pool>`."""

    name: str
    user: str
    authorized_key: str
    data_volume: bool


def user_data(boot: Boot) -> str:
    """The user data as text. Raises Refused where it would not fit."""
    text = _template().render(boot=boot)
    if (size := len(text.encode())) > USER_DATA_BYTES:
        raise Refused(f"user data: {size} bytes, EC2 takes {USER_DATA_BYTES}; fix: a shorter public key")
    return text


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def encoded(text: str) -> str:
    """As a launch template takes it."""
    return base64.b64encode(text.encode()).decode()


def host_key(console: str) -> str | None:
    """The ed25519 host key on a console, `ssh-ed25519 AAAA…`; None while it is not there.

    Raises ValueError where the console shows two of them: one was not printed by the first boot.
    """
    found = {key for block in _KEYS.findall(console) for key in _ED25519.findall(block)}
    if len(found) > 1:
        raise ValueError("its console shows more than one ed25519 host key")
    return f"ssh-ed25519 {found.pop()}" if found else None


@functools.cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(paths.TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 (YAML; every value that is not checked goes through tojson)
    )
    return environment.get_template(TEMPLATE)
