"""Networks, and what may pass."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from aifactory.region.checks.finding import Finding
from aifactory.region.positions import Path
from aifactory.region.spec import AwsProvider, LocalProvider, Region, StaticProvider

WIDEST, NARROWEST = 16, 24
PRIVATE = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")))
"""RFC 1918 and RFC 6598."""
NOT_NODES = {"local": 17, "aws": 5}
"""Addresses that no node gets. local: 16 below the first node, broadcast. aws: five a subnet (VPC user guide)."""
LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
HIGHEST_PORT = 65535


def is_hostname(name: str) -> bool:
    """Whether DNS takes it: labels of letters, digits and inner hyphens, 253 characters at most."""
    return len(name) <= 253 and all(LABEL.fullmatch(label) for label in name.split("."))


def is_address(text: str) -> bool:
    """IPv4, IPv6, or a host name that cannot be mistaken for a broken IPv4 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return is_hostname(text) and not text.rpartition(".")[2].isdigit()
    return True


def network_of(cidr: str) -> ipaddress.IPv4Network | None:
    """The network, None where the text is none."""
    try:
        return ipaddress.IPv4Network(cidr)
    except ValueError:
        return None


def front_nodes(region: Region) -> int:
    """The front door's own nodes that will be made."""
    if not region.services or isinstance(region.provider, StaticProvider):
        return 0
    if region.front_door.nodes is not None:
        return region.front_door.nodes
    return 1 if isinstance(region.provider, LocalProvider) else 2


def cidr(region: Region) -> Iterator[Finding]:
    """SPEC-037."""
    path: Path = ("network", "cidr")
    given = region.network.cidr
    problem = _broken(path, given)
    if problem:
        yield problem
        return
    network = ipaddress.IPv4Network(given)
    if not WIDEST <= network.prefixlen <= NARROWEST:
        wide = network.prefixlen < WIDEST
        fitting = f"{network[0]}/{WIDEST}" if wide else network.supernet(new_prefix=NARROWEST)
        message = f"{given} has {network.num_addresses:,} addresses."
        yield Finding(path, message, allowed=f"/{WIDEST} to /{NARROWEST}.", fix=f"write {fitting}")
    elif not any(network.subnet_of(block) for block in PRIVATE):
        allowed = f"a part of {', '.join(map(str, PRIVATE))}."
        yield Finding(path, f"{given} is not private: its addresses belong to others.", allowed=allowed)


def room(region: Region) -> Iterator[Finding]:
    """SPEC-038."""
    network = network_of(region.network.cidr)
    taken = NOT_NODES.get(region.provider.kind)
    if network is None or taken is None or network.prefixlen > NARROWEST:
        return
    nodes = sum(p.nodes or 0 for p in region.pools) + front_nodes(region)
    free = network.num_addresses - taken
    if nodes > free:
        yield Finding(
            ("network", "cidr"),
            f"{region.network.cidr} has {free:,} addresses for nodes; the region has {nodes:,} nodes.",
            fix="take a wider network" if network.prefixlen > WIDEST else "take fewer nodes",
        )


def passages(region: Region) -> Iterator[Finding]:
    """SPEC-039."""
    for i, entry in enumerate(region.network.egress):
        host, _, port = entry.rpartition(":")
        path: Path = ("network", "egress", i)
        if not 1 <= int(port) <= HIGHEST_PORT:
            yield Finding(path, f"{port} is not a port.", allowed=f"1 to {HIGHEST_PORT}.")
        name = host.removeprefix("*.")
        if not is_address(name):
            message = f"{host} is neither a host name nor an IP address."
            yield Finding(path, message, allowed="a host name, *. and a domain, or an IP address.")
    sources: list[tuple[Path, str]] = [
        (("network", "ingress", "api", i), entry) for i, entry in enumerate(region.network.ingress.api)
    ]
    if isinstance(region.provider, AwsProvider):
        sources += [(("provider", "ssh", "source", i), entry) for i, entry in enumerate(region.provider.ssh.source)]
    for place, entry in sources:
        problem = _broken(place, entry)
        if problem:
            yield problem


def _broken(path: Path, given: str) -> Finding | None:
    """None for a network that is written by its first address."""
    if network_of(given) is not None:
        return None
    try:
        meant = ipaddress.IPv4Network(given, strict=False)
    except ValueError:
        return Finding(path, f"{given} is not an IPv4 network.", allowed="four numbers up to 255, then /0 to /32.")
    return Finding(path, f"{given} is an address inside a network, not the network.", fix=f"write {meant}")
