"""Unquoted scalars by the YAML 1.2 core schema. Real: the resolver."""

from __future__ import annotations

import pytest
from aifactory.region.scalars import NotANumber, Value, resolve


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"), ("no", "no"), ("yes", "yes"), ("on", "on"), ("Off", "Off"), ("y", "y"),
        ("true", True), ("False", False), ("TRUE", True), ("tRUE", "tRUE"),
        ("", None), ("~", None), ("null", None), ("Null", None), ("nULL", "nULL"), ("None", "None"),
        ("0", 0), ("-7", -7), ("+7", 7), ("007", 7), ("0o17", 15), ("0x1F", 31), ("0b1", "0b1"), ("1_000", "1_000"),
        ("12:30:00", "12:30:00"), ("1:30", "1:30"), ("2027-03-31", "2027-03-31"), ("=", "="),
        ("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("1e3", 1000.0), ("1e", "1e"), ("13.0", 13.0), (".", "."),
        ("1.2.3", "1.2.3"), ("١٢", "١٢"), ("-", "-"),
    ],
)  # fmt: skip
def test_resolve_core_schema(text: str, value: Value) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


@pytest.mark.parametrize("text", [".inf", "-.INF", ".NaN", "1e999", "-1e999", "9" * 31, "1." + "0" * 40])
def test_resolve_number_that_no_region_holds_refused(text: str) -> None:
    with pytest.raises(NotANumber):
        resolve(text)
