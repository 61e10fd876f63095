"""Pools and their nodes: names, ranks, addresses, what is configured on them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from aifactory import catalog, naming
from aifactory.catalog import Shape
from aifactory.plan import power
from aifactory.plan.addresses import Addresses
from aifactory.plan.lookup import refuse, row
from aifactory.plan.model import Derived, NodePlan, PoolPlan
from aifactory.region.spec import AwsProvider, LocalProvider, Region, StaticProvider

SERVE_LAYERS = ("host", "fabric", "gpu", "runtime")
"""In order: what the fabric needs stands before the driver is built against it."""
FRONT_LAYERS = ("host",)

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
    """The user's pools in file order, then the front door's; ranks run through all of them."""
    addresses = Addresses(spec)
    cap_w = spec.power.cap_w_per_gpu
    planned = []
    for place, pool in enumerate(spec.pools):
        shape = row(catalog.shapes(), pool.shape, what="shape", path=f"pools[{place}].shape")
        nodes = tuple(_nodes(spec, place, shape, addresses))
        if not nodes:
            raise refuse("PLAN-011", f"pools[{place}]", f"Pool {pool.name} has no nodes.", fix="nodes: 1, or hosts")
        planned.append(_pool(shape, nodes, "serve", pool.generation, cap_w))
    if own.nodes.value:
        shape = row(catalog.shapes(), own.shape, what="shape", path="front_door.shape")
        where = [addresses.front(index) for index in range(own.nodes.value)]
        made = _made((spec.name, naming.FRONT_POOL), shape, where, planned[0].nodes[0].zone)
        planned.append(_pool(shape, tuple(made), "front", 1, cap_w))
    return _ranked(planned)


def _ranked(pools: Sequence[PoolPlan]) -> tuple[PoolPlan, ...]:
    ranks = itertools.count()
    return tuple(replace(p, nodes=tuple(replace(n, rank=next(ranks)) for n in p.nodes)) for p in pools)


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


def _nodes(spec: Region, place: int, shape: Shape, addresses: Addresses) -> Iterator[NodePlan]:
    """Nodes of the pool at that place of the file; ranks follow later."""
    pool = spec.pools[place]
    for index, host in enumerate(pool.hosts):
        yield NodePlan(
            name=host.name,
            pool=pool.name,
            index=index,
            rank=index,
            shape=shape.key,
            gpus=shape.gpus,
            address=host.address,
            ssh_address=host.address,
            ssh_port=host.port,
            host_key=host.host_key,
            labels=tuple(sorted(host.labels.items())),
        )
    count = 0 if pool.hosts else pool.nodes or 0
    addresses.check(place, count)
    where = [addresses.pool(place, index) for index in range(count)]
    yield from _made((spec.name, pool.name), shape, where, pool.zone or next(iter(_zones(spec)), None))


def _made(pool: tuple[str, str], shape: Shape, addresses: Sequence[str | None], zone: str | None) -> Iterator[NodePlan]:
    """Nodes that the provider makes for (region, pool), one an address, all in one zone: a pool has one subnet."""
    region, name = pool
    for index, address in enumerate(addresses):
        yield NodePlan(
            name=naming.node(region, name, index),
            pool=name,
            index=index,
            rank=index,
            shape=shape.key,
            gpus=shape.gpus,
            address=address,
            zone=zone,
        )


def _zones(spec: Region) -> tuple[str, ...]:
    return spec.provider.zones if isinstance(spec.provider, AwsProvider) else ()
