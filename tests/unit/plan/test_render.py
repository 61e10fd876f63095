"""The page that people read. Real: spec, catalogue, plan, renderer."""

from __future__ import annotations

import json

import pytest
from aifactory.plan import build, render

from tests.unit.plan import regions


def wide(**sections: object) -> str:
    pools = [{"name": "serve", "shape": "local-cpu", "nodes": 300}]
    services = [{"name": "chat", "model": "golden-tiny", "pool": "serve", "replicas": 450}]
    return render.table(build.plan(regions.spec(pools=pools, services=services, **sections)), explain=True)


@pytest.mark.parametrize("name", ["local", "oslo-lab", "eu-sovereign"])
def test_table_fits_a_hundred_columns(name: str) -> None:
    text = render.table(build.plan(regions.example(name)), explain=True)
    assert max(map(len, text.splitlines())) <= render.WIDTH
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_table_many_copies_stay_one_page() -> None:
    text = wide()
    assert max(map(len, text.splitlines())) <= render.WIDTH
    assert len(text.split("why\n")[0].splitlines()) <= 16


def test_table_names_what_a_person_looks_for() -> None:
    text = render.table(build.plan(regions.example("oslo-lab")))
    for fact in ("oslo-lab", "Norway", "static", "16 GPUs", "2 × dgx-b200", "infiniband", "assistant", "GPU 0", "kW"):
        assert fact in text


def test_table_explain_gives_every_reason() -> None:
    plan = build.plan(regions.example("eu-sovereign"))
    flat = " ".join(render.table(plan, explain=True).split())
    for path, value in render.derived(plan):
        assert f"{path} " in flat
        assert value.reason in flat
    for path, _ in plan.defaults_taken:
        assert path in flat


def test_table_without_services_shows_no_front_door() -> None:
    text = render.table(build.plan(regions.spec(pools=[{"name": "p", "shape": "local-cpu", "nodes": 1}])))
    assert "front door" not in text
    assert "services" not in text


def test_to_dict_is_json_with_stable_order() -> None:
    plan = build.plan(regions.example("local"))
    raw = render.to_dict(plan)
    assert list(raw)[:3] == ["version", "region", "spec_digest"]
    assert json.loads(json.dumps(raw)) == json.loads(json.dumps(raw))
    assert raw["services"][0]["engine"] == {
        "value": plan.services[0].engine.value,
        "reason": plan.services[0].engine.reason,
    }
