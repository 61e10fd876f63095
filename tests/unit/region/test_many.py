"""One file with many problems, in every form. Real: loader, renderers. `UPDATE_GOLDEN=1` writes the golden files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from aifactory.errors import Problem, ProblemError, render_json, render_sarif, render_text
from aifactory.region import loader
from aifactory.region.checks.rules import MEANINGS

from tests.unit.region import cases

RENDERERS: dict[str, Callable[[Sequence[Problem]], str]] = {
    "many.txt": render_text,
    "many.json": render_json,
    "many.sarif": lambda problems: render_sarif(problems, "0.0.0", MEANINGS),
}


def problems(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Problem, ...]:
    shutil.copy(cases.CASES / "many.yaml", folder / "many.yaml")
    monkeypatch.chdir(folder)
    with pytest.raises(ProblemError) as caught:
        loader.load(Path("many.yaml"))
    return caught.value.problems


@pytest.mark.parametrize("name", RENDERERS)
def test_many_problems_match_the_golden_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = RENDERERS[name](problems(tmp_path, monkeypatch)) + "\n"
    golden = cases.GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert golden.read_text(encoding="utf-8") == text
    assert cases.SECRET not in text.lower()


def test_many_problems_every_part_of_the_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = problems(tmp_path, monkeypatch)
    marked = [
        n for n, line in enumerate((cases.CASES / "many.yaml").read_text().splitlines(), 1) if "# <-- here" in line
    ]
    assert sorted({p.place.line for p in found if p.place}) == marked


def test_many_problems_sarif_has_the_shape_of_its_standard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SARIF 2.1.0, 3.14, 3.27-3.30: the parts that viewers need."""
    log = json.loads(render_sarif(problems(tmp_path, monkeypatch), "0.0.0", MEANINGS))
    assert (log["version"], len(log["runs"])) == ("2.1.0", 1)
    known = {rule["id"] for rule in log["runs"][0]["tool"]["driver"]["rules"]}
    for result in log["runs"][0]["results"]:
        assert result["ruleId"] in known
        assert result["level"] == "error"
        assert result["message"]["text"]
        physical = result["locations"][0]["physicalLocation"]
        assert physical["artifactLocation"]["uri"] == "many.yaml"
        assert 1 <= physical["region"]["startColumn"] < physical["region"]["endColumn"]
