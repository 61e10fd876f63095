"""Names inside one region."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain

from aifactory import naming
from aifactory.region.checks.finding import Finding
from aifactory.region.positions import Path, dotted
from aifactory.region.spec import Region


def unique(region: Region) -> Iterator[Finding]:
    """SPEC-031."""
    yield from _twice("pool", ((("pools", i, "name"), p.name) for i, p in enumerate(region.pools)))
    hosts = (
        (("pools", i, "hosts", j, "name"), h.name) for i, p in enumerate(region.pools) for j, h in enumerate(p.hosts)
    )
    yield from _twice("host", hosts)
    yield from _twice("service", ((("services", i, "name"), s.name) for i, s in enumerate(region.services)))
    yield from _twice("storage", ((("storage", i, "name"), s.name) for i, s in enumerate(region.storage)))
    clients = region.front_door.clients
    yield from _twice("client", ((("front_door", "clients", i, "name"), c.name) for i, c in enumerate(clients)))


def addresses_unique(region: Region) -> Iterator[Finding]:
    """SPEC-032."""
    hosts = chain.from_iterable(
        (((("pools", i, "hosts", j, "address"), h) for j, h in enumerate(p.hosts)) for i, p in enumerate(region.pools))
    )
    yield from _twice("address", ((path, f"{h.address.lower()}:{h.port}") for path, h in hosts))


def hosts_not_generated(region: Region) -> Iterator[Finding]:
    """SPEC-033."""
    pools = {p.name for p in region.pools} | {naming.FRONT_POOL}
    made = re.compile(rf"{re.escape(region.name)}-(?:{'|'.join(map(re.escape, pools))})-[0-9]{{3,}}")
    for i, pool in enumerate(region.pools):
        for j, host in enumerate(pool.hosts):
            if made.fullmatch(host.name):
                yield Finding(
                    ("pools", i, "hosts", j, "name"),
                    f"{host.name} is a name that the toolkit gives to nodes which it makes itself.",
                    fix="use the host's own name",
                )


def pool_not_reserved(region: Region) -> Iterator[Finding]:
    """SPEC-034."""
    for i, pool in enumerate(region.pools):
        if pool.name == naming.FRONT_POOL:
            message = f"`{naming.FRONT_POOL}` is the pool of the front door's own nodes."
            fix = "give the pool another name; front_door.nodes and front_door.shape are for the front door"
            yield Finding(("pools", i, "name"), message, fix=fix)


def _twice(what: str, named: Iterable[tuple[Path, str]]) -> Iterator[Finding]:
    first: dict[str, Path] = {}
    for path, name in named:
        if name in first:
            message = f"{dotted(first[name][:-1])} has the {what if what == 'address' else f'{what} name'} {name} too."
            yield Finding(path, message, fix="make them different")
        else:
            first[name] = path
