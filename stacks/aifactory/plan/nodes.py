"""Pools and their nodes: names, ranks, addresses, what is configured on them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, replace

from aifactory import catalog, naming
from aifactory.catalog import Shape
from aifactory.plan import power
from aifactory.plan.lookup import refuse, row
from aifactory.plan.model import Derived, NodePlan, PoolPlan
from aifactory.region.spec import AwsProvider, LocalProvider, Pool, Region, StaticProvider

SERVE_LAYERS = ("host", "gpu", "fabric", "runtime")
FRONT_LAYERS = ("host",)

FIRST_ADDRESS = 16
"""Offset of the first node inside a local region's network; below it: gateway and spare."""

DOOR_PORT = 443
"""Port a front door listens on, on its node."""


@dataclass(frozen=True)
class Front:
    """The front door's own nodes: how many, of which shape, and the port each publishes on local."""

    nodes: Derived[int]
    shape: str
    first_port: int | None


def front(spec: Region, first_port: int) -> Front:
    """How many nodes of its own the front door has; 0 where it stands on the service nodes."""
    asked, where = spec.front_door.nodes, "front_door.nodes"
    local = isinstance(spec.provider, LocalProvider)
    if not spec.services:
        count = Derived(0, "the region serves nothing")
    elif isinstance(spec.provider, StaticProvider):
        if asked:
            raise refuse(
                "PLAN-003", where, "A static region lists its hosts: no node can be made for the front door.",
                allowed="0", fix="front_door: {nodes: 0}, which puts it on the service nodes",
            )  # fmt: skip
        count = Derived(0, "static hosts are listed, not made: it stands on the service nodes")
    elif asked is not None:
        count = Derived(asked, "as asked")
    else:
        count = Derived(1, "one is enough on one machine") if local else Derived(2, "two, so that one may fail")
    shape = spec.front_door.shape or (catalog.front_shape(spec.provider.kind).key if count.value else "")
    return Front(count, shape, first_port if local else None)


def pools(spec: Region, own: Front) -> tuple[PoolPlan, ...]:
    """The user's pools in file order, then the front door's; ranks and addresses run through all of them."""
    ranks = _Numbers(spec)
    cap_w = spec.power.cap_w_per_gpu
    planned = []
    for index, pool in enumerate(spec.pools):
        shape = row(catalog.shapes(), pool.shape, what="shape", path=f"pools[{index}].shape")
        nodes = tuple(_nodes(spec, pool, shape, ranks))
        if not nodes:
            raise refuse("PLAN-011", f"pools[{index}]", f"Pool {pool.name} has no nodes.", fix="nodes: 1, or hosts")
        planned.append(_pool(shape, nodes, "serve", pool.generation, cap_w))
    if own.nodes.value:
        shape = row(catalog.shapes(), own.shape, what="shape", path="front_door.shape")
        made = _made((spec.name, naming.FRONT_POOL), own.nodes.value, shape, _zones(spec), ranks)
        planned.append(_pool(shape, tuple(made), "front", 1, cap_w))
    return tuple(planned)


def publish_door(pools: tuple[PoolPlan, ...], door_nodes: tuple[str, ...], first_port: int) -> tuple[PoolPlan, ...]:
    """Pools whose front-door nodes publish it on local: the first on `first_port`, the next on the one after."""
    ports = {name: ((first_port + i, DOOR_PORT),) for i, name in enumerate(door_nodes)}
    return tuple(
        replace(pool, nodes=tuple(replace(n, publish=ports.get(n.name, ())) for n in pool.nodes)) for pool in pools
    )


def _pool(shape: Shape, nodes: tuple[NodePlan, ...], purpose: str, generation: int, cap_w: int | None) -> PoolPlan:
    return PoolPlan(
        name=nodes[0].pool,
        shape=shape.key,
        generation=generation,
        purpose=purpose,
        nodes=nodes,
        layers=SERVE_LAYERS if purpose == "serve" else FRONT_LAYERS,
        gpu_kind=shape.gpu,
        gpus_per_node=shape.gpus,
        node_power_w=power.node_power_w(shape, cap_w),
    )


class _Numbers:
    """Hands out ranks in order and, on local, the address that goes with each."""

    def __init__(self, spec: Region) -> None:
        self.rank = -1
        self.network = ipaddress.IPv4Network(spec.network.cidr) if isinstance(spec.provider, LocalProvider) else None
        self.room = self.network.num_addresses - FIRST_ADDRESS - 1 if self.network else None

    def next(self) -> tuple[int, str | None]:
        self.rank += 1
        if self.network is None or self.room is None:
            return self.rank, None
        if self.rank >= self.room:
            raise refuse(
                "PLAN-002", "network.cidr",
                f"{self.network} has room for {max(self.room, 0)} nodes, fewer than the region has.",
                fix=f"a wider network, or at most {max(self.room, 0)} nodes",
            )  # fmt: skip
        return self.rank, str(self.network[FIRST_ADDRESS + self.rank])


def _nodes(spec: Region, pool: Pool, shape: Shape, numbers: _Numbers) -> Iterator[NodePlan]:
    for index, host in enumerate(pool.hosts):
        rank, _ = numbers.next()
        yield NodePlan(
            name=host.name,
            pool=pool.name,
            index=index,
            rank=rank,
            shape=shape.key,
            gpus=shape.gpus,
            address=host.address,
            ssh_address=host.address,
            ssh_port=host.port,
            host_key=host.host_key,
            labels=tuple(sorted(host.labels.items())),
        )
    if not pool.hosts:
        zones = (pool.zone,) if pool.zone else _zones(spec)[:1]
        yield from _made((spec.name, pool.name), pool.nodes or 0, shape, zones, numbers)


def _made(
    pool: tuple[str, str], count: int, shape: Shape, zones: tuple[str, ...], numbers: _Numbers
) -> Iterator[NodePlan]:
    """Nodes that the provider makes for (region, pool), dealt out over the zones."""
    region, name = pool
    for index in range(count):
        rank, address = numbers.next()
        yield NodePlan(
            name=naming.node(region, name, index),
            pool=name,
            index=index,
            rank=rank,
            shape=shape.key,
            gpus=shape.gpus,
            address=address,
            zone=zones[index % len(zones)] if zones else None,
        )


def _zones(spec: Region) -> tuple[str, ...]:
    return spec.provider.zones if isinstance(spec.provider, AwsProvider) else ()
