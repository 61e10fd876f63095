"""The whole plan: golden files, purity, digests. Real: spec, catalogue, plan. Update the golden files with
`UPDATE_GOLDEN=1 pytest tests/unit/plan/test_build.py` and read the diff."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from aifactory.errors import ProblemError
from aifactory.plan import build, render
from aifactory.region import loader

from tests.unit.plan import regions

GOLDEN = Path(__file__).parents[2] / "golden" / "plan"
PLAN = Path(build.__file__).parent
EXAMPLES = ("local", "oslo-lab", "eu-sovereign")


def golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("name", EXAMPLES)
def test_plan_example_region_matches_its_golden_file(name: str) -> None:
    plan = build.plan(regions.example(name))
    golden(f"{name}.json", json.dumps(render.to_dict(plan), indent=1, ensure_ascii=False) + "\n")


@pytest.mark.parametrize("name", EXAMPLES)
def test_table_example_region_matches_its_golden_file(name: str) -> None:
    plan = build.plan(regions.example(name))
    golden(f"{name}.txt", render.table(plan, explain=True) + "\n")


def test_plan_1024_nodes_matches_its_golden_digest() -> None:
    chat = {"name": "chat", "model": "golden-tiny", "pool": "serve", "replicas": 1024}
    spec = regions.spec(name="wide", pools=[{"name": "serve", "shape": "local-cpu", "nodes": 1024}], services=[chat])
    plan = build.plan(spec)
    assert len(plan.pools[0].nodes) == 1024
    assert plan.services[0].replicas[1023].nodes == ("wide-serve-1023",)
    text = json.dumps(render.to_dict(plan), ensure_ascii=False)
    golden("wide.sha256", hashlib.sha256(text.encode()).hexdigest() + "\n")


def test_plan_same_spec_same_plan() -> None:
    assert build.plan(regions.example("oslo-lab")) == build.plan(regions.example("oslo-lab"))


def test_digest_defaults_written_out_change_nothing() -> None:
    pools = [{"name": "serve", "shape": "local-cpu", "nodes": 1}]
    written = regions.spec(pools=[{**pools[0], "generation": 1}], power={"pue": 1.0})
    assert build.plan(regions.spec(pools=pools)).spec_digest == build.plan(written).spec_digest
    changed = regions.spec(pools=pools, power={"pue": 1.1})
    assert build.plan(regions.spec(pools=pools)).spec_digest != build.plan(changed).spec_digest


def test_plan_needs_no_network_and_no_environment() -> None:
    """A fresh interpreter without environment, in which opening a socket raises, plans all examples."""
    program = """
import socket, sys
def closed(*_args, **_kwargs):
    raise AssertionError("the plan opened a socket")
socket.socket = socket.create_connection = socket.getaddrinfo = closed
from aifactory.plan import build, render
from tests.unit.plan import regions
for name in ("local", "oslo-lab", "eu-sovereign"):
    assert render.table(build.plan(regions.example(name)), explain=True)
heavy = {"pulumi", "boto3", "ansible", "ansible_runner", "httpx", "grpc", "cryptography"} & set(sys.modules)
assert not heavy, heavy
"""
    repo = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", program], env={}, cwd=repo, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_modules_of_the_plan_import_nothing_that_reaches_out() -> None:
    allowed = {"aifactory", "pydantic", "__future__"} | set(sys.stdlib_module_names)
    banned = {
        "os",
        "socket",
        "subprocess",
        "time",
        "datetime",
        "random",
        "urllib",
        "http",
        "pathlib",
        "secrets",
        "uuid",
    }
    for path in PLAN.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                top = name.partition(".")[0]
                assert top in allowed, f"{path.name}: {name}"
                assert top not in banned, f"{path.name}: {name}"


@pytest.mark.parametrize("name", EXAMPLES)
def test_plan_every_derived_value_has_a_reason(name: str) -> None:
    plan = build.plan(regions.example(name))
    values = list(render.derived(plan))
    assert len(values) > 10
    assert all(d.reason for _, d in values)
    assert all(p.node_power_w.reason for p in plan.pools)


def test_plan_defaults_taken_leaves_out_what_the_file_gives() -> None:
    given = build.plan(regions.spec(pools=[{"name": "p", "shape": "local-cpu", "nodes": 1}], power={"pue": 1.0}))
    left = build.plan(regions.spec(pools=[{"name": "p", "shape": "local-cpu", "nodes": 1}]))
    assert ("power.pue", "1") in left.defaults_taken
    assert "power.pue" not in dict(given.defaults_taken)
    assert dict(left.defaults_taken)["acceptance.level"] == "l1"


def test_plan_driver_only_with_nvidia_gpus() -> None:
    assert build.plan(regions.example("local")).driver is None
    driver = build.plan(regions.example("oslo-lab")).driver
    assert driver
    assert driver.branch.value == "580"
    assert (driver.version.value or "").startswith("580.")


def test_plan_client_named_like_the_regions_own_is_refused() -> None:
    spec = regions.spec(
        pools=[{"name": "serve", "shape": "local-cpu", "nodes": 1}],
        services=[{"name": "chat", "model": "golden-tiny", "pool": "serve"}],
        front_door={"clients": [{"name": "aifactory", "key_sha256": "0" * 64}]},
    )
    with pytest.raises(ProblemError) as caught:
        build.plan(spec)
    assert caught.value.problems[0].rule == "PLAN-012"


def test_of_problem_has_its_place_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(
        "version: 1\nname: lab\njurisdiction: {country: DE}\nprovider: {kind: local}\n"
        "pools:\n  - {name: p, shape: local-cpu, nodes: 1}\n"
        "services:\n  - {name: chat, model: golden-tiny, pool: p}\n"
        f"front_door: {{clients: [{{name: aifactory, key_sha256: {'0' * 63}a}}]}}\n",
        encoding="utf-8",
    )
    loaded = loader.load(path)
    with pytest.raises(ProblemError) as caught:
        build.of(loaded)
    (problem,) = caught.value.problems
    assert problem.place is not None
    assert (problem.place.line, problem.path) == (9, "front_door.clients[0].name")
