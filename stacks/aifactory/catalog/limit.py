"""Whether a value fits what a cloud's service takes, by the limits table."""

from __future__ import annotations

import re

from aifactory.catalog.types import Limit


def refusal(limit: Limit, value: int | str) -> str | None:
    """What is wrong with the value, what is allowed and, of a name, the nearest that fits; None where it fits."""
    if isinstance(value, str):
        if _text_fits(limit, value):
            return None
        nearest = _nearest(limit, value)
        return f"{value!r} is not allowed; allowed: {limit.allowed}" + (f"; nearest: {nearest}" if nearest else "")
    return None if _number_fits(limit, value) else f"{value} is not allowed; allowed: {limit.allowed} {limit.unit}"


def _number_fits(limit: Limit, value: int) -> bool:
    if value in limit.values:
        return True
    if limit.least is None:
        return False
    return limit.least <= value and (limit.most is None or value <= limit.most) and value % (limit.step or 1) == 0


def _text_fits(limit: Limit, value: str) -> bool:
    return (
        (limit.least or 0) <= len(value) <= (limit.most or len(value))
        and (limit.pattern is None or re.fullmatch(limit.pattern, value) is not None)
        and not value.startswith(limit.not_first or ("\0",))
        and not value.endswith(limit.not_last or ("\0",))
    )


def _nearest(limit: Limit, value: str) -> str | None:
    """The name in small letters, other characters as hyphens, where that fits."""
    plain = re.sub(r"[^a-z0-9]+", "-", value.lower())[: limit.most].strip("-")
    return plain if plain != value and _text_fits(limit, plain) else None
