"""Power: what a node draws at most, what the region draws, and whether the contract covers it."""

from __future__ import annotations

import math

from aifactory import catalog
from aifactory.catalog import Shape
from aifactory.plan.lookup import refuse
from aifactory.plan.model import Derived, PoolPlan, PowerPlan
from aifactory.region.spec import Power


def node_power_w(shape: Shape, cap_w_per_gpu: int | None) -> Derived[int | None]:
    """Maximum of one whole node in W, lowered by a GPU power cap; None where the catalogue does not know."""
    if shape.power_w is None:
        return Derived(None, f"the power of a {shape.key} is not known")
    gpu_w = catalog.gpus()[shape.gpu].power_w if shape.gpu else None
    if cap_w_per_gpu is None or not shape.gpus:
        return Derived(shape.power_w, f"maximum of a {shape.key}")
    if gpu_w is None or cap_w_per_gpu >= gpu_w:
        limit = "the GPUs' own limit is not known" if gpu_w is None else f"the GPUs' own limit is {gpu_w:,} W"
        return Derived(
            shape.power_w, f"maximum of a {shape.key}; the cap of {cap_w_per_gpu:,} W changes nothing: {limit}"
        )
    saved = shape.gpus * (gpu_w - cap_w_per_gpu)
    reason = f"{shape.power_w:,} W − {shape.gpus} GPUs × ({gpu_w:,} − {cap_w_per_gpu:,} W cap)"
    return Derived(max(shape.power_w - saved, 0), reason)


def region_power(pools: tuple[PoolPlan, ...], power: Power) -> PowerPlan:
    """IT and total power in kW; None with the reason as soon as one shape's power is unknown.

    Raises ProblemError PLAN-010 when even the known part is above the contract.
    """
    known_w = sum(len(p.nodes) * (p.node_power_w.value or 0) for p in pools)
    unknown = [p for p in pools if p.node_power_w.value is None]
    known_kw = known_w / 1000 * power.pue
    if power.contract_kw is not None and known_kw > power.contract_kw + 1e-9:
        raise _over(pools, power, known_kw, bool(unknown))
    if unknown:
        missing = ", ".join(sorted({p.shape for p in unknown}))
        rest = f"; the other nodes draw {known_w / 1000:,.1f} kW" if known_w else ""
        nothing: Derived[float | None] = Derived(None, f"the power of {missing} is not known{rest}")
        return PowerPlan(nothing, nothing, power.contract_kw, power.cap_w_per_gpu, power.profile)
    it_kw = round(known_w / 1000, 3)
    terms = " + ".join(f"{len(p.nodes)} × {p.node_power_w.value or 0:,} W" for p in pools)
    pue = f"× PUE {power.pue:g}" if power.pue != 1 else "PUE 1.0: cooling and losses of the site are not counted"
    return PowerPlan(
        Derived(it_kw, terms),
        Derived(round(it_kw * power.pue, 3), f"{it_kw:,.1f} kW {pue}" if power.pue != 1 else pue),
        power.contract_kw,
        power.cap_w_per_gpu,
        power.profile,
    )


def _over(pools: tuple[PoolPlan, ...], power: Power, known_kw: float, more: bool) -> Exception:
    least = "at least " if more else ""
    contract_kw = power.contract_kw or 0.0
    return refuse(
        "PLAN-010", "power.contract_kw",
        f"The region draws {least}{known_kw:,.1f} kW (PUE {power.pue:g} included); "
        f"the contract is for {contract_kw:,.1f} kW.",
        nearest=tuple(_what_fits(pools, power, known_kw, contract_kw)),
    )  # fmt: skip


def _what_fits(pools: tuple[PoolPlan, ...], power: Power, known_kw: float, contract_kw: float) -> list[str]:
    """A power cap and a node count that would bring the largest pool under the contract."""
    largest = max(pools, key=lambda p: len(p.nodes) * (p.node_power_w.value or 0))
    node_w = largest.node_power_w.value or 0
    excess_w = (known_kw - contract_kw) * 1000 / power.pue
    fits = []
    gpus = len(largest.nodes) * largest.gpus_per_node
    gpu_w = catalog.gpus()[largest.gpu_kind].power_w if largest.gpu_kind else None
    if gpus and gpu_w:
        now_w = min(power.cap_w_per_gpu or gpu_w, gpu_w)
        cap_w = math.floor((now_w - excess_w / gpus) / 10) * 10
        if cap_w >= gpu_w / 2:  # below half its limit a GPU is another GPU
            fits.append(f"power.cap_w_per_gpu: {cap_w}")
    nodes = len(largest.nodes) - math.ceil(excess_w / node_w - 1e-9)
    if nodes >= 1:
        fits.append(f"{nodes} nodes in pool {largest.name}")
    fits.append(f"power.contract_kw: {math.ceil(known_kw)}")
    return fits
