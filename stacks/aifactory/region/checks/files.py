"""Rules over several regions. Two regions get one problem, at the later one, which names the other."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import combinations

from aifactory import naming
from aifactory.region.checks.finding import Finding
from aifactory.region.checks.network import front_nodes, network_of
from aifactory.region.positions import Path
from aifactory.region.spec import AwsProvider, LocalProvider, Region

Hit = tuple[int, Finding]
"""(index of the region, what is wrong there)."""
LOCAL_PORT = 8443


def same_name(regions: Sequence[Region]) -> Iterator[Hit]:
    """SPEC-060."""
    yield from _shared(regions, lambda r: [(("name",), r.name)], "has this name too")


def overlapping(regions: Sequence[Region]) -> Iterator[Hit]:
    """SPEC-061. Containers of one machine share its routes; clouds keep networks apart."""
    networks = [
        (i, r, network_of(r.network.cidr)) for i, r in enumerate(regions) if isinstance(r.provider, LocalProvider)
    ]
    told: set[int] = set()
    for (_, first, a), (j, second, b) in combinations(networks, 2):
        if a and b and a.overlaps(b) and j not in told and first.name != second.name:
            told.add(j)
            message = f"{second.network.cidr} overlaps {first.network.cidr} of region {first.name}."
            yield j, Finding(("network", "cidr"), message, fix="give this region a network of its own")


def same_bucket(regions: Sequence[Region]) -> Iterator[Hit]:
    """SPEC-062. Bucket names are unique in a partition, not in an account."""

    def buckets(region: Region) -> Iterator[tuple[Path, Hashable]]:
        if isinstance(region.provider, AwsProvider):
            for i, item in enumerate(region.storage):
                if item.kind == "object":
                    bucket = naming.aws_bucket(region.name, item.name, region.provider.account)
                    yield ("storage", i, "name"), f"{bucket} in {region.provider.partition}"

    yield from _shared(regions, buckets, "makes the bucket {} too")


def same_port(regions: Sequence[Region]) -> Iterator[Hit]:
    """SPEC-063. A front door of n nodes takes n ports in a row on this machine."""

    def ports(region: Region) -> Iterator[tuple[Path, Hashable]]:
        if isinstance(region.provider, LocalProvider) and region.services:
            first = region.front_door.port or LOCAL_PORT
            for port in range(first, first + max(1, front_nodes(region))):
                yield ("front_door", "port"), port

    yield from _shared(
        regions, ports, "answers on this machine's port {} too", "give it a port: front_door: {{port: …}}"
    )


def same_hostname(regions: Sequence[Region]) -> Iterator[Hit]:
    """SPEC-064."""

    def names(region: Region) -> Iterator[tuple[Path, Hashable]]:
        if region.front_door.hostname and region.services:
            yield ("front_door", "hostname"), region.front_door.hostname.lower()

    yield from _shared(regions, names, "answers to {} too")


def same_host(regions: Sequence[Region]) -> Iterator[Hit]:
    """SPEC-065."""

    def hosts(region: Region) -> Iterator[tuple[Path, Hashable]]:
        for i, pool in enumerate(region.pools):
            for j, host in enumerate(pool.hosts):
                yield ("pools", i, "hosts", j, "address"), f"{host.address.lower()}:{host.port}"

    yield from _shared(regions, hosts, "has the host {} too", "a host belongs to one region")


def same_node_name(regions: Sequence[Region]) -> Iterator[Hit]:
    """SPEC-066. `a` with pool `b-c` and `a-b` with pool `c` would both make a-b-c-000."""

    def prefixes(region: Region) -> Iterator[tuple[Path, Hashable]]:
        for i, pool in enumerate(region.pools):
            if not pool.hosts:
                yield ("pools", i, "name"), naming.node(region.name, pool.name, 0)

    yield from _shared(regions, prefixes, "makes a node {} too", "rename the pool")


def _shared(
    regions: Sequence[Region],
    things: Callable[[Region], Iterable[tuple[Path, Hashable]]],
    says: str,
    fix: str = "make them different",
) -> Iterator[Hit]:
    """A hit for each thing that an earlier region has. Regions of the same name are one mistake, told by SPEC-060."""
    owner: dict[Hashable, Region] = {}
    for index, region in enumerate(regions):
        for path, thing in things(region):
            first = owner.setdefault(thing, region)
            if first is not region and (first.name != region.name or path == ("name",)):
                message = f"Region {first.name} {says.format(thing)}."
                yield index, Finding(path, message, fix=fix.format())
