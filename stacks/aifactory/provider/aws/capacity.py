"""How an instance is asked for: at the list price, out of what is reserved, or as a spot instance."""

from __future__ import annotations

from typing import Any, Literal

CapacityKind = Literal["on_demand", "reservation", "capacity_block", "spot"]
RESERVED: tuple[CapacityKind, ...] = ("reservation", "capacity_block")
"""Kinds that need an id."""


def options(kind: CapacityKind, capacity_id: str) -> dict[str, Any]:
    """Arguments of RunInstances, and of a launch template's data, which has them under the same names.

    A target without a preference is the only capacity that is used: what does not fit in is refused, not bought.
    Source: botocore 1.44.8, ec2/2016-11-15: CapacityReservationSpecification, InstanceMarketOptionsRequest.
    """
    found: dict[str, Any] = {}
    if kind in RESERVED:
        name = "CapacityReservationResourceGroupArn" if capacity_id.startswith("arn:") else "CapacityReservationId"
        found["CapacityReservationSpecification"] = {"CapacityReservationTarget": {name: capacity_id}}
    if kind == "capacity_block":
        found["InstanceMarketOptions"] = {"MarketType": "capacity-block"}
    if kind == "spot":
        spot = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
        found["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": spot}
    return found
