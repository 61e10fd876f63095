"""Who already uses an address range: the engine's networks and this machine's routes."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from pathlib import Path

from aifactory.provider.local import labels
from aifactory.provider.local.engine_output import Network

_ROUTES = Path("/proc/net/route")


def clash(cidr: str, networks: Iterable[Network], own: str) -> str | None:
    """Who holds a part of `cidr`, in words; None when it is free. `own` is the network that may hold it."""
    wanted = ipaddress.IPv4Network(cidr)
    known = list(networks)
    for network in known:
        for subnet in network.subnets:
            if network.name != own and _overlaps(wanted, subnet):
                return f"network {network.name} ({subnet}) of {labels.holder(network.labels)}"
    bridges = {network.interface for network in known if network.interface}
    for interface, route in routes(_ROUTES.read_text(encoding="ascii") if _ROUTES.exists() else ""):
        if interface not in bridges and wanted.overlaps(route):
            return f"the route {route} of this machine's interface {interface}"
    return None


def routes(table: str) -> Iterator[tuple[str, ipaddress.IPv4Network]]:
    """(interface, network) of the kernel's IPv4 routes, default routes left out."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8:
            continue
        mask = ipaddress.IPv4Address(_little_endian(fields[7]))
        if int(mask):
            yield fields[0], ipaddress.IPv4Network(f"{ipaddress.IPv4Address(_little_endian(fields[1]))}/{mask}")


def _little_endian(text: str) -> int:
    return int.from_bytes(bytes.fromhex(text), "little")


def _overlaps(wanted: ipaddress.IPv4Network, subnet: str) -> bool:
    other = ipaddress.ip_network(subnet, strict=False)
    return isinstance(other, ipaddress.IPv4Network) and wanted.overlaps(other)
