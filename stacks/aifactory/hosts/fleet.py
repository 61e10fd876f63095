"""The fleet: contract 3 (`aifactory.fleet/1`), the only bridge from any provider to Ansible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

VERSION = "aifactory.fleet/1"


@dataclass(frozen=True)
class FleetHost:
    """One node as every later stage sees it: a container, a cloud node and a bare host look the same.

    `id` is the provider's own id and changes when the node is rebuilt; `name` does not.
    `address`:`port` is where the controller reaches SSH; `node_address` is what other nodes use.
    `host_key` is an OpenSSH public key line without comment (`ssh-ed25519 AAAA…`).
    """

    id: str
    name: str
    address: str
    port: int
    user: str
    host_key: str
    pool: str
    shape: str
    rank: int
    gpus: int
    node_address: str
    zone: str = ""
    serial: str = ""
    created_at: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    urn: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> FleetHost:
        """Accepts numbers as floats (the engine's wire format) and ignores nothing: unknown keys raise TypeError."""
        values = dict(raw)
        for key in ("port", "rank", "gpus"):
            values[key] = int(values[key])
        return cls(**values)


@dataclass(frozen=True)
class Fleet:
    region: str
    provider: str
    account: str
    created_by: str
    hosts: tuple[FleetHost, ...]
    version: str = VERSION

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "hosts": [h.to_dict() for h in self.hosts]}
