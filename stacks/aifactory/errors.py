"""What went wrong, where, and what mends it: `Problem` and its one renderer.

A mistake of a user is a `Problem` (gathered, sorted, shown all at once). A bug keeps its traceback.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from urllib.parse import quote

SHOWN_COLUMNS = 120
"""Width of a quoted source line; a longer one is cut around the caret."""


class Exit(IntEnum):
    """Exit codes of every command; printed in `--help`."""

    OK = 0
    BAD_INPUT = 2
    PREFLIGHT = 3
    FAILED = 4
    NOT_PROVED = 5
    INTERRUPTED = 130
    TERMINATED = 143


@dataclass(frozen=True)
class Place:
    """Where in a file: 1-based line and column (in characters), and the source line when it is known.

    `end_column` is the first column after it. `source` must not hold a secret: whoever makes the place hides it.
    """

    file: str
    line: int | None = None
    column: int | None = None
    end_column: int | None = None
    source: str | None = None

    def __str__(self) -> str:
        parts = [self.file, self.line, self.column]
        return ":".join(str(p) for p in parts if p is not None)


@dataclass(frozen=True)
class Problem:
    """One mistake: rule id, what is wrong, where, what is allowed, how to mend it.

    `rule` is stable (`SPEC-012`, `PRE-003`). `message` never holds a secret value.
    `nearest` are right values close to the one given; `fix` is an edit or a command.
    `list_command` prints every right value where they are too many to name.
    """

    rule: str
    message: str
    place: Place | None = None
    path: str | None = None
    nearest: tuple[str, ...] = ()
    allowed: str | None = None
    fix: str | None = None
    list_command: str | None = None

    def sort_key(self) -> tuple[str, int, int, str]:
        place = self.place or Place("")
        return (place.file, place.line or 0, place.column or 0, self.rule)


class ProblemError(Exception):
    """One or more problems that stop the command with `code`; nothing has been changed."""

    def __init__(self, problems: Sequence[Problem], code: Exit = Exit.BAD_INPUT) -> None:
        self.problems = tuple(sorted(problems, key=Problem.sort_key))
        self.code = code
        super().__init__(render_text(self.problems))


def fail(rule: str, message: str, *, code: Exit, fix: str | None = None) -> ProblemError:
    """A single problem without a place, ready to raise."""
    return ProblemError([Problem(rule, message, fix=fix)], code)


def render_text(problems: Iterable[Problem]) -> str:
    """All problems as plain text: place, path, rule, the line with a caret, message, hints.

    Nothing that a file says can move the cursor or reorder the line: what cannot be printed is shown as �.
    """
    return "\n\n".join(_render_one(p) for p in problems)


def _render_one(problem: Problem) -> str:
    head = [_printable(str(problem.place))] if problem.place else []
    if problem.path:
        head.append(_printable(problem.path))
    head.append(f"[{problem.rule}]")
    lines = ["  ".join(head)]
    if problem.place:
        lines.extend(_quote_source(problem.place))
    lines.extend(f"  {_printable(line)}" for line in problem.message.splitlines())
    hints = []
    if problem.nearest:
        hints.append(f"Nearest: {', '.join(problem.nearest)}.")
    if problem.list_command:
        hints.append(f"All of them: {problem.list_command}")
    if hints:
        lines.append("  " + _printable("  ".join(hints)))
    if problem.allowed:
        lines.append(f"  Allowed: {_printable(problem.allowed)}")
    if problem.fix:
        lines.append(f"  Fix: {_printable(problem.fix)}")
    return "\n".join(lines)


def _quote_source(place: Place) -> list[str]:
    """The source line and, where the column is known, carets under it."""
    if place.line is None or place.source is None:
        return []
    shown = place.source.rstrip("\r\n")
    first = (place.column or 1) - 1
    last = max(first + 1, (place.end_column or 0) - 1)
    if len(shown) > SHOWN_COLUMNS:
        start = max(0, min(first - SHOWN_COLUMNS // 3, len(shown) - SHOWN_COLUMNS))
        cut = shown[start : start + SHOWN_COLUMNS]
        shown = ("…" if start else "") + cut + ("…" if start + SHOWN_COLUMNS < len(shown) else "")
        shift = start - (1 if start else 0)
        first, last = first - shift, last - shift
    shown = _printable(shown)
    number = f"{place.line:>4}"
    lines = [f"{number} | {shown}".rstrip()]
    if place.column is not None:
        before, under = _width(shown[:first]) + max(0, first - len(shown)), _width(shown[first:last])
        lines.append(f"{' ' * len(number)} | {' ' * before}{'^' * max(1, under)}")
    return lines


def _width(text: str) -> int:
    """Columns on a terminal: wide characters take two, combining ones none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " if c == "\t" else "�" for c in text)


def render_json(problems: Iterable[Problem]) -> str:
    """`{"problems": [...]}`, one object a problem, keys as in `Problem` (null where unknown)."""
    return json.dumps({"problems": [asdict(p) for p in problems]}, indent=2)


def render_sarif(problems: Iterable[Problem], version: str, meanings: Mapping[str, str] | None = None) -> str:
    """A SARIF 2.1.0 log with one run, for code-review tools. `meanings`: rule id → one line."""
    items = list(problems)
    said = meanings or {}
    rules: list[dict[str, object]] = [
        {"id": rule, "shortDescription": {"text": said[rule]}} if rule in said else {"id": rule}
        for rule in sorted({p.rule for p in items})
    ]
    run = {
        "tool": {"driver": {"name": "aifactory", "version": version, "rules": rules}},
        "columnKind": "unicodeCodePoints",
        "results": [_sarif_result(p) for p in items],
    }
    return json.dumps(
        {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}, indent=2
    )


def _sarif_result(problem: Problem) -> dict[str, object]:
    result: dict[str, object] = {
        "ruleId": problem.rule,
        "level": "error",
        "message": {"text": _sarif_message(problem)},
    }
    location: dict[str, object] = {}
    place = problem.place
    if place:
        physical: dict[str, object] = {"artifactLocation": {"uri": quote(place.file, safe="/")}}
        if place.line is not None:
            column = place.column or 1
            end = max(column + 1, place.end_column or 0)
            physical["region"] = {"startLine": place.line, "startColumn": column, "endColumn": end}
        location["physicalLocation"] = physical
    if problem.path:
        location["logicalLocations"] = [{"fullyQualifiedName": problem.path}]
    if location:
        result["locations"] = [location]
    return result


def _sarif_message(problem: Problem) -> str:
    parts = [problem.message]
    if problem.nearest:
        parts.append(f"Nearest: {', '.join(problem.nearest)}.")
    if problem.list_command:
        parts.append(f"All of them: {problem.list_command}")
    if problem.allowed:
        parts.append(f"Allowed: {problem.allowed}")
    if problem.fix:
        parts.append(f"Fix: {problem.fix}")
    return "\n".join(parts)
