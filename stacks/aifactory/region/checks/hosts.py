"""Pools with listed hosts: which keys they take, their SSH keys, addresses and logins."""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Iterator

from aifactory.region.checks.finding import Finding
from aifactory.region.checks.network import HIGHEST_PORT, is_address
from aifactory.region.positions import Path
from aifactory.region.shape import shown
from aifactory.region.spec import AwsProvider, Region, Ssh, StaticProvider

LOGIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
BASTION = re.compile(r"(?:(?P<user>[^@]*)@)?(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{1,5}))?")
CURVES = {"ecdsa-sha2-nistp256": 65, "ecdsa-sha2-nistp384": 97, "ecdsa-sha2-nistp521": 133}
"""Bytes of an uncompressed point (RFC 5656)."""
SHORTEST_RSA_BITS = 2048
KEY_TYPES = ("ssh-ed25519", *CURVES, "ssh-rsa")


class BadKey(ValueError):
    """The text is no host key; says why. `trim`: a whole key is in it, with something around it."""

    def __init__(self, message: str, trim: bool = False) -> None:
        super().__init__(message)
        self.trim = trim


def nodes_or_hosts(region: Region) -> Iterator[Finding]:
    """SPEC-035."""
    listed = isinstance(region.provider, StaticProvider)
    for i, pool in enumerate(region.pools):
        if listed and pool.nodes is not None:
            yield Finding(
                ("pools", i, "nodes"), "Static pools list their hosts; the count follows.", True, fix="remove it"
            )
        if listed and not pool.hosts:
            fix = "add `hosts:` with name, address and host_key of each"
            yield Finding(("pools", i), f"Pool {pool.name} has no hosts.", True, fix=fix)
        if not listed and pool.hosts:
            message = f"Nodes of {region.provider.kind} are made, not listed."
            yield Finding(("pools", i, "hosts"), message, True, fix="write `nodes:` and their count")
        if not listed and pool.nodes is None and not pool.hosts:
            yield Finding(("pools", i), f"Pool {pool.name} has no nodes.", True, fix="add `nodes: 1`, or more")


def host_keys(region: Region) -> Iterator[Finding]:
    """SPEC-036."""
    keys: list[tuple[Path, str, str]] = [
        (("pools", i, "hosts", j, "host_key"), host.host_key, host.address)
        for i, pool in enumerate(region.pools)
        for j, host in enumerate(pool.hosts)
    ]
    provider = region.provider
    if isinstance(provider, StaticProvider | AwsProvider) and provider.ssh.bastion_host_key is not None:
        jump = (provider.ssh.bastion or "HOST").rpartition("@")[2].partition(":")[0]
        keys.append((("provider", "ssh", "bastion_host_key"), provider.ssh.bastion_host_key, jump))
    for path, key, address in keys:
        try:
            check_host_key(key)
        except BadKey as error:
            fix = "keep the type and the base64 after it, nothing else"
            if not error.trim:
                fix = f"read it on the host (/etc/ssh/ssh_host_ed25519_key.pub), or compare: ssh-keyscan {address}"
            yield Finding(path, f"{error}", allowed=f"`TYPE BASE64`, TYPE one of {', '.join(KEY_TYPES)}.", fix=fix)


def bastion(region: Region) -> Iterator[Finding]:
    """SPEC-046."""
    if not isinstance(region.provider, StaticProvider | AwsProvider):
        return
    ssh = region.provider.ssh
    if ssh.bastion is not None and ssh.bastion_host_key is None:
        message = "The jump host has no host key: whoever answers at its address would be trusted."
        yield Finding(("provider", "ssh", "bastion"), message, fix='add `bastion_host_key: "ssh-ed25519 …"`')
    if ssh.bastion is None and ssh.bastion_host_key is not None:
        path: Path = ("provider", "ssh", "bastion_host_key")
        yield Finding(
            path, "There is no jump host to which this key belongs.", True, fix="remove it, or add `bastion:`"
        )


def addresses(region: Region) -> Iterator[Finding]:
    """SPEC-047."""
    for i, pool in enumerate(region.pools):
        for j, host in enumerate(pool.hosts):
            if not is_address(host.address):
                message = f"{shown(host.address)} is neither an IP address nor a host name."
                yield Finding(("pools", i, "hosts", j, "address"), message, fix="`port:` is a key of its own"
                              if ":" in host.address else None)  # fmt: skip
    if not isinstance(region.provider, StaticProvider | AwsProvider):
        return
    ssh = region.provider.ssh
    if isinstance(ssh, Ssh) and not LOGIN.fullmatch(ssh.user):
        message = f"{shown(ssh.user)} is not a login name."
        yield Finding(("provider", "ssh", "user"), message, allowed="a letter or _, then letters, digits, _ . -")
    if ssh.bastion is not None and not _is_jump(ssh.bastion):
        message = f"{shown(ssh.bastion)} is not a jump host."
        yield Finding(("provider", "ssh", "bastion"), message, allowed="[user@]host[:port].")


def _is_jump(text: str) -> bool:
    match = BASTION.fullmatch(text)
    if not match:
        return False
    user, host, port = match.group("user", "host", "port")
    user_ok = user is None or LOGIN.fullmatch(user) is not None
    return user_ok and is_address(host.strip("[]")) and (port is None or 1 <= int(port) <= HIGHEST_PORT)


def check_host_key(text: str) -> None:
    """Raises BadKey unless `text` is `TYPE BASE64` with a whole key of that type in it."""
    words = text.split(" ")
    if len(words) != 2 or words[0] not in KEY_TYPES:
        raise _bad_form(text.split())
    try:
        fields = _fields(base64.b64decode(words[1], validate=True))
    except (ValueError, binascii.Error, struct.error):
        raise BadKey("The base64 part is broken or cut off: no whole key is in it.") from None
    if not fields or fields[0] != words[0].encode():
        raise BadKey(f"The key inside is not of type {words[0]}.")
    _check_fields(words[0], fields[1:])


def _bad_form(words: list[str]) -> BadKey:
    if words and words[0] == "ssh-dss":
        return BadKey("DSA keys are broken; OpenSSH no longer takes them.")
    if len(words) > 2 and words[1] in KEY_TYPES:
        return BadKey("This is a line of known_hosts: the address before the type does not belong here.", trim=True)
    if len(words) > 2 and words[0] in KEY_TYPES:
        return BadKey("Something follows the key; a comment does not belong here.", trim=True)
    if len(words) == 2 and words[0] not in KEY_TYPES:
        return BadKey(f"{shown(words[0])} is not a type of host key.")
    if len(words) == 2:
        return BadKey("One space, and nothing else, stands between the type and the base64.", trim=True)
    return BadKey("This is not an SSH public key.")


def _fields(blob: bytes) -> list[bytes]:
    """The length-prefixed strings of an SSH key (RFC 4251, 5). Raises struct.error or ValueError when cut off."""
    fields = []
    while blob:
        (length,) = struct.unpack_from(">I", blob)
        if length > len(blob) - 4:
            raise ValueError("cut off")
        fields.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    return fields


def _check_fields(kind: str, fields: list[bytes]) -> None:
    if kind == "ssh-ed25519":
        whole = len(fields) == 1 and len(fields[0]) == 32
    elif kind in CURVES:
        curve = kind.rpartition("-")[2].encode()
        whole = len(fields) == 2 and fields[0] == curve and len(fields[1]) == CURVES[kind] and fields[1][0] == 4
    else:
        whole = len(fields) == 2 and all(fields)
        bits = int.from_bytes(fields[1]).bit_length() if whole else 0
        if whole and bits < SHORTEST_RSA_BITS:
            raise BadKey(f"The RSA key has {bits} bits; below {SHORTEST_RSA_BITS} it can be broken.")
    if not whole:
        raise BadKey(f"The key inside is not a whole {kind} key.")
