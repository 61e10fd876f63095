"""How problems look: text, JSON, SARIF. Real: the renderers; the problems are made up."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aifactory.errors import Exit, Place, Problem, ProblemError, fail, render_json, render_sarif, render_text

FULL = Problem(
    "SPEC-012",
    "p9.48xlarge is not a shape of aws.",
    Place("stacks/regions/eu-north.yaml", 8, 12, 23, "    shape: p9.48xlarge\n"),
    "pools[0].shape",
    ("p5.48xlarge", "p6-b200.48xlarge"),
    "a shape.",
    "write p5.48xlarge",
    "aifactory catalog shapes --provider aws",
)


def carets(place: Place) -> tuple[str, str]:
    """The quoted line and what stands under it."""
    _, line, under, _ = render_text([Problem("X-1", "m", place)]).split("\n")
    return line.partition("| ")[2], under.partition("| ")[2]


def test_render_text_whole_problem() -> None:
    assert render_text([FULL]) == (
        "stacks/regions/eu-north.yaml:8:12  pools[0].shape  [SPEC-012]\n"
        "   8 |     shape: p9.48xlarge\n"
        "     |            ^^^^^^^^^^^\n"
        "  p9.48xlarge is not a shape of aws.\n"
        "  Nearest: p5.48xlarge, p6-b200.48xlarge.  All of them: aifactory catalog shapes --provider aws\n"
        "  Allowed: a shape.\n"
        "  Fix: write p5.48xlarge"
    )


def test_render_text_without_place_or_hints() -> None:
    assert render_text([Problem("CLI-001", "No.")]) == "[CLI-001]\n  No."
    assert render_text([Problem("SPEC-001", "No.", Place("a.yaml"))]) == "a.yaml  [SPEC-001]\n  No."


def test_render_text_several_apart_by_a_line() -> None:
    assert render_text([Problem("A-1", "a"), Problem("A-2", "b\nc")]) == "[A-1]\n  a\n\n[A-2]\n  b\n  c"


@pytest.mark.parametrize(
    ("source", "column", "end", "shown", "under"),
    [
        ("a: b", 4, 5, "a: b", "   ^"),
        ("a: b", 4, None, "a: b", "   ^"),
        ("a: bcd", 4, 99, "a: bcd", "   ^^^"),
        ("a:", 3, 4, "a:", "  ^"),
        ("\ta: b", 5, 6, " a: b", "    ^"),
        ("日本: b", 5, 6, "日本: b", "      ^"),
        ("a: 日本", 4, 6, "a: 日本", "   ^^^^"),
        ("e\u0301: b", 5, 6, "e\u0301: b", "   ^"),
        ("a: \x1b[31mb", 4, 5, "a: �[31mb", "   ^"),
        ("a: \u202eb", 5, 6, "a: �b", "    ^"),
    ],
)
def test_carets_stand_under_the_text(source: str, column: int, end: int | None, shown: str, under: str) -> None:
    assert carets(Place("f", 1, column, end, source)) == (shown, under)


def test_carets_long_line_cut_around_them() -> None:
    source = "x" * 300 + "HERE" + "y" * 300
    shown, under = carets(Place("f", 1, 301, 305, source))
    start = under.index("^")
    assert shown[start : start + 4] == "HERE"
    assert under.count("^") == 4
    assert (shown[0], shown[-1]) == ("…", "…")
    assert len(shown) <= 122


@pytest.mark.parametrize("column", [1, 2, 100, 119, 120, 121, 200, 239, 240])
def test_carets_long_line_right_at_every_column(column: int) -> None:
    source = "".join(chr(ord("a") + i % 26) for i in range(240))
    shown, under = carets(Place("f", 1, column, column + 1, source))
    assert shown[under.index("^")] == source[column - 1]


def test_render_text_never_moves_the_cursor() -> None:
    bad = "a\x1b[2J\r\u202e\x07"
    text = render_text([Problem("X-1", bad, Place(bad, 1, 1, 2, bad), bad, (bad,), bad, bad, bad)])
    assert all(c.isprintable() or c == "\n" for c in text)


def test_problems_sorted_by_file_line_column_rule() -> None:
    places = [("b", 1, 1, "R-1"), ("a", 2, 1, "R-1"), ("a", 1, 9, "R-1"), ("a", 1, 2, "R-2"), ("a", 1, 2, "R-1")]
    error = ProblemError([Problem(rule, "m", Place(file, line, column)) for file, line, column, rule in places])
    assert [str(p.place) + p.rule for p in error.problems] == [
        "a:1:2R-1",
        "a:1:2R-2",
        "a:1:9R-1",
        "a:2:1R-1",
        "b:1:1R-1",
    ]


def test_fail_one_problem_with_its_exit_code() -> None:
    error = fail("PRE-001", "No.", code=Exit.PREFLIGHT, fix="yes")
    assert (int(error.code), error.problems) == (3, (Problem("PRE-001", "No.", fix="yes"),))


def test_render_json_keeps_every_part() -> None:
    (problem,) = json.loads(render_json([FULL]))["problems"]
    assert problem["place"]["column"] == 12
    assert (problem["rule"], problem["nearest"][0], problem["list_command"]) == (
        FULL.rule,
        "p5.48xlarge",
        FULL.list_command,
    )


def sarif(problems: list[Problem]) -> Any:
    return json.loads(render_sarif(problems, "1.2.3", {"SPEC-012": "A shape is known."}))


def test_render_sarif_whole_problem() -> None:
    log = sarif([FULL])
    (run,) = log["runs"]
    (result,) = run["results"]
    (location,) = result["locations"]
    assert log["version"] == "2.1.0"
    assert run["columnKind"] == "unicodeCodePoints"
    assert run["tool"]["driver"]["rules"] == [{"id": "SPEC-012", "shortDescription": {"text": "A shape is known."}}]
    assert (result["ruleId"], result["level"]) == ("SPEC-012", "error")
    assert "Fix: write p5.48xlarge" in result["message"]["text"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "stacks/regions/eu-north.yaml"},
        "region": {"startLine": 8, "startColumn": 12, "endColumn": 23},
    }
    assert location["logicalLocations"] == [{"fullyQualifiedName": "pools[0].shape"}]


def test_render_sarif_file_name_is_a_uri() -> None:
    (result,) = sarif([Problem("X-1", "m", Place("my regions/ä.yaml"))])["runs"][0]["results"]
    uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri == "my%20regions/%C3%A4.yaml"


def test_render_sarif_nothing_wrong_is_an_empty_run() -> None:
    assert sarif([])["runs"][0]["results"] == []
