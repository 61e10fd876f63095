"""What is wrong with a network's inputs, all at once. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import combinations

from aifactory.provider.aws.network_types import GATEWAY_SERVICES, NetworkInputs
from aifactory.provider.resource import UNKNOWN, CheckFailure

WIDEST, NARROWEST = 16, 28
"""Prefix lengths of a VPC and of a subnet. Source: EC2 API, CreateVpc and CreateSubnet, read 2026-11."""
PORTS = range(1, 65536)

Net = ipaddress.IPv4Network


def failures(news: NetworkInputs, olds: NetworkInputs | None) -> list[CheckFailure]:
    """None where something is not known yet, the flow log's bucket apart."""
    if news.flow_log_bucket_arn is UNKNOWN:
        news = replace(news, flow_log_bucket_arn="")
    if any(getattr(news, field.name) is UNKNOWN for field in fields(news) if field.name not in ("cloud", "token")):
        return []
    return [*_nets(news), *_ways_out(news), *_peers(news), *_moved(news, olds)]


def _nets(news: NetworkInputs) -> Iterator[CheckFailure]:
    whole = _net(news.cidr)
    if isinstance(whole, str) or not WIDEST <= whole.prefixlen <= NARROWEST:
        reason = whole if isinstance(whole, str) else f"{whole} is no /{WIDEST} to /{NARROWEST}"
        yield CheckFailure("cidr", reason)
        return
    good: list[tuple[str, Net]] = []
    for i, subnet in enumerate(news.subnets):
        net = _net(subnet.cidr)
        if isinstance(net, str):
            yield CheckFailure(f"subnets[{i}].cidr", net)
        elif not net.subnet_of(whole) or net.prefixlen > NARROWEST:
            yield CheckFailure(f"subnets[{i}].cidr", f"{net} is not in {whole}, or smaller than a /{NARROWEST}")
        else:
            good.append((subnet.name, net))
    for (one, first), (other, second) in combinations(good, 2):
        if first.overlaps(second):
            yield CheckFailure("subnets", f"{one} ({first}) and {other} ({second}) overlap")
    names = [subnet.name for subnet in news.subnets]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield CheckFailure("subnets", f"{name} is there twice")
    if not names:
        yield CheckFailure("subnets", "names none")


def _ways_out(news: NetworkInputs) -> Iterator[CheckFailure]:
    if news.nat and not any(subnet.public for subnet in news.subnets):
        yield CheckFailure("nat", "a NAT gateway stands in a public subnet, and there is none")
    for i, service in enumerate(news.gateway_endpoints):
        if service not in GATEWAY_SERVICES:
            yield CheckFailure(f"gateway_endpoints[{i}]", f"{service} is none of {', '.join(GATEWAY_SERVICES)}")
    for i, service in enumerate(news.interface_endpoints):
        if service in GATEWAY_SERVICES:
            yield CheckFailure(f"interface_endpoints[{i}]", f"{service} has a gateway endpoint, which costs nothing")
    arn = news.flow_log_bucket_arn
    if arn and not (arn.startswith(f"arn:{news.cloud.partition}:s3:::") and arn.rpartition(":")[2]):
        yield CheckFailure("flow_log_bucket_arn", f"{arn} is not arn:{news.cloud.partition}:s3:::BUCKET")


def _peers(news: NetworkInputs) -> Iterator[CheckFailure]:
    ports = {"api_port": news.api_port, **({"door_port": news.door_port} if news.door_port else {})}
    ports |= {f"egress_ports[{i}]": port for i, port in enumerate(news.egress_ports)}
    ports |= {f"egress[{i}].port": passage.port for i, passage in enumerate(news.egress)}
    for path, port in ports.items():
        if port not in PORTS:
            yield CheckFailure(path, f"{port} is no TCP port; allowed: 1 to {PORTS.stop - 1}")
    peers = {f"{name}[{i}]": peer for name in ("api_from", "ssh_from") for i, peer in enumerate(getattr(news, name))}
    peers |= {f"egress[{i}].cidr": passage.cidr for i, passage in enumerate(news.egress)}
    for path, peer in peers.items():
        net = _net(peer)
        if isinstance(net, str):
            yield CheckFailure(path, net)


def _moved(news: NetworkInputs, olds: NetworkInputs | None) -> Iterator[CheckFailure]:
    """Subnets are made and removed; one of the same name stays where it is."""
    before = {subnet.name: subnet for subnet in olds.subnets} if olds and olds.cidr == news.cidr else {}
    for i, subnet in enumerate(news.subnets):
        was = before.get(subnet.name, subnet)
        if was != subnet:
            there = f"{was.cidr} in {was.zone}, {'public' if was.public else 'private'}"
            yield CheckFailure(f"subnets[{i}]", f"{subnet.name} is {there}, and stays so; fix: another name")


def _net(text: str) -> Net | str:
    """The network, or what is wrong with it."""
    try:
        return Net(text)
    except ValueError as error:
        return str(error)
