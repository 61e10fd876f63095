"""Verdicts. Pure."""

from __future__ import annotations

from aifactory.acceptance.verdict import Verdict, judged, reasons, unmeasured


def test_reasons_name_what_was_seen_and_what_was_needed() -> None:
    assert reasons([judged("c", "s", True, "1", "1")]) == []
    assert reasons([judged("c", "s", False, "0", "1", detail="why")]) == ["failed: c: s: 0 (needed: 1): why"]
    assert reasons([unmeasured("c", "s", "1", "no answer")]) == ["not proved: c: s: not measured: no answer"]


def test_to_dict_has_every_field() -> None:
    assert Verdict("c", "s", "pass", "m", "f").to_dict() == {
        "check": "c", "scope": "s", "verdict": "pass", "measured": "m", "floor": "f", "detail": "",
    }  # fmt: skip
