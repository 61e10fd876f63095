"""The rows of docs/reliability.md: what each test says of its fault, and what came of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

RESULTS = "AIFACTORY_FAULTS"
"""Where `make test-faults` has its rows written; set, the whole matrix runs."""
Test = TypeVar("Test", bound=Callable[..., Any])
whole = pytest.mark.skipif(not os.environ.get(RESULTS), reason="of the whole matrix: make test-faults")


@dataclass(frozen=True)
class Fault:
    """Of which fault of the matrix a test is, what it does, and what must come of it."""

    number: int
    done: str
    expected: str
    on: str = "the real engine"
    order: int = 0


@dataclass
class Row:
    number: int
    done: str
    expected: str
    on: str
    case: str
    right: bool
    seen: str
    seconds: float
    order: int = 0


@dataclass
class Notes:
    """What a test saw, for its row: `notes("adopted 3 of 4")`."""

    said: list[str] = field(default_factory=list)

    def __call__(self, text: str) -> None:
        self.said.append(text)


def fault(
    number: int, done: str, expected: str, *, on: str = "the real engine", order: int = 0
) -> Callable[[Test], Test]:
    def mark(test: Test) -> Test:
        test.fault = Fault(number, done, expected, on, order)  # type: ignore[attr-defined]
        return test

    return mark


def record(item: pytest.Function, report: pytest.TestReport) -> None:
    """Writes the row of a test that has ended, where rows are wanted."""
    kind: Fault | None = getattr(item.function, "fault", None)
    path = os.environ.get(RESULTS, "")
    if kind is None or "/" not in path or report.when == "teardown" or (report.when == "setup" and report.passed):
        return
    notes = item.funcargs.get("notes")
    seen = "; ".join(notes.said) if isinstance(notes, Notes) else ""
    if not report.passed:
        crash = getattr(report.longrepr, "reprcrash", None)
        why = (crash.message if crash else str(report.longrepr)).splitlines()[0]
        seen = "; ".join(part for part in (seen, why[:300]) if part)
    case = item.name.partition("[")[2].rstrip("]")
    row = Row(kind.number, kind.done, kind.expected, kind.on, case, report.passed, seen, report.duration, kind.order)
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def read(path: Path) -> list[Row]:
    return [Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")
