"""The strict reader. Real: the reader, on small files written here; a row type of its own, so no data is involved."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from aifactory.catalog import load
from aifactory.errors import ProblemError

SOURCE = """
[sources.sheet]
title = "Data sheet"
document = "page 2"
checked = 2026-11-24

[sources.note]
title = "Note"
document = "line 1"
checked = 2026-11-20
"""

GOOD = """
[things.a]
kind = "small"
weight_kg = 2
parts = 3
tags = ["x", "y"]
names = {de = 1.5}
seen = 2026-01-02
source = "sheet"
sources = {parts = "note"}
"""


@dataclass(frozen=True, kw_only=True)
class Thing:
    key: str
    kind: Literal["small", "large"]
    weight_kg: float | None
    parts: int
    tags: tuple[str, ...]
    names: Mapping[str, float]
    seen: dt.date
    owner: str | None = None


def read(tmp_path: Path, text: str) -> load.Table[Thing]:
    path = tmp_path / "things.toml"
    path.write_text(text, encoding="utf-8")
    return load.read(path, Thing)


def refused(tmp_path: Path, text: str) -> list[tuple[str, str | None, str]]:
    with pytest.raises(ProblemError) as caught:
        read(tmp_path, text)
    return [(p.rule, p.path, p.message) for p in caught.value.problems]


def test_read_good_file_gives_typed_row_and_its_sources(tmp_path: Path) -> None:
    table = read(tmp_path, SOURCE + GOOD)
    assert table.rows["a"] == Thing(
        key="a", kind="small", weight_kg=2.0, parts=3, tags=("x", "y"), names={"de": 1.5}, seen=dt.date(2026, 1, 2)
    )
    assert isinstance(table.rows["a"].weight_kg, float)
    assert table.sources["a", "kind"].checked == dt.date(2026, 11, 24)
    assert table.sources["a", "parts"].key == "note"


def test_read_rows_cannot_be_changed(tmp_path: Path) -> None:
    table = read(tmp_path, SOURCE + GOOD)
    with pytest.raises(TypeError):
        table.rows["b"] = table.rows["a"]  # type: ignore[index]
    with pytest.raises(AttributeError):
        table.rows["a"].parts = 4  # type: ignore[misc]


def test_read_unknown_is_none_where_the_field_allows_it(tmp_path: Path) -> None:
    table = read(tmp_path, SOURCE + GOOD.replace("weight_kg = 2", 'weight_kg = "unknown"'))
    assert table.rows["a"].weight_kg is None


def test_read_field_sources_rank_below_the_row_and_above_its_source(tmp_path: Path) -> None:
    table = read(tmp_path, 'field_sources = {parts = "sheet", kind = "note"}\n' + SOURCE + GOOD)
    assert table.sources["a", "kind"].key == "note"
    assert table.sources["a", "parts"].key == "note"
    assert table.sources["a", "tags"].key == "sheet"


@pytest.mark.parametrize(
    ("old", "new", "rule", "where"),
    [
        ("parts = 3", "parts = 3\nparst = 3", "CAT-002", "things.a.parst"),
        ("parts = 3\n", "", "CAT-003", "things.a.parts"),
        ("parts = 3", "parts = 3.0", "CAT-004", "things.a.parts"),
        ("parts = 3", "parts = true", "CAT-004", "things.a.parts"),
        ("parts = 3", "parts = -1", "CAT-004", "things.a.parts"),
        ("parts = 3", 'parts = "unknown"', "CAT-004", "things.a.parts"),
        ("weight_kg = 2", "weight_kg = nan", "CAT-004", "things.a.weight_kg"),
        ("weight_kg = 2", "weight_kg = inf", "CAT-004", "things.a.weight_kg"),
        ("weight_kg = 2", 'weight_kg = "2"', "CAT-004", "things.a.weight_kg"),
        ('kind = "small"', 'kind = "medium"', "CAT-004", "things.a.kind"),
        ('["x", "y"]', '"x"', "CAT-004", "things.a.tags"),
        ('["x", "y"]', '["x", "x"]', "CAT-004", "things.a.tags"),
        ('["x", "y"]', '["x", "unknown"]', "CAT-004", "things.a.tags"),
        ('["x", "y"]', '["x", ""]', "CAT-004", "things.a.tags"),
        ("{de = 1.5}", '{de = "1.5"}', "CAT-004", "things.a.names"),
        ("{de = 1.5}", "[1.5]", "CAT-004", "things.a.names"),
        ("seen = 2026-01-02", 'seen = "2026-01-02"', "CAT-004", "things.a.seen"),
        ("seen = 2026-01-02", "seen = 2026-01-02T00:00:00", "CAT-004", "things.a.seen"),
        ('source = "sheet"', 'source = "shete"', "CAT-005", "things.a.kind"),
        ('source = "sheet"', 'source = ["sheet"]', "CAT-005", "things.a.kind"),
        ('source = "sheet"\n', "", "CAT-005", "things.a.kind"),
        ('{parts = "note"}', '{parts = "nota"}', "CAT-005", "things.a.parts"),
        ('{parts = "note"}', '{owner = "note"}', "CAT-005", "things.a.sources.owner"),
        ('{parts = "note"}', '"note"', "CAT-005", "things.a.sources"),
        ("checked = 2026-11-24", 'checked = "2026-11-24"', "CAT-005", "sources.sheet"),
        ("checked = 2026-11-24\n", "", "CAT-005", "sources.sheet"),
        ('document = "page 2"', 'document = ""', "CAT-005", "sources.sheet"),
        ("[things.a]", "[thing.a]", "CAT-002", "thing"),
        ("[things.a]", "[things]", "CAT-004", "things.kind"),
        ("\n[sources.sheet]", 'field_sources = {size = "note"}\n[sources.sheet]', "CAT-005", "field_sources"),
        ("\n[sources.sheet]", 'field_sources = {kind = "nota"}\n[sources.sheet]', "CAT-005", "field_sources"),
    ],
)
def test_read_mistake_is_refused_with_its_place(tmp_path: Path, old: str, new: str, rule: str, where: str) -> None:
    text = SOURCE + GOOD
    assert old in text
    assert (rule, where) in [(r, p) for r, p, _ in refused(tmp_path, text.replace(old, new, 1))]


def test_read_all_mistakes_of_all_rows_come_at_once_with_their_lines(tmp_path: Path) -> None:
    other = GOOD.replace("[things.a]", '[things."b.c"]').replace("parts = 3", "parts = -3")
    with pytest.raises(ProblemError) as caught:
        read(tmp_path, SOURCE + GOOD.replace('"small"', '"medium"') + other)
    lines = (SOURCE + GOOD + other).splitlines()
    found = [(p.path, lines[p.place.line - 1]) for p in caught.value.problems if p.place and p.place.line]
    assert found == [("things.a.kind", "[things.a]"), ("things.b.c.parts", '[things."b.c"]')]
    assert "one of small, large" in str(caught.value)


def test_read_misspelt_field_names_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(ProblemError) as caught:
        read(tmp_path, SOURCE + GOOD.replace("weight_kg", "wieght_kg"))
    assert ("weight_kg",) in [p.nearest for p in caught.value.problems]


def test_read_not_toml_and_not_text_are_problems(tmp_path: Path) -> None:
    assert refused(tmp_path, "things = [")[0][0] == "CAT-001"
    path = tmp_path / "things.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ProblemError, match="CAT-001"):
        load.read(path, Thing)


def test_read_file_without_rows_is_refused(tmp_path: Path) -> None:
    assert ("CAT-003", "things") in [(r, p) for r, p, _ in refused(tmp_path, SOURCE)]
