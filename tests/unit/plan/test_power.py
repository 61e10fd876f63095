"""Power and contract. Real: spec, catalogue, plan."""

from __future__ import annotations

import dataclasses

import pytest
from aifactory import catalog
from aifactory.errors import ProblemError
from aifactory.plan import build, power

from tests.unit.plan import regions

NODE = "dgx-b200"


def test_region_power_known_shape_counts_nodes_and_pue() -> None:
    plan = build.plan(regions.static(NODE, 2, power={"pue": 1.25}))
    node_w = catalog.shapes()[NODE].power_w or 0
    assert plan.power.it_kw.value == 2 * node_w / 1000
    assert plan.power.total_kw.value == pytest.approx(2 * node_w / 1000 * 1.25)


def test_region_power_pue_of_one_says_what_is_left_out() -> None:
    plan = build.plan(regions.static(NODE, 1))
    assert "not counted" in plan.power.total_kw.reason


def test_region_power_unknown_shape_is_none_with_the_reason() -> None:
    plan = build.plan(regions.example("local"))
    assert plan.power.it_kw.value is None
    assert "local-cpu" in plan.power.it_kw.reason


def test_node_power_cap_lowers_it_by_what_the_gpus_save() -> None:
    shape = catalog.shapes()[NODE]
    gpu_w = catalog.gpus()[shape.gpu or ""].power_w or 0
    capped = power.node_power_w(shape, gpu_w - 100)
    assert capped.value == (shape.power_w or 0) - shape.gpus * 100
    assert power.node_power_w(shape, gpu_w + 1).value == shape.power_w
    assert power.node_power_w(dataclasses.replace(shape, power_w=None), 500).value is None


def test_region_power_above_the_contract_names_what_fits() -> None:
    with pytest.raises(ProblemError) as caught:
        build.plan(regions.static(NODE, 4, power={"contract_kw": 50, "pue": 1.0}))
    (problem,) = caught.value.problems
    assert (problem.rule, problem.path) == ("PLAN-010", "power.contract_kw")
    edits = dict(n.split(": ") for n in problem.nearest if ": " in n)
    capped = regions.static(
        NODE, 4, power={"contract_kw": 50, "pue": 1.0, "cap_w_per_gpu": int(edits["power.cap_w_per_gpu"])}
    )
    total = build.plan(capped).power.total_kw.value
    assert total is not None
    assert 49 < total <= 50
    assert "3 nodes in pool p" in problem.nearest


def test_region_power_known_part_above_the_contract_is_enough_to_refuse() -> None:
    plan = build.plan(regions.static(NODE, 2))
    unknown = dataclasses.replace(
        plan.pools[0], name="u", node_power_w=dataclasses.replace(plan.pools[0].node_power_w, value=None)
    )
    limits = regions.static(NODE, 2, power={"contract_kw": 10}).power
    with pytest.raises(ProblemError, match="at least"):
        power.region_power((plan.pools[0], unknown), limits)
