"""Nearest right values. Real: everything, on the shipped catalogue."""

from __future__ import annotations

import pytest
from aifactory import catalog


@pytest.mark.parametrize(
    ("value", "table", "wanted"),
    [
        ("p9.48xlarge", "shapes", "p5.48xlarge"),
        ("p6b200.48xlarge", "shapes", "p6-b200.48xlarge"),
        ("local_cpu", "shapes", "local-cpu"),
        ("DGX-B200", "shapes", "dgx-b200"),
        ("apertus70b", "models", "apertus-70b"),
        ("lama-3.3-70b", "models", "llama-3.3-70b"),
        ("gdrp", "regimes", "gdpr"),
        ("aws-euscc", "clouds", "aws-eusc"),
    ],
)
def test_nearest_misspelt_key_finds_the_meant_one_first(value: str, table: str, wanted: str) -> None:
    assert catalog.nearest(value, getattr(catalog, table)())[0] == wanted


def test_nearest_gives_at_most_n_and_the_best_first() -> None:
    choices = ["b200-sxm", "b300-sxm", "h200-sxm", "h100-sxm"]
    assert catalog.nearest("b200sxm", choices, n=2)[0] == "b200-sxm"
    assert len(catalog.nearest("b200sxm", choices, n=2)) == 2
    assert len(catalog.nearest("b200sxm", choices)) == 3


@pytest.mark.parametrize("value", ["", "zzzzzz", "42"])
def test_nearest_nothing_alike_is_empty(value: str) -> None:
    assert catalog.nearest(value, ["dgx-b200", "local-cpu"]) == ()


def test_nearest_repeats_and_no_choices_are_harmless() -> None:
    assert catalog.nearest("a1", ["a1", "a1"]) == ("a1",)
    assert catalog.nearest("a1", []) == ()
