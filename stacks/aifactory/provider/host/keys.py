"""`aifactory:host:Keys`: every key of a region that no outside authority issues.

The keys exist only in the state (secrets, encrypted) and where later resources put them; there is no
object in the world to adopt or to fence. A changed list of names, or less than RENEW_DAYS left, issues
a new server certificate under the same CA; clients that trust the CA notice nothing. `generation`
replaces everything.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

from aifactory.provider import identity
from aifactory.provider.resource import UNKNOWN, CheckFailure, Context, Diff, Resource, prop
from aifactory.provider.tokens import HOST_KEYS

RENEW_DAYS = 30
"""Days before its end at which a certificate is renewed by the next `up`."""

_DNS_RE = re.compile(
    r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)

_SERVER = ("server_certificate", "server_key", "server_expires_at")
_AUTHORITY = ("ca_certificate", "ca_key", "ca_expires_at")


@dataclass(frozen=True)
class KeysInputs:
    region: str = prop(doc="Region name.", replaces=True)
    server_names: tuple[str, ...] = prop(doc="DNS names and IP addresses of the front door, the main one first.")
    generation: int = prop(1, doc="Raising it makes every key anew.", replaces=True)
    token: str = prop("", doc="Identity of the resource.", check=True)


@dataclass(frozen=True)
class KeysOutputs:
    ssh_public_key: str = prop(doc="Login key of the region's nodes, public line.")
    ssh_private_key: str = prop(doc="Login key, OpenSSH format.", secret=True)
    ca_certificate: str = prop(doc="The region's own CA, PEM; clients trust this.")
    ca_key: str = prop(doc="Key of the CA, PEM; signs renewed server certificates.", secret=True)
    ca_expires_at: str = prop(doc="Last moment of the CA, ISO 8601, UTC.")
    server_certificate: str = prop(doc="Certificate of the front door, PEM.")
    server_key: str = prop(doc="Key of the server certificate, PEM.", secret=True)
    server_expires_at: str = prop(doc="Last moment of the server certificate, ISO 8601, UTC.")
    upstream_key: str = prop(doc="Bearer key between the front door and the engines.", secret=True)
    client_key: str = prop(doc="Bearer key of the generated client.", secret=True)
    client_key_sha256: str = prop(doc="What the front door stores of the client key.")
    nonce: str = prop(doc="Changes with every create.")


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Keys(Resource[KeysInputs, KeysOutputs]):
    """No verb blocks or touches anything outside the process."""

    token = HOST_KEYS
    Inputs = KeysInputs
    Outputs = KeysOutputs

    def __init__(self, now: Callable[[], dt.datetime] = _utc_now) -> None:
        self._now = now

    def check(self, ctx: Context, news: KeysInputs, olds: KeysInputs | None) -> tuple[KeysInputs, list[CheckFailure]]:
        if news.server_names is UNKNOWN:
            return news, []
        failures = [
            CheckFailure(f"server_names[{i}]", f"{name} is neither a DNS name nor an IP address")
            for i, name in enumerate(news.server_names)
            if name is not UNKNOWN and not _is_server_name(name)
        ]
        if not news.server_names:
            failures.append(CheckFailure("server_names", "names nothing; give at least one DNS name or IP address"))
        return news, failures

    def diff(self, ctx: Context, id: str, olds: KeysInputs, outs: KeysOutputs, news: KeysInputs) -> Diff:
        """Also looks at the clock: a certificate near its end is an output that should change."""
        plain = super().diff(ctx, id, olds, outs, news)
        return dataclasses.replace(plain, output_updates=self._due(outs))

    def preview(self, ctx: Context, news: KeysInputs, outs: KeysOutputs | None) -> KeysOutputs:
        if outs is None:
            return KeysOutputs(**{f.name: UNKNOWN for f in dataclasses.fields(KeysOutputs)})
        due = self._due(outs)
        changing = dict.fromkeys((*_SERVER, *(_AUTHORITY if "ca_certificate" in due else ())), UNKNOWN)
        return dataclasses.replace(outs, **changing)

    def create(self, ctx: Context, news: KeysInputs) -> tuple[str, KeysOutputs]:
        """New keys every time: a killed run's keys were never used, as nothing starts before its state is saved."""
        from aifactory.provider.host import key_material

        private, public = key_material.ssh_key_pair()
        authority = key_material.certificate_authority(news.region, self._now())
        server = key_material.server_certificate(
            authority.certificate, authority.private_key, news.server_names, self._now()
        )
        client = key_material.client_key(news.region)
        return f"{news.region}-keys", KeysOutputs(
            ssh_public_key=public,
            ssh_private_key=private,
            ca_certificate=authority.certificate,
            ca_key=authority.private_key,
            ca_expires_at=authority.expires_at.isoformat(),
            server_certificate=server.certificate,
            server_key=server.private_key,
            server_expires_at=server.expires_at.isoformat(),
            upstream_key=key_material.upstream_key(),
            client_key=client,
            client_key_sha256=key_material.sha256(client),
            nonce=identity.new_nonce(),
        )

    def read(
        self, ctx: Context, id: str, olds: KeysInputs | None, outs: KeysOutputs | None
    ) -> tuple[KeysInputs, KeysOutputs] | None:
        """What the state says: there is no other place to look. Keys cannot be imported."""
        return None if olds is None or outs is None else (olds, outs)

    def update(self, ctx: Context, id: str, olds: KeysInputs, outs: KeysOutputs, news: KeysInputs) -> KeysOutputs:
        """A new server certificate, and before it a new CA when that is near its end."""
        from aifactory.provider.host import key_material

        due = self._due(outs)
        if "ca_certificate" in due:
            authority = key_material.certificate_authority(news.region, self._now())
            ctx.log("a new CA was made: give its certificate to the clients")
            outs = dataclasses.replace(
                outs,
                ca_certificate=authority.certificate,
                ca_key=authority.private_key,
                ca_expires_at=authority.expires_at.isoformat(),
            )
        if not due and olds.server_names == news.server_names:
            return outs
        server = key_material.server_certificate(outs.ca_certificate, outs.ca_key, news.server_names, self._now())
        return dataclasses.replace(
            outs,
            server_certificate=server.certificate,
            server_key=server.private_key,
            server_expires_at=server.expires_at.isoformat(),
        )

    def delete(self, ctx: Context, id: str, olds: KeysInputs, outs: KeysOutputs) -> None:
        """Nothing outside the state exists."""

    def _due(self, outs: KeysOutputs) -> tuple[str, ...]:
        """The certificates with less than RENEW_DAYS left; a new CA takes the server certificate along."""
        soon = self._now() + dt.timedelta(days=RENEW_DAYS)
        if dt.datetime.fromisoformat(outs.ca_expires_at) < soon:
            return ("ca_certificate", "server_certificate")
        return ("server_certificate",) if dt.datetime.fromisoformat(outs.server_expires_at) < soon else ()


def _is_server_name(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return len(name) <= 253 and bool(_DNS_RE.fullmatch(name))
    return True
