"""What the nodes cost. Real: spec, catalogue, plan. Numbers are asked of the price list, not typed in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aifactory import catalog
from aifactory.plan import build, render
from aifactory.plan.cost import HOURS_A_MONTH
from aifactory.plan.model import CostPlan
from aifactory.region.spec import Region

ROW = catalog.prices()["p5en.48xlarge@us-east-1"]


def cost(**changes: Any) -> CostPlan:
    found = build.plan(region(**changes)).cost
    assert found is not None
    return found


def region(*, where: str = ROW.region, nodes: int = 4, capacity: dict[str, Any] | None = None, **more: Any) -> Region:
    return Region.model_validate_json(
        json.dumps(
            {
                "version": 1,
                "name": "case",
                "jurisdiction": {"country": "US"},
                "provider": {
                    "kind": "aws", "partition": "aws", "region": where, "account": "123456789012",
                    "zones": [f"{where}a"], "credentials": {"profile": "case"},
                },
                "pools": [{"name": "train", "shape": ROW.shape, "nodes": nodes, "capacity": capacity or {}}],
                **more,
            }
        )
    )  # fmt: skip


def test_listed_price_counts_nodes_hours_and_says_its_date() -> None:
    found = cost()
    assert ROW.per_hour is not None
    assert found.per_hour.value == pytest.approx(4 * ROW.per_hour)
    assert found.per_month.value == pytest.approx(4 * ROW.per_hour * HOURS_A_MONTH)
    assert str(catalog.source("prices", ROW.key, "per_hour").checked) in found.per_hour.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"where": "eu-central-1"}, "no price of p5en.48xlarge in eu-central-1 is known"),
        ({"capacity": {"kind": "spot"}}, "a spot has the price of its day"),
        ({"cost": {"currency": "EUR"}}, "the list has p5en.48xlarge in USD, the file asks for EUR"),
    ],
)
def test_unknown_price_is_unknown_and_never_nothing(changes: dict[str, Any], reason: str) -> None:
    found = cost(**changes)
    assert found.per_hour.value is None
    assert found.per_month.value is None
    assert reason in found.per_hour.reason
    assert f"cost        unknown: train: {reason}"[:60] in render.table(build.plan(region(**changes)))


def test_own_price_of_the_file_comes_first_and_has_its_currency() -> None:
    found = cost(where="eu-central-1", cost={"currency": "EUR", "per_hour": {ROW.shape: 50.5}})
    assert (found.per_hour.value, found.currency) == (202.0, "EUR")
    assert "the file's own price" in found.per_hour.reason


def test_one_pool_without_a_price_makes_the_whole_unknown_and_the_rest_is_said() -> None:
    found = cost(
        front_door={"nodes": 1},
        services=[{"name": "chat", "model": "llama-3.1-8b", "pool": "train"}],
    )
    assert found.per_hour.value is None
    assert "the other pools cost" in found.per_hour.reason


def test_hosts_that_exist_cost_nothing_by_the_hour_unless_somebody_says_so() -> None:
    from tests.unit.plan import regions

    assert build.plan(regions.static("dgx-b200", 1)).cost is None
    owned = build.plan(regions.static("dgx-b200", 2, cost={"currency": "EUR", "per_hour": {"dgx-b200": 30.0}}))
    assert owned.cost is not None
    assert owned.cost.per_hour.value == 60.0
