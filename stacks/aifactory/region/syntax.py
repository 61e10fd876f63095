"""What a YAML parser stumbled over, in words for people, with the place where it must be mended."""

from __future__ import annotations

import re
from typing import Any

from aifactory.errors import Problem
from aifactory.region.text import Text

RULE = "SPEC-004"

PLAIN = (
    (
        re.compile("mapping values are not allowed here"),
        "A second `key:` starts here: the line is indented wrongly, or its text holds `: ` and needs quotes.",
        "line it up with the keys beside it, or write the text in quotes",
    ),
    (
        re.compile("could not find expected ':'"),
        "This is neither `key: value` nor a list item: a colon and a space are missing after the key.",
        "write `key: value`, or `- value` in a list",
    ),
    (
        re.compile("but found (?:'[\\]}]'|\\('[\\]}]',\\))"),
        "A bracket is closed here that is not open.",
        "remove it, or open it",
    ),
    (
        re.compile("expected <block end>, but found '<block (?:mapping|sequence) start>'"),
        "This line is indented differently from the lines it belongs to.",
        "start it in the same column as the keys beside it",
    ),
    (
        re.compile("expected <block end>, but found"),
        "This does not continue what is above it: wrong indentation, or a quote inside a quoted text.",
        "line it up with the keys beside it; inside '…' write a quote as ''",
    ),
    (
        re.compile("found unknown escape character"),
        'This is no escape of a text in "…".',
        "write the backslash twice, or use '…' where a backslash is only a backslash",
    ),
    (
        re.compile("found character '[%@`|>]' that cannot start"),
        "A text cannot start with this character.",
        "write the text in quotes",
    ),
)

BRACKET = re.compile(r"expected ',' or '[\]}]'")
UNCLOSED = re.compile("found unexpected (?:end of stream|document separator)")
TAB = re.compile(r"found character '\\t'")


def explain(error: Exception, text: Text, reached: int) -> Problem:
    """The parser's error as a problem; `reached` is the offset up to which the file was read.

    The parser's own words are not repeated: they may quote the file.
    """
    said = str(getattr(error, "problem", None) or "")
    index = _index(getattr(error, "problem_mark", None))
    opened = _index(getattr(error, "context_mark", None))
    if index is None:
        return Problem(RULE, "After this comes something that is not YAML.", text.place(reached))
    if TAB.search(said.replace("\t", "\\t")):
        return _tab(text, index)
    if UNCLOSED.search(said) and opened is not None:
        return Problem(RULE, "The quote that is opened here is not closed.", text.place(opened), fix="close the quote")
    if BRACKET.search(said) and opened is not None:
        message = f"The bracket opened in line {text.place(opened).line} is not closed here, or a comma is missing."
        return Problem(RULE, message, text.place(index), fix="close the bracket, or put a comma between the items")
    for pattern, message, fix in PLAIN:
        if pattern.search(said):
            return Problem(RULE, message, text.place(index), fix=fix)
    return Problem(RULE, "The file stops being YAML here.", text.place(index))


def _tab(text: Text, index: int) -> Problem:
    """A tab: the parser may point at the blanks before it."""
    at = text.content.find("\t", index)
    place = text.place(at if at >= 0 else index)
    return Problem(RULE, "There is a tab here; YAML indents with spaces only.", place, fix="replace it with spaces")


def _index(mark: Any) -> int | None:
    index = getattr(mark, "index", None)
    return index if isinstance(index, int) else None
