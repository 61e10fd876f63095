"""Engine, format, fit and placement of services. Real: spec, catalogue, plan."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from aifactory import catalog
from aifactory.errors import Problem, ProblemError
from aifactory.plan import build, engines, fit
from aifactory.plan.model import ServicePlan

from tests.unit.plan import regions

NODE = "dgx-b200"
BIG = "apertus-70b"
TINY = "golden-tiny"


def services(spec: Any) -> tuple[ServicePlan, ...]:
    return build.plan(spec).services


def refused(spec: Any) -> tuple[Problem, ...]:
    with pytest.raises(ProblemError) as caught:
        build.plan(spec)
    return caught.value.problems


def hosted(nodes: int = 2, *asked: dict[str, Any], **sections: Any) -> Any:
    items = [{"name": f"s{i}", "model": BIG, "pool": "p", **a} for i, a in enumerate(asked or ({},))]
    return regions.static(NODE, nodes, services=items, **sections)


def test_engine_auto_takes_what_the_hardware_runs() -> None:
    (on_gpus,) = services(hosted())
    assert "nvidia" in catalog.engines()[on_gpus.engine.value].vendors
    (on_cpus,) = services(regions.example("local"))
    assert "cpu" in catalog.engines()[on_cpus.engine.value].vendors


def test_engine_asked_that_does_not_serve_the_model_names_those_that_do() -> None:
    (problem,) = refused(hosted(1, {"engine": "llama-cpp"}))
    assert (problem.rule, problem.path) == ("PLAN-005", "services[0].engine")
    assert set(problem.nearest) <= set(catalog.models()[BIG].engines)


def test_engine_gpu_model_on_cpus_is_refused() -> None:
    spec = regions.spec(
        pools=[{"name": "p", "shape": "local-cpu", "nodes": 1}], services=[{"name": "a", "model": BIG, "pool": "p"}]
    )
    (problem,) = refused(spec)
    assert problem.rule == "PLAN-005"
    assert "GPUs" in problem.nearest[0]


@pytest.mark.parametrize("key", sorted(catalog.models()))
def test_engine_auto_never_takes_one_that_needs_a_licence(key: str) -> None:
    """The catalogue lists engines in the order of preference; a licensed one comes last or by name."""
    model = catalog.models()[key]
    free = [e for e in model.engines if e != "nim"]
    assert model.engines[: len(free)] == tuple(free)


def test_precision_asked_that_the_model_lacks_names_what_it_has() -> None:
    (problem,) = refused(hosted(1, {"precision": "mxfp4"}))
    assert (problem.rule, problem.path) == ("PLAN-006", "services[0].precision")
    assert "bf16" in problem.nearest


def test_precision_auto_is_the_most_exact_that_one_node_holds() -> None:
    (service,) = services(hosted())
    assert service.precision.value == "bf16"


def test_exact_first_orders_formats() -> None:
    assert engines.exact_first(["int4", "fp8", "bf16"]) == ("bf16", "fp8", "int4")


def test_fit_says_what_it_counted() -> None:
    (service,) = services(hosted(1, {"precision": "fp8"}))
    assert service.tensor_parallel.value == 1
    assert "180" in service.tensor_parallel.reason
    assert service.weights_gib.value is not None


def test_fit_context_longer_than_the_models_own_is_refused() -> None:
    spec = regions.spec(
        pools=[{"name": "p", "shape": "local-cpu", "nodes": 1}],
        services=[{"name": "a", "model": TINY, "pool": "p", "context_tokens": 1_000_000}],
    )
    (problem,) = refused(spec)
    assert (problem.rule, problem.path) == ("PLAN-009", "services[0].context_tokens")
    assert problem.nearest == (str(catalog.models()[TINY].context_tokens),)


def ask(**changes: Any) -> fit.Ask:
    """A 70-billion-parameter model with a known cache on one node of eight 80 GB GPUs."""
    gpu = dataclasses.replace(next(iter(catalog.gpus().values())), memory_gb=80, name="80 GB GPU")
    model = dataclasses.replace(
        catalog.models()[BIG],
        weights_gb={"bf16": 141.0, "fp8": 74.0},
        kv_bytes_per_token=327_680,
        attention_heads=64,
        kv_heads=8,
        context_tokens=131_072,
    )
    shape = dataclasses.replace(catalog.shapes()[NODE], gpus=8)
    service = hosted(1, changes.pop("service", {})).services[0]
    given = {"service": service, "model": model, "shape": shape, "gpu": gpu, "formats": ("bf16", "fp8"), "nodes": 1}
    return fit.Ask(**{**given, "provider": "static", "path": "services[0]", **changes})


def test_fit_known_cache_gives_context_and_concurrency() -> None:
    how = fit.fit(ask())
    assert (how.precision.value, how.split.gpus) == ("bf16", 4)
    assert how.context_tokens.value == 131_072
    assert how.parallel_requests.value == (how.split.tokens or 0) // 131_072


def test_fit_short_context_batches_more_but_not_beyond_the_engines_ceiling() -> None:
    how = fit.fit(ask(service={"context_tokens": 256}))
    assert how.parallel_requests.value == fit.MAX_PARALLEL


def test_fit_context_that_does_not_fit_is_cut_to_what_does() -> None:
    asked = ask(formats=("bf16",))
    how = fit.fit(dataclasses.replace(asked, model=dataclasses.replace(asked.model, context_tokens=10_000_000)))
    assert how.context_tokens.value % 1024 == 0
    assert how.context_tokens.value <= (how.split.tokens or 0)
    assert "10,000,000" in how.context_tokens.reason


def test_fit_less_exact_format_when_the_exact_one_needs_two_nodes() -> None:
    small = dataclasses.replace(catalog.shapes()[NODE], gpus=2)
    how = fit.fit(ask(shape=small, nodes=4))
    assert (how.precision.value, how.split.nodes) == ("fp8", 1)
    assert "bf16 takes more than one node" in how.precision.reason


def test_fit_too_big_names_another_format_and_bigger_shapes() -> None:
    tiny = dataclasses.replace(catalog.shapes()[NODE], key="small", gpus=2)
    with pytest.raises(ProblemError) as caught:
        fit.fit(ask(shape=tiny, formats=("bf16",)))
    (problem,) = caught.value.problems
    assert problem.rule == "PLAN-007"
    assert "precision: fp8" in problem.nearest
    shapes = [n.removeprefix("shape: ") for n in problem.nearest if n.startswith("shape: ")]
    assert shapes
    for key in shapes:
        shape = catalog.shapes()[key]
        assert "static" in shape.providers
        assert fit.fit(ask(shape=shape, gpu=catalog.gpus()[shape.gpu or ""], formats=("bf16",)))


def test_fit_context_too_long_names_the_one_that_fits() -> None:
    tiny = dataclasses.replace(catalog.shapes()[NODE], key="small", gpus=4)
    asked = ask(shape=tiny, formats=("bf16",), service={"context_tokens": 900_000})
    model = dataclasses.replace(asked.model, context_tokens=1_000_000)
    with pytest.raises(ProblemError) as caught:
        fit.fit(dataclasses.replace(asked, model=model))
    named = next(n for n in caught.value.problems[0].nearest if n.startswith("context_tokens: "))
    shorter = dataclasses.replace(
        asked, model=model, service=hosted(1, {"context_tokens": int(named.split()[1])}).services[0]
    )
    assert fit.fit(shorter).split.nodes == 1


def test_fit_cpu_node_too_small_names_the_context_that_fits() -> None:
    shape = dataclasses.replace(catalog.shapes()["local-cpu"], memory_gib=32.0)
    asked = ask(shape=shape, gpu=None, formats=("fp8",))
    small = dataclasses.replace(asked.model, weights_gb={"fp8": 8.0})
    with pytest.raises(ProblemError) as caught:
        fit.fit(dataclasses.replace(asked, model=small))
    (problem,) = caught.value.problems
    assert problem.rule == "PLAN-007"
    assert problem.nearest[0].startswith("context_tokens: ")


def test_place_copies_spread_before_they_share_a_node() -> None:
    (service,) = services(hosted(2, {"replicas": 4, "precision": "fp8"}))
    assert [(r.nodes, r.gpu_indices, r.port) for r in service.replicas] == [
        (("h1",), (0,), 8000),
        (("h2",), (0,), 8000),
        (("h1",), (1,), 8001),
        (("h2",), (1,), 8001),
    ]


def test_place_second_service_takes_free_gpus_and_one_port_on_all_its_nodes() -> None:
    first, second = services(hosted(2, {"precision": "fp8"}, {"precision": "fp8", "replicas": 2}))
    assert [r.port for r in first.replicas] == [8000]
    assert {r.port for r in second.replicas} == {8001}
    taken = [(node, gpu) for s in (first, second) for r in s.replicas for node in r.nodes for gpu in r.gpu_indices]
    assert len(set(taken)) == len(taken)


def test_place_aligned_gpus() -> None:
    _, wide = services(hosted(1, {"precision": "fp8"}, {"precision": "bf16"}))
    start = wide.replicas[0].gpu_indices[0]
    assert start % wide.tensor_parallel.value == 0
    assert wide.replicas[0].gpu_indices == tuple(range(start, start + wide.tensor_parallel.value))


def test_place_too_few_gpus_names_the_copies_and_nodes_that_do() -> None:
    (problem,) = refused(hosted(1, {"replicas": 9, "precision": "fp8"}))
    assert (problem.rule, problem.path) == ("PLAN-008", "services[0].replicas")
    assert problem.nearest == ("replicas: 8", "2 nodes in pool p")


def test_place_cpu_copies_share_nodes_when_they_must() -> None:
    spec = regions.spec(
        pools=[{"name": "p", "shape": "local-cpu", "nodes": 2}],
        services=[{"name": "a", "model": TINY, "pool": "p", "replicas": 3}],
    )
    (service,) = services(spec)
    assert [(r.nodes[0], r.port) for r in service.replicas] == [
        ("lab-p-000", 8000),
        ("lab-p-001", 8000),
        ("lab-p-000", 8001),
    ]


def test_services_every_problem_is_told_at_once() -> None:
    problems = refused(
        hosted(1, {"model": "apertus-70"}, {"pool": "q"}, {"precision": "mxfp4"}, power={"contract_kw": 1})
    )
    assert [p.rule for p in problems] == ["PLAN-001", "PLAN-004", "PLAN-006", "PLAN-010"]
    unknown = next(p for p in problems if p.rule == "PLAN-001")
    assert unknown.nearest[0] == BIG
