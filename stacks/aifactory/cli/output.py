"""How commands print: JSON for machines, aligned plain text for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any


def emit_json(data: Any) -> None:
    """One JSON document on stdout, key order as given."""
    print(json.dumps(data, indent=2, ensure_ascii=False, default=str))


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, indent: str = "") -> str:
    """Left-aligned columns; numbers to the right; no wrapping, so that lines can be grepped."""
    cells = [list(header)] + [["" if c is None else str(c) for c in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    numeric = [
        bool(rows) and all(isinstance(row[i], int | float) or row[i] is None for row in rows)
        for i in range(len(header))
    ]
    lines = []
    for row in cells:
        parts = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True)]
        lines.append((indent + "  ".join(parts)).rstrip())
    return "\n".join(lines)


def note(text: str) -> None:
    """A line for people, on stderr, so that stdout stays clean for pipes."""
    print(text, file=sys.stderr, flush=True)


def confirm(question: str, *, yes: bool) -> None:
    """Goes on only after a yes; never asks without a terminal.

    Raises ProblemError (exit 2) when there is nobody to ask, or the answer is no.
    """
    from aifactory.errors import Exit, fail

    if yes:
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise fail(
            "CLI-001", "This changes things and there is no terminal to ask.", code=Exit.BAD_INPUT, fix="pass --yes"
        )
    if input(f"{question} [y/N] ").strip().lower() not in {"y", "yes"}:
        raise fail("CLI-002", "Stopped: nothing was changed.", code=Exit.BAD_INPUT)
