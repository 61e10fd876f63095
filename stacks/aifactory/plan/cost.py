"""What a region's nodes cost: the file's own prices, else the dated price list; unknown is said, never counted as 0."""

from __future__ import annotations

from aifactory import catalog
from aifactory.plan.model import CostPlan, Derived, PoolPlan
from aifactory.region.spec import AwsProvider, Region

HOURS_A_MONTH = 730
"""8,760 hours a year over twelve months."""
LISTED = ("on_demand", "reservation")
"""Kinds of capacity that cost what the list says; a capacity block and spot have prices of the day."""


def cost(spec: Region, pools: tuple[PoolPlan, ...]) -> CostPlan | None:
    """The cost of all nodes. Storage, traffic, addresses and licences come on top."""
    if not isinstance(spec.provider, AwsProvider) and not spec.cost.per_hour:
        return None
    each = tuple((p.name, _pool(spec, p)) for p in pools)
    missing = [f"{name}: {found.reason}" for name, found in each if found.value is None]
    if missing:
        known = sum(found.value or 0.0 for _, found in each)
        rest = f"; the other pools cost {known:,.2f} {spec.cost.currency}/h" if known else ""
        nothing: Derived[float | None] = Derived(None, "; ".join(missing) + rest)
        return CostPlan(spec.cost.currency, each, nothing, nothing)
    hour = round(sum(found.value or 0.0 for _, found in each), 4)
    return CostPlan(
        spec.cost.currency,
        each,
        Derived(hour, " + ".join(found.reason for _, found in each) + "; nodes alone"),
        Derived(round(hour * HOURS_A_MONTH, 2), f"{hour:,.2f} × {HOURS_A_MONTH} hours"),
    )


def _pool(spec: Region, pool: PoolPlan) -> Derived[float | None]:
    """An hour of all nodes of one pool."""
    price, source = _price(spec, pool)
    if price is None:
        return Derived(None, source)
    return Derived(round(len(pool.nodes) * price, 4), f"{len(pool.nodes):,} × {price:g} ({source})")


def _price(spec: Region, pool: PoolPlan) -> tuple[float | None, str]:
    own = spec.cost.per_hour.get(pool.shape)
    if own is not None:
        return own, "the file's own price"
    if not isinstance(spec.provider, AwsProvider):
        return None, f"nobody has said what a {pool.shape} costs"
    kind = next((p.capacity.kind for p in spec.pools if p.name == pool.name), "on_demand")
    if kind not in LISTED:
        return None, f"a {kind} has the price of its day"
    row = catalog.prices().get(f"{pool.shape}@{spec.provider.region}")
    if row is None or row.cloud != spec.provider.partition or row.per_hour is None:
        return None, f"no price of {pool.shape} in {spec.provider.region} is known"
    if row.currency != spec.cost.currency:
        return None, f"the list has {pool.shape} in {row.currency}, the file asks for {spec.cost.currency}"
    checked = catalog.source("prices", row.key, "per_hour").checked
    return row.per_hour, f"list of {checked}"
