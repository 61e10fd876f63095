"""`service:FrontDoor`: HAProxy in front of the services; the one address that clients use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from aifactory import __version__
from aifactory.hosts.play import Play
from aifactory.provider import tokens
from aifactory.provider.host.play_resource import PlayInputs, PlayOutputs, PlayResource, has_unknown
from aifactory.provider.resource import CheckFailure, Context, prop
from aifactory.provider.service.service import Endpoint
from aifactory.serving import units

PLAYBOOK = "front_door.yml"
LAYER = "front_door"


@dataclass(frozen=True)
class Client:
    """Who may call. `requests_per_minute` None = no limit."""

    name: str
    key_sha256: str
    requests_per_minute: int | None = None


@dataclass(frozen=True)
class DoorService:
    """A service behind the door: its name is the model id that clients ask for."""

    name: str
    model: str
    servers: tuple[Endpoint, ...]


@dataclass(frozen=True, kw_only=True)
class FrontDoorInputs(PlayInputs):
    hostname: str = prop(doc="Name or address that clients use.")
    port: int = prop(doc="TCP port that clients use.")
    listen_port: int = prop(units.LISTEN_PORT, doc="TCP port on the nodes.")
    certificate: str = prop(doc="Server certificate and its chain, PEM.")
    private_key: str = prop(doc="Key of the certificate, PEM.", secret=True)
    clients: tuple[Client, ...] = prop(doc="Clients and the digests of their keys.")
    services: tuple[DoorService, ...] = prop(doc="Services and where their replicas answer.")
    upstream_key: str = prop(doc="Key that the front door shows to the engines.", secret=True)


@dataclass(frozen=True, kw_only=True)
class FrontDoorOutputs(PlayOutputs):
    endpoint: str = prop(doc="URL that clients use, without the API's `/v1`.")


class FrontDoor(PlayResource[FrontDoorInputs, FrontDoorOutputs]):
    """Configures the doors. See PlayResource for what blocks, repeats and fails how.

    Changes are loaded into the running door without cutting an answer; a configuration that HAProxy does not
    take is not installed. Delete takes the door off hosts that still answer.
    """

    token: ClassVar[str] = tokens.SERVICE_FRONT_DOOR
    Inputs: ClassVar[type] = FrontDoorInputs
    Outputs: ClassVar[type] = FrontDoorOutputs

    def check(
        self, ctx: Context, news: FrontDoorInputs, olds: FrontDoorInputs | None
    ) -> tuple[FrontDoorInputs, list[CheckFailure]]:
        """Also finds what HAProxy would only find on the node: a key that is not the certificate's, a bad digest."""
        news, failures = super().check(ctx, news, olds)
        if not has_unknown([news.certificate, news.private_key]):
            failures += [CheckFailure("certificate", reason) for reason in certificate_problems(news)]
        if not has_unknown(news.clients):
            failures += client_failures(news.clients)
        return news, failures

    def play(self, inputs: FrontDoorInputs) -> Play:
        variables = {
            "state": "present",
            "region": inputs.region,
            "version": __version__,
            "listen_port": inputs.listen_port,
            "certificate": inputs.certificate,
            "connections_per_server": units.CONNECTIONS,
            "clients": [
                {"name": c.name, "key_sha256": c.key_sha256, "requests_per_minute": c.requests_per_minute or 0}
                for c in inputs.clients
            ],
            "services": [
                {
                    "name": s.name,
                    "model": s.model,
                    "servers": [{"node": e.node, "address": e.address, "port": e.port} for e in s.servers],
                }
                for s in inputs.services
            ],
        }
        secrets = {"private_key": inputs.private_key, "upstream_key": inputs.upstream_key}
        return Play(PLAYBOOK, "front-door", inputs.hosts, (LAYER,), {LAYER: variables}, {LAYER: secrets})

    def removal(self, inputs: FrontDoorInputs, outs: FrontDoorOutputs) -> Play:
        play = self.play(inputs)
        return Play(
            PLAYBOOK,
            play.marker,
            play.hosts,
            play.layers,
            {LAYER: {**play.role_vars[LAYER], "state": "absent"}},
            play.secret_vars,
        )

    def more_outputs(self, inputs: FrontDoorInputs) -> dict[str, Any]:
        suffix = "" if inputs.port == 443 else f":{inputs.port}"
        return {"endpoint": f"https://{inputs.hostname}{suffix}"}


def certificate_problems(inputs: FrontDoorInputs) -> list[str]:
    """Why certificate and key cannot be served together; empty = they can. Never shows the key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    public = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        certificate = x509.load_pem_x509_certificates(inputs.certificate.encode())[0]
    except ValueError:
        return ["is not a PEM certificate"]
    try:
        key = serialization.load_pem_private_key(inputs.private_key.encode(), None)
    except (ValueError, TypeError):
        return ["its private key is not a PEM key without passphrase"]
    if key.public_key().public_bytes(*public) != certificate.public_key().public_bytes(*public):
        return ["does not belong to the private key"]
    return []


def client_failures(clients: Sequence[Client]) -> list[CheckFailure]:
    names = [client.name for client in clients]
    failures = [
        CheckFailure(f"clients[{i}].name", f"{name} is there twice")
        for i, name in enumerate(names)
        if name in names[:i]
    ]
    return failures + [
        CheckFailure(f"clients[{i}].key_sha256", "is not a SHA-256 in lower-case hex")
        for i, client in enumerate(clients)
        if not re.fullmatch(r"[0-9a-f]{64}", client.key_sha256)
    ]
