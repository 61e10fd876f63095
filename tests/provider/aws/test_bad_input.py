"""The bad inputs of the reliability study: each stopped before anything is made, with what it must say.

Real: the loader, the plan, the law, the preflight, the emulated account. UPDATE_GOLDEN=1 writes docs/bad-input.md anew.
A row without an edit is a mistake that a region file cannot make: it says why, and a test of its own holds it.
"""

from __future__ import annotations

import copy
import datetime as dt
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aifactory import paths, sovereignty
from aifactory.errors import Problem, ProblemError
from aifactory.plan import build
from aifactory.provider.aws import preflight
from aifactory.region import loader
from ruamel.yaml import YAML

from tests.emulator import Emulator

PAGE = paths.REPO / "docs" / "bad-input.md"
EXAMPLE = paths.REPO / "stacks" / "regions" / "eu-sovereign.yaml"
ZONE = "eusc-de-east-1a"


@dataclass(frozen=True)
class Case:
    """`edits`: (path in the region file, value; ... takes it away). `says`: words that the problem must hold."""

    number: str
    what: str
    terraform: str
    """What stops it there before apply: facts of the study, measured 2026-11-23 with Terraform 1.11.4."""
    rule: str
    says: tuple[str, ...]
    edits: tuple[tuple[tuple[str | int, ...], Any], ...] = ()
    text: str = ""
    """Instead of edits: the file as it is written."""


POOL = ("pools", 0)
CASES = (
    Case("1", "unknown type", "no", "SPEC-012", ("p9.48xlarge", "p5.48xlarge"), (((*POOL, "shape"), "p9.48xlarge"),)),
    Case(
        "2",
        "type not offered in the zone",
        "no",
        "PRE-204",
        ("not offered in eusc-de-east-1b", f"Offered in {ZONE}"),
        (
            (("provider", "zones"), [ZONE, "eusc-de-east-1b"]),
            ((*POOL, "zone"), "eusc-de-east-1b"),
            ((*POOL, "capacity"), {"kind": "on_demand"}),
        ),
    ),
    Case(
        "3",
        "EFA on a type without it",
        "no",
        "SPEC-054",
        ("efa",),
        (((*POOL, "shape"), "m7i.large"), (("services",), []), (("front_door",), {}), (("power",), {})),
    ),
    Case("4", "more EFA cards than the type has", "no", "SPEC-021", ("efa_cards",), (((*POOL, "efa_cards"), 9),)),
    Case("5", "nodes: -1", "plan", "SPEC-023", ("-1", "1 to 4096"), (((*POOL, "nodes"), -1),)),
    Case("6", "nodes: eight", "plan", "SPEC-022", ("eight", "whole number"), (((*POOL, "nodes"), "eight"),)),
    Case("6", "nodes: 1.5", "plan", "SPEC-022", ("1.5", "whole number"), (((*POOL, "nodes"), 1.5),)),
    Case(
        "7",
        "network 10.0.0.0/33",
        "validate",
        "SPEC-037",
        ("10.0.0.0/33", "/32"),
        ((("network", "cidr"), "10.0.0.0/33"),),
    ),
    Case("8", "network /8", "no", "SPEC-037", ("10.0.0.0/8", "/16 to /24"), ((("network", "cidr"), "10.0.0.0/8"),)),
    Case(
        "9",
        "subnet outside the network",
        "no",
        "SPEC-021",
        ("subnets",),
        ((("network", "subnets"), ["192.168.0.0/24"]),),
    ),
    Case(
        "10",
        "two subnets overlap",
        "no",
        "SPEC-021",
        ("subnets",),
        ((("network", "subnets"), ["10.20.0.0/24", "10.20.0.0/25"]),),
    ),
    Case(
        "11",
        "too few addresses for nodes × cards",
        "no",
        "PLAN-014",
        ("519 addresses", "64 × 8", "wider network.cidr"),
        ((("network", "cidr"), "10.20.0.0/24"), ((*POOL, "nodes"), 64), (("power",), {})),
    ),
    Case(
        "12",
        "bucket name with capitals and _",
        "no",
        "SPEC-025",
        ("Region_A", "region-a"),
        ((("storage", 1, "name"), "Region_A"),),
    ),
    Case(
        "13",
        "misspelt region",
        "plan",
        "SPEC-017",
        ("eusc-de-esat-1", "eusc-de-east-1"),
        ((("provider", "region"), "eusc-de-esat-1"), (("provider", "endpoints"), {})),
    ),
    Case(
        "14",
        "zone of another region",
        "no",
        "SPEC-044",
        ("eu-west-1a", "eusc-de-east-1"),
        ((("provider", "zones"), ["eu-west-1a"]), ((*POOL, "zone"), "eu-west-1a")),
    ),
    Case(
        "15", "image that is no id", "no", "SPEC-074", ("ubuntu-22.04", "ami-"), (((*POOL, "image"), "ubuntu-22.04"),)
    ),
    Case(
        "15",
        "image that is not there",
        "no",
        "PRE-206",
        ("ami-00000000000000000", "for this account"),
        (((*POOL, "image"), "ami-00000000000000000"),),
    ),
    Case("16", "misspelt IAM action", "no", "SPEC-021", ("policy",), ((("policy",), "s3:GetObjcet"),)),
    Case(
        "17",
        "key deletion window of 3 days",
        "validate",
        "SPEC-021",
        ("deletion_window_days",),
        ((("storage", 1, "deletion_window_days"), 3),),
    ),
    Case(
        "18",
        "file system of 1000 GiB",
        "no",
        "SPEC-074",
        ("1000", "1200, 2400"),
        ((("storage", 0, "capacity_gib"), 1000),),
    ),
    Case(
        "18",
        "file system with 300 MB/s a TiB",
        "no",
        "SPEC-074",
        ("300", "125, 250, 500 or 1000"),
        ((("storage", 0, "throughput_mb_s_per_tib"), 300),),
    ),
    Case("19", "volume of 0 GiB", "no", "SPEC-023", ("0", "at least 1"), (((*POOL, "data_volume_gib"), 0),)),
    Case(
        "19",
        "volume of 70000 GiB",
        "no",
        "SPEC-074",
        ("70000", "1 to 65536 GiB"),
        (((*POOL, "data_volume_gib"), 70000),),
    ),
    Case(
        "20", "Lustre's ports closed", "no", "SPEC-021", ("security_groups",), ((("network", "security_groups"), []),)
    ),
    Case(
        "21", "misspelt key", "validate", "SPEC-021", ("instnace_type",), (((*POOL, "instnace_type"), "p5.48xlarge"),)
    ),
    Case("22", "label aws:owner", "no", "SPEC-075", ("aws:", "cloud's own"), ((("labels",), {"aws:owner": "x"}),)),
    Case(
        "23",
        "SSH open to everybody",
        "no",
        "NET-02",
        ("0.0.0.0/0", "acceptance.waivers"),
        ((("provider", "ssh"), {"source": ["0.0.0.0/0"]}),),
    ),
    Case("23", "metadata service v1", "no", "SPEC-021", ("metadata",), (((*POOL, "metadata"), "v1"),)),
    Case(
        "24",
        "token in the file",
        "no",
        "SPEC-010",
        ("looks like a secret", "not shown"),
        ((("labels",), {"hub": "hf_abcdefghijklmnopqrstuvwxyz012345"}),),
    ),
    Case("25", "syntax error", "validate", "SPEC-004", (), text="version: 1\nname: [eu-sovereign\npools: {\n"),
    Case("25", "missing key", "plan", "SPEC-020", ("account",), ((("provider", "account"), ...),)),
    Case("25", "name of 80 characters", "plan", "SPEC-025", ("name",), ((("name",), "a" * 80),)),
    Case("25", "cycle", "validate", "SPEC-021", ("depends_on",), (((*POOL, "depends_on"), "front"),)),
)

HELD_ELSEWHERE = (
    ("23", "EFA nodes without a placement group", "no", "nodes with EFA get one (`pools[].placement`)"),
    ("26", "one name, network or bucket in two regions", "no", "SPEC-060, SPEC-061, SPEC-062: both files are named"),
)  # fmt: skip


def edited(case: Case, cloud: dict[str, Any]) -> str | dict[str, Any]:
    if case.text:
        return case.text
    data: dict[str, Any] = copy.deepcopy(YAML(typ="safe").load(EXAMPLE.read_text("utf-8")))
    data["provider"]["endpoints"] = dict(cloud["endpoints"])
    data["provider"]["credentials"] = {"env_prefix": cloud["env_prefix"]}
    for path, value in case.edits:
        section: Any = data
        for part in path[:-1]:
            section = section[part]
        if value is ...:
            del section[path[-1]]
        else:
            section[path[-1]] = value
    return data


def problems(folder: Path, content: str | dict[str, Any]) -> Sequence[Problem]:
    """What `up` does before it makes anything: file, plan, law, preflight."""
    file = folder / "eu-sovereign.yaml"
    if isinstance(content, str):
        file.write_text(content, encoding="utf-8")
    else:
        with file.open("w", encoding="utf-8") as out:
            YAML().dump(content, out)
    try:
        loaded = loader.load(file)
        plan = build.of(loaded)
        sovereignty.check(loaded, plan, dt.date(2026, 11, 25))
    except ProblemError as error:
        return error.problems
    return loaded.placed(preflight.check(plan, None))


@pytest.fixture
def cloud(emulator: Emulator) -> dict[str, Any]:
    emulator.plant_images()
    emulator.reservation("cr-0123456789abcdef0", "p6-b200.48xlarge", ZONE, 64)
    for quota in ("L-417A185B", "L-1216C47A"):
        emulator.quota(quota, 100_000)
    return emulator.cloud()


@pytest.mark.parametrize("case", CASES, ids=[f"{c.number}-{c.what.replace(' ', '-')}" for c in CASES])
def test_bad_input_is_stopped_and_says_what_it_must(
    case: Case, cloud: dict[str, Any], tmp_path: Path, emulator: Emulator
) -> None:
    before = emulator.inventory()
    found = problems(tmp_path, edited(case, cloud))
    mine = [p for p in found if p.rule == case.rule]
    assert mine, [str(p) for p in found]
    told = " ".join(f"{p.place} {p.message} {' '.join(p.nearest)} {p.allowed} {p.fix}" for p in mine)
    assert [word for word in case.says if word not in told] == [], told
    assert all(p.place is not None and p.place.line for p in mine), mine
    assert "hf_abcdefghij" not in " ".join(str(p) for p in found)
    assert emulator.inventory() == before


def test_the_region_without_a_mistake_is_let_through(cloud: dict[str, Any], tmp_path: Path) -> None:
    assert list(problems(tmp_path, edited(Case("0", "", "", "", ()), cloud))) == []


def test_page_says_what_the_cases_do(cloud: dict[str, Any], tmp_path: Path) -> None:
    lines = [
        "# Bad input, and what stops it",
        "",
        "Written by `UPDATE_GOLDEN=1 pytest tests/provider/aws/test_bad_input.py` from what the run saw. Each mistake",
        "is made in the example region of a cloud and stopped before anything is made: by the file's rules, the plan,",
        "the law (exit 2) or the preflight (exit 3), all mistakes at once, with line, column and way out. Terraform:",
        "what `validate` or `plan` of version 1.11.4 stopped, measured 2026-11-23.",
        "",
        "| # | mistake | Terraform | stopped by | what is said |",
        "|---|---|---|---|---|",
    ]
    for case in CASES:
        first = next(p for p in problems(tmp_path, edited(case, cloud)) if p.rule == case.rule)
        said = " ".join(first.message.split()).replace("|", "\\|")
        lines.append(f"| {case.number} | {case.what} | {case.terraform} | {case.rule} | {said} |")
    lines += [f"| {n} | {what} | {terraform} | – | {why} |" for n, what, terraform, why in HELD_ELSEWHERE]
    lines += [
        "",
        f"{len(CASES) + len(HELD_ELSEWHERE)} of {len(CASES) + len(HELD_ELSEWHERE)} stopped, or impossible to make.",
        "Mistakes 4, 9, 10, 16, 17, 20 and the cycle of 25 have no key: what they would set follows from the plan.",
        "",
    ]
    text = "\n".join(lines)
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(text, encoding="utf-8")
    assert PAGE.read_text("utf-8") == text
