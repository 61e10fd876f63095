"""The network between GPUs of different nodes, and the storage beside it."""

from __future__ import annotations

from aifactory import catalog
from aifactory.catalog import Shape
from aifactory.plan.model import Derived, FabricPlan, PoolPlan, StoragePlan
from aifactory.region.spec import Region, RoceClass, Storage

RAILED = {"infiniband", "roce", "efa"}
"""Fabrics on which the NICs of one position on every node meet on a network of their own, a rail."""


CARDED = ("infiniband", "roce")
"""Fabrics whose compute cards are chosen among the RDMA devices of a node."""


def fabric(spec: Region, pools: tuple[PoolPlan, ...]) -> FabricPlan:
    """Fabric of the first pool with GPUs, in file order; all zero where no pool has any."""
    with_gpus = [p for p in pools if p.gpus_per_node]
    if not with_gpus:
        asked = spec.fabric.kind
        kind = Derived("none", "no pool has GPUs") if asked is None else Derived(asked, "as asked")
        none: Derived[int | None] = Derived(0, "no pool has GPUs")
        return FabricPlan(kind, none, Derived(None, "no pool has GPUs"), none, Derived("none", "no pool has GPUs"))
    shape = catalog.shapes()[with_gpus[0].shape]
    kind = _kind(spec.fabric.kind, shape, with_gpus)
    nics = _nics(kind.value, shape)
    if kind.value == "none" or nics.value is None:
        rails = Derived(nics.value, nics.reason)
    elif kind.value in RAILED:
        rails = Derived(nics.value, "one rail a NIC")
    else:
        rails = Derived(1, f"{kind.value} has no rails: one network")
    efa = spec.fabric.efa_installer if kind.value == "efa" else None
    return FabricPlan(
        kind=kind,
        nics_per_node=nics,
        line_rate_gbit_s=_line_rate(kind.value, nics.value, shape),
        rails=rails,
        stack=_stack(kind.value, spec.fabric.stack),
        efa_installer=(efa.version, efa.sha256, efa.url or "") if efa else None,
        exclude_hcas=spec.fabric.exclude_hcas if kind.value in CARDED else (),
        roce=_roce(spec.fabric.roce) if kind.value == "roce" else (),
    )


def _roce(asked: RoceClass) -> tuple[tuple[str, int], ...]:
    return tuple((name, value) for name, value in asked.model_dump().items() if value is not None)


def _stack(kind: str, asked: str | None) -> Derived[str]:
    if kind == "efa":
        return Derived("efa", "the fabric's own")
    if kind not in RAILED:
        return Derived("none", f"{kind} has no cards of its own" if kind != "none" else "no fabric")
    return Derived(asked, "as asked") if asked else Derived("inbox", "the distribution's own")


def _kind(asked: str | None, shape: Shape, with_gpus: list[PoolPlan]) -> Derived[str]:
    if asked is not None:
        return Derived(asked, "as asked")
    shapes = catalog.shapes()
    others = sorted({p.name for p in with_gpus if shapes[p.shape].fabric != shape.fabric})
    more = f"; pools {', '.join(others)} have another" if others else ""
    return Derived(shape.fabric, f"what a {shape.key} has{more}")


def _nics(kind: str, shape: Shape) -> Derived[int | None]:
    if kind == "none":
        return Derived(0, "no fabric")
    if kind == "efa" and shape.efa_cards:
        return Derived(shape.efa_cards, f"EFA cards of a {shape.key}")
    if shape.nics is None:
        return Derived(None, f"the NICs of a {shape.key} are not known")
    return Derived(shape.nics, f"NICs of a {shape.key}")


def _line_rate(kind: str, nics: int | None, shape: Shape) -> Derived[float | None]:
    if kind == "none":
        return Derived(None, "no fabric")
    if shape.nic_gbit_s is None or nics is None:
        return Derived(None, f"the line rate of a {shape.key} is not known")
    total = f"{nics} × {shape.nic_gbit_s:g} = {nics * shape.nic_gbit_s:,g} Gbit/s a node"
    return Derived(shape.nic_gbit_s, f"NIC of a {shape.key}; {total}")


def storage(items: tuple[Storage, ...]) -> tuple[StoragePlan, ...]:
    """The spec's storage with its throughput worked out where size and rate are given."""
    return tuple(
        StoragePlan(
            name=s.name, kind=s.kind, mount=s.mount, capacity_gib=s.capacity_gib, throughput_mb_s=_throughput(s)
        )
        for s in items
    )


def _throughput(item: Storage) -> Derived[int | None]:
    if item.throughput_mb_s_per_tib is None or item.capacity_gib is None:
        return Derived(None, "neither capacity nor rate is given" if item.capacity_gib is None else "no rate is given")
    total = round(item.capacity_gib / 1024 * item.throughput_mb_s_per_tib)
    return Derived(total, f"{item.capacity_gib / 1024:,.1f} TiB × {item.throughput_mb_s_per_tib:,} MB/s for each TiB")
