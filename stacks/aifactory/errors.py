"""What went wrong, where, and what mends it: `Problem` and its one renderer.

A mistake of a user is a `Problem` (gathered, sorted, shown all at once). A bug keeps its traceback.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum


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
    """Where in a file: 1-based line and column, and the source line when it is known."""

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
    """

    rule: str
    message: str
    place: Place | None = None
    path: str | None = None
    nearest: tuple[str, ...] = ()
    allowed: str | None = None
    fix: str | None = None

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
    """All problems as plain text: place, path, rule, the line with a caret, message, hints."""
    return "\n\n".join(_render_one(p) for p in problems)


def _render_one(problem: Problem) -> str:
    head = [str(problem.place)] if problem.place else []
    if problem.path:
        head.append(problem.path)
    head.append(f"[{problem.rule}]")
    lines = ["  ".join(head)]
    place = problem.place
    if place and place.line is not None and place.source is not None:
        shown = place.source.rstrip("\n").expandtabs(1)[:160]
        lines.append(f"{place.line:>4} | {shown}")
        if place.column is not None:
            width = max(1, (place.end_column or place.column + 1) - place.column)
            width = max(1, min(width, len(shown) - place.column + 1))
            lines.append(f"     | {' ' * (place.column - 1)}{'^' * width}")
    lines.extend(f"  {line}" for line in problem.message.splitlines())
    if problem.nearest:
        lines.append(f"  Nearest: {', '.join(problem.nearest)}.")
    if problem.allowed:
        lines.append(f"  Allowed: {problem.allowed}")
    if problem.fix:
        lines.append(f"  Fix: {problem.fix}")
    return "\n".join(lines)


def render_json(problems: Iterable[Problem]) -> str:
    """`{"problems": [...]}`, one object a problem, keys as in `Problem` (null where unknown)."""
    return json.dumps({"problems": [asdict(p) for p in problems]}, indent=2)


def render_sarif(problems: Iterable[Problem], version: str) -> str:
    """A SARIF 2.1.0 log with one run, for code-review tools."""
    items = list(problems)
    return json.dumps(
        {
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [
                {
                    "tool": {
                        "driver": {
                            "name": "aifactory",
                            "version": version,
                            "rules": [{"id": rule} for rule in sorted({p.rule for p in items})],
                        }
                    },
                    "results": [_sarif_result(p) for p in items],
                }
            ],
        },
        indent=2,
    )


def _sarif_result(problem: Problem) -> dict[str, object]:
    result: dict[str, object] = {
        "ruleId": problem.rule,
        "level": "error",
        "message": {"text": problem.message},
    }
    place = problem.place
    if place:
        region: dict[str, int] = {}
        if place.line is not None:
            region["startLine"] = place.line
            region["startColumn"] = place.column or 1
            region["endColumn"] = place.end_column or (place.column or 1) + 1
        physical: dict[str, object] = {"artifactLocation": {"uri": place.file}}
        if region:
            physical["region"] = region
        result["locations"] = [{"physicalLocation": physical}]
    return result
