"""Right values close to a wrong one, for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(value: str, choices: Iterable[str], n: int = 3) -> tuple[str, ...]:
    """At most `n` of `choices` that `value` may have meant, best first; empty when none is near.

    Near is: alike as a whole, or the same letters and digits in another case or with other separators.
    """
    folded = {choice: _fold(choice) for choice in choices}
    wanted = _fold(value)
    scored = [(difflib.SequenceMatcher(None, wanted, text).ratio(), choice) for choice, text in folded.items()]
    good = sorted((-score, choice) for score, choice in scored if score >= 0.6)
    return tuple(choice for _, choice in good[:n])


def _fold(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())
