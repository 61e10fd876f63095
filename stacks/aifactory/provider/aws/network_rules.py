"""Rules of security groups: what a region's groups let through, and EC2's words for it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aifactory import catalog
from aifactory.provider.aws.network_types import ANYWHERE, S3, NetworkInputs

ALL = "-1"
SSH_PORT, HTTPS_PORT = 22, 443


@dataclass(frozen=True, order=True)
class Rule:
    """Traffic with one peer: an IPv4 or IPv6 network, a group, a prefix list. Ports of ALL are -1."""

    peer: str
    protocol: str = ALL
    first: int = -1
    last: int = -1

    def __str__(self) -> str:
        if self.protocol == ALL:
            return f"everything {self.peer}"
        ports = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return f"{self.protocol} {ports} {self.peer}"


Rules = frozenset[Rule]
DEFAULT_EGRESS: Rules = frozenset({Rule(ANYWHERE)})
"""What EC2 gives every new group."""


@dataclass(frozen=True)
class Wanted:
    """One group's rules."""

    ingress: Rules
    egress: Rules


def tcp(peer: str, first: int, last: int | None = None) -> Rule:
    return Rule(peer, "tcp", first, first if last is None else last)


def of_nodes(news: NetworkInputs, nodes: str, door: str, s3_list: str | None) -> Wanted:
    """Everything among themselves (EFA asks for that, both ways), the door, logins, and what may leave.

    The cloud's own resolver and clock are not subject to groups. `s3_list`: prefix list of S3 in this region.
    """
    ingress = {Rule(nodes), tcp(door, news.api_port), *(tcp(source, SSH_PORT) for source in news.ssh_from)}
    if news.lustre:
        # Within "everything" already; written out because the file system's service looks for it.
        ingress |= {tcp(nodes, first, last) for first, last in lustre_ports()}
    egress = {Rule(nodes), *(tcp(ANYWHERE, port) for port in news.egress_ports)}
    egress |= {tcp(passage.cidr, passage.port) for passage in news.egress}
    if S3 in news.gateway_endpoints and s3_list:
        egress.add(tcp(s3_list, HTTPS_PORT))
    return Wanted(frozenset(ingress), frozenset(egress))


def of_door(news: NetworkInputs, nodes: str) -> Wanted:
    port = news.door_port or news.api_port
    return Wanted(frozenset(tcp(source, port) for source in news.api_from), frozenset({tcp(nodes, news.api_port)}))


NOTHING = Wanted(frozenset(), frozenset())
"""Of the group that EC2 gives to whatever names none."""


def lustre_ports() -> tuple[tuple[int, int], ...]:
    """(first, last) of the ports of Lustre between client and file system."""
    numbers = sorted(catalog.limits()["fsx_lustre_ports"].values)
    ranges: list[tuple[int, int]] = []
    for port in numbers:
        if ranges and ranges[-1][1] == port - 1:
            ranges[-1] = (ranges[-1][0], port)
        else:
            ranges.append((port, port))
    return tuple(ranges)


def read(permissions: Iterable[Mapping[str, Any]]) -> Rules:
    """Rules of an answer, one a peer."""
    return frozenset(_read(permissions))


def _read(permissions: Iterable[Mapping[str, Any]]) -> Iterator[Rule]:
    for given in permissions:
        protocol = str(given["IpProtocol"])
        first, last = (int(given.get(key, -1)) for key in ("FromPort", "ToPort"))
        ports = (-1, -1) if protocol == ALL else (first, last)
        for listed, name in _PEERS:
            for item in given.get(listed) or ():
                yield Rule(str(item[name]), protocol, *ports)


_PEERS = (
    ("IpRanges", "CidrIp"), ("Ipv6Ranges", "CidrIpv6"), ("UserIdGroupPairs", "GroupId"),
    ("PrefixListIds", "PrefixListId"),
)  # fmt: skip


def permissions(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    """As EC2 takes them, in a fixed order."""
    made = []
    for rule in sorted(rules):
        ports = {} if rule.protocol == ALL else {"FromPort": rule.first, "ToPort": rule.last}
        made.append({"IpProtocol": rule.protocol, **ports, **_peer(rule.peer)})
    return made


def _peer(name: str) -> dict[str, Any]:
    if name.startswith("sg-"):
        return {"UserIdGroupPairs": [{"GroupId": name}]}
    if name.startswith("pl-"):
        return {"PrefixListIds": [{"PrefixListId": name}]}
    return {"Ipv6Ranges": [{"CidrIpv6": name}]} if ":" in name else {"IpRanges": [{"CidrIp": name}]}


def shown(rules: Rules) -> str:
    return ", ".join(str(rule) for rule in sorted(rules)) or "nothing"
