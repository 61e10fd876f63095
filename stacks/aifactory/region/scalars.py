"""Plain scalars by the YAML 1.2 core schema: `NO` is text, `0o17` is 15, `1:30` is text."""

from __future__ import annotations

import re

Value = str | int | float | bool | None

NULLS = frozenset({"", "~", "null", "Null", "NULL"})
BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
LONGEST_NUMBER = 30
"""Characters; no key takes a number near it, and Python's own conversions grow with the square."""


class NotANumber(ValueError):
    """The scalar is a number by its form, but none that a region file can hold; the text says why."""


def resolve(text: str) -> Value:
    """The value of an unquoted scalar. Raises NotANumber for infinite, undefined and overlong numbers."""
    if text in NULLS:
        return None
    if text in BOOLEANS:
        return BOOLEANS[text]
    if INTEGER.fullmatch(text):
        _refuse_overlong(text)
        return int(text, 0) if text.startswith(("0o", "0x")) else int(text)
    if FLOAT.fullmatch(text):
        _refuse_overlong(text)
        number = float(text)
        if number in (float("inf"), float("-inf")):
            raise NotANumber("is too large a number")
        return number
    if NOT_FINITE.fullmatch(text):
        raise NotANumber("is not a finite number")
    return text


def _refuse_overlong(text: str) -> None:
    if len(text) > LONGEST_NUMBER:
        raise NotANumber("is too long a number")
