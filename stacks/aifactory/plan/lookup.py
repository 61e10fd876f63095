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
    problem = Problem(
        "PLAN-001",
        f"{key} is not a {what} of the catalogue.",
        path=path,
        nearest=catalog.nearest(key, table),
        list_command=f"aifactory catalog {what}s",
    )
    raise ProblemError([problem])


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
    return ProblemError([Problem(rule, message, path=path, nearest=nearest, allowed=allowed, fix=fix)])
