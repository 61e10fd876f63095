"""Catalogue rows by key, with a Problem instead of a KeyError."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from aifactory import catalog
from aifactory.errors import Problem, ProblemError

Row = TypeVar("Row")


def row(table: Mapping[str, Row], key: str, *, what: str, path: str) -> Row:
    """`table[key]`. Raises ProblemError PLAN-001 that names the nearest keys."""
    if key in table:
        return table[key]
    near = catalog.nearest(key, table)
    allowed = None if near else ", ".join(sorted(table))
    raise ProblemError([Problem("PLAN-001", f"{key} is not a {what} of the catalogue.", None, path, near, allowed)])


def refuse(
    rule: str,
    path: str,
    message: str,
    *,
    nearest: tuple[str, ...] = (),
    allowed: str | None = None,
    fix: str | None = None,
) -> ProblemError:
    """One thing that cannot be planned, ready to raise."""
    return ProblemError([Problem(rule, message, None, path, nearest, allowed, fix)])
