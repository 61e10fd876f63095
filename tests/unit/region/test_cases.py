"""Every case file has exactly the problems that its name says, at the place that its mark says.

Real: loader, rules, catalogue, files on disk. `UPDATE_GOLDEN=1 pytest tests/unit/region/test_cases.py` writes the
golden file with everything that a person would see; read its diff.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from aifactory.errors import Exit, Problem, ProblemError, render_json, render_sarif, render_text
from aifactory.region import loader
from aifactory.region.checks.rules import MEANINGS

from tests.unit.region import cases

ELSEWHERE = {"SPEC-001", "SPEC-002", "SPEC-070"}
"""Rules that no file breaks by what is in it: test_loader.py, test_changes.py."""


def problems_of(files: list[Path]) -> tuple[Problem, ...]:
    try:
        loader.validate(files)
    except ProblemError as error:
        return error.problems if error.code == Exit.BAD_INPUT else ()
    return ()


def check(files: list[Path], rules: tuple[str, ...]) -> tuple[Problem, ...]:
    started = time.perf_counter()
    found = problems_of(files)
    assert time.perf_counter() - started < 1
    assert tuple(sorted(p.rule for p in found)) == rules, render_text(found)
    for output in (render_text(found), render_json(found), render_sarif(found, "0")):
        assert cases.SECRET not in output.lower()
        assert "pydantic" not in output.lower()
        assert "provider.local." not in output
    for file in files:
        expected = cases.expected(file)
        here = [p for p in found if p.place and Path(p.place.file).resolve() == file.resolve()]
        if expected is None:
            assert not here or file.stat().st_size == 0 or (here[0].place and here[0].place.column is None)
        else:
            assert any(stands_at(p, expected, file) for p in here), (expected, render_text(found))
    return found


def stands_at(problem: Problem, expected: cases.Expected, file: Path) -> bool:
    place = problem.place
    if place is None or place.line != expected.line:
        return False
    if expected.column is not None:
        return place.column == expected.column
    line = re.split(r"\r?\n", file.read_bytes().decode().removeprefix("\ufeff"))[expected.line - 1]
    assert place.column is not None
    assert place.end_column is not None
    under = line[place.column - 1 : place.end_column - 1]
    return expected.text is None or under == expected.text


@pytest.mark.parametrize("case", cases.single(), ids=lambda p: p.stem)
def test_region_case_file(case: Path, tmp_path: Path) -> None:
    check([cases.placed(case, tmp_path)], cases.rules(case.stem))


@pytest.mark.parametrize("case", cases.groups(), ids=lambda p: p.name)
def test_regions_case_folder(case: Path) -> None:
    check(sorted(case.rglob("*.yaml")), cases.rules(case.name))


def test_rules_each_has_a_case() -> None:
    broken = {rule for case in (*cases.single(), *cases.groups()) for rule in cases.rules(case.name)}
    assert broken | ELSEWHERE == set(MEANINGS)


def test_problems_as_people_see_them_match_the_golden_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen = []
    for case in cases.single():
        found = problems_of([cases.placed(case, tmp_path)])
        if found:
            seen.append(f"== {case.stem}\n{render_text(found)}\n")
    monkeypatch.chdir(cases.CASES)
    seen.extend(
        f"== {case.name}\n{render_text(problems_of(sorted(case.rglob('*.yaml'))))}\n"
        for case in cases.groups()
        if cases.rules(case.name)
    )
    golden = cases.GOLDEN / "cases.txt"
    text = "\n".join(seen)
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert golden.read_text(encoding="utf-8") == text
