"""The eight facts of a resource, each with how well it is known, and the few of a region as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["declared", "planned", "observed", "measured", "attested"]
"""In rising order: the file says so · the plan will make it so · the API says so · a host was looked at · hardware
signed it."""


@dataclass(frozen=True)
class Fact:
    """A value and how well it is known; None = nobody knows, which fails wherever somebody asks."""

    value: str | None
    level: Level = "planned"

    def __str__(self) -> str:
        return self.value if self.value is not None else "unknown"


@dataclass(frozen=True)
class Resource:
    """One thing of the region. Countries are ISO 3166-1 alpha-2."""

    name: str
    kind: str
    """nodes | storage | key | state | secrets | door"""
    where: Fact
    """Country it stands in."""
    law: Fact
    """Country of the ultimate parent of whoever runs it."""
    key: Fact
    """Custody of the key that encrypts it: `none`, `0` … `4` of the ladder in docs/sovereignty.md; `host's own` where
    the machines were there before: their disks are proved on the host."""
    login: Fact
    """Who may log in or call it: `operator`, `clients`, `anyone`."""
    leaves: Fact
    """What may leave it: `nothing`, `listed` (addresses and ports), `ports` (to anywhere)."""
    logs: Fact
    """Country its logs go to."""
    software: Fact
    """Where its software comes from: `vendor`, `mirror`."""
    exit: Fact
    """How one gets out: `open formats`, `provider only`."""
    copies: tuple[Fact, ...] = ()
    """Countries of its replicas, snapshots and backups."""
    path: str = ""
    """Its key in the region file."""


@dataclass(frozen=True)
class Facts:
    """A region: its resources, and what its API calls touch."""

    region: str
    country: str
    data_classes: tuple[str, ...]
    resources: tuple[Resource, ...]
    hosts: tuple[tuple[str, str, Fact], ...]
    """(service, host of its API, country of that host): every API that the toolkit asks."""
    look_alikes: tuple[str, ...]
    """Services without an endpoint of their own although the region's id is also one of another cloud."""
    off_region: tuple[tuple[str, str], ...]
    """(service, country): APIs that have one host for the whole partition."""
    partition: Fact
    """`same` where ARNs, host names and account agree with the file; else what does not."""
    trusts: tuple[tuple[str, str], ...]
    """(what, whom) outside the region's own account."""
    open_to_all: tuple[str, ...]
    """What anybody on the internet reaches besides the front door."""
