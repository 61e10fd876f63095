"""Reading region files: limits, names, places, what a load touches. Real: files, sockets switched off, a subprocess."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aifactory.errors import Problem, ProblemError
from aifactory.plan import build
from aifactory.region import loader

from tests.unit.region import cases

LOCAL = (cases.CASES / "region" / "file.ok.local.yaml").read_text()


def refusal(call: Callable[[], object]) -> Problem:
    with pytest.raises(ProblemError) as caught:
        call()
    (problem,) = caught.value.problems
    return problem


def write(folder: Path, name: str, content: str = LOCAL) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(content.replace("name: case", f"name: {name}"))
    return path


def test_load_ten_megabytes_refused_without_parsing(tmp_path: Path) -> None:
    path = write(tmp_path, "case", LOCAL + "# " + "x" * 10_000_000)
    started = time.perf_counter()
    assert refusal(lambda: loader.load(path)).rule == "SPEC-002"
    assert time.perf_counter() - started < 0.1


def test_load_too_many_values_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "case", LOCAL + "labels: {" + ",".join(f"a{i}: b" for i in range(60_000)) + "}\n")
    assert refusal(lambda: loader.load(path)).rule == "SPEC-002"


@pytest.mark.parametrize("what", ["missing.yaml", ".", "pipe", "null\0byte.yaml"])
def test_load_what_is_no_file_refused(what: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer for ever
    problem = refusal(lambda: loader.load(tmp_path / what))
    assert problem.rule == "SPEC-001"


def test_load_gives_places_of_keys_and_values(tmp_path: Path) -> None:
    loaded = loader.load(write(tmp_path, "case"))
    value = loaded.positions.value(("pools", 0, "shape"))
    key = loaded.positions.key(("pools", 0, "shape"))
    assert (value.line, value.column, value.end_column) == (6, 26, 35)
    assert (key.line, key.column, key.end_column) == (6, 19, 24)
    assert value.source == "  - {name: serve, shape: local-cpu, nodes: 2}"
    absent = loaded.positions.value(("pools", 0, "zone"))
    assert (absent.line, absent.column) == (6, 5)


def test_placed_later_problem_gets_the_place_of_its_path(tmp_path: Path) -> None:
    loaded = loader.load(write(tmp_path, "case"))
    (problem,) = loaded.placed([Problem("PLAN-001", "x", path="services[0].model")])
    assert problem.place is not None
    assert (problem.place.line, problem.place.column) == (8, 25)
    assert loaded.placed([Problem("PLAN-001", "x")])[0].place is None


def test_validate_all_problems_of_all_files_sorted(tmp_path: Path) -> None:
    files = [
        write(tmp_path, "bb", LOCAL.replace("nodes: 2", "nodes: 0").replace("golden-tiny", "none")),
        write(tmp_path, "aa", LOCAL.replace("local-cpu", "local-gpu")),
        tmp_path / "cc.yaml",
    ]
    with pytest.raises(ProblemError) as caught:
        loader.validate(files)
    found = [(Path(p.place.file).name, p.place.line, p.rule) for p in caught.value.problems if p.place]
    assert found == [
        ("aa.yaml", 1, "SPEC-061"),
        ("aa.yaml", 1, "SPEC-063"),
        ("aa.yaml", 6, "SPEC-012"),
        ("bb.yaml", 6, "SPEC-023"),
        ("bb.yaml", 8, "SPEC-011"),
        ("cc.yaml", None, "SPEC-001"),
    ]


def test_validate_left_out_part_causes_no_further_problem(tmp_path: Path) -> None:
    one = write(tmp_path, "one")
    two = write(tmp_path, "two", LOCAL + 'network: {cidr: 10.64.0.0}\nfront_door: {port: "9443"}\n')
    with pytest.raises(ProblemError) as caught:
        loader.validate([one, two])
    assert [p.rule for p in caught.value.problems] == ["SPEC-025", "SPEC-022"]


def test_load_many_problems_told_up_to_a_limit(tmp_path: Path) -> None:
    path = write(tmp_path, "case", LOCAL + "".join(f"key{i}: 1\n" for i in range(500)))
    with pytest.raises(ProblemError) as caught:
        loader.load(path)
    assert len(caught.value.problems) == 101
    assert "not shown" in caught.value.problems[-1].message


def test_load_no_network_and_nothing_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", no_network)
    path = write(tmp_path, "case")
    before = sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))
    loader.validate([path])
    with pytest.raises(ProblemError):
        loader.validate([write(tmp_path, "bad", "a: [")])
    assert [b for b in before if (b[0], b[0].stat().st_mtime_ns) != b] == []
    assert {p.name for p in tmp_path.rglob("*")} == {"case.yaml", "bad.yaml"}


def test_import_takes_nothing_heavy() -> None:
    code = (
        "import sys; from aifactory.region import loader, changes; from pathlib import Path; "
        f"loader.load(Path({str(cases.CASES.parents[1] / 'stacks/regions/local.yaml')!r})); "
        "heavy = {'pulumi', 'boto3', 'botocore', 'ansible', 'ansible_runner', 'cryptography', 'httpx', 'grpc', 'rich', "
        "'typer', 'jinja2', 'numpy'}; print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIFACTORY_REGIONS", str(tmp_path))
    return tmp_path


def test_find_region_by_name(folder: Path) -> None:
    path = write(folder, "oslo-lab")
    assert loader.find("oslo-lab") == path


def test_find_miss_names_the_nearest(folder: Path) -> None:
    write(folder, "oslo-lab")
    write(folder, "Pulumi.oslo-lab")
    problem = refusal(lambda: loader.find("olso-lab"))
    assert problem.rule == "SPEC-001"
    assert problem.nearest == ("oslo-lab",)
    assert problem.allowed == "oslo-lab."


def test_find_empty_folder_says_how_to_begin(folder: Path) -> None:
    assert refusal(lambda: loader.find("local")).fix == "aifactory init local --provider local"


@pytest.mark.parametrize("name", ["../case", "Pulumi.case", "", "a" * 500, "ca\0se", "case.yaml"])
def test_find_what_is_no_name_never_reaches_a_file(name: str, folder: Path) -> None:
    write(folder.parent, "case")
    write(folder, "Pulumi.case")
    assert refusal(lambda: loader.find(name)).rule == "SPEC-001"


def test_digest_is_the_plans_and_ignores_written_out_defaults(tmp_path: Path) -> None:
    short = loader.load(write(tmp_path, "case")).spec
    long = loader.load(write(tmp_path, "case", LOCAL + "power: {pue: 1.0}\nnetwork: {cidr: 10.64.0.0/16}\n")).spec
    other = loader.load(write(tmp_path, "case", LOCAL + "power: {pue: 1.1}\n")).spec
    assert loader.digest(short) == loader.digest(long) == build.plan(short).spec_digest
    assert loader.digest(short) != loader.digest(other)
