"""Case files: what their names and marks expect. Real: files on disk, nothing else.

`<section>.error.<RULE>[+<RULE>].<what>.yaml` has exactly those problems. `# <-- here TEXT` at the end of a line says
that one of them stands in that line, under TEXT; `# here: LINE:COLUMN` in the first line says it by numbers.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

CASES = Path(__file__).parents[2] / "cases"
GOLDEN = Path(__file__).parents[2] / "golden" / "region"
SECRET = "s3cr3t"
"""Part of every secret in the cases; may never be seen again."""

MARK = re.compile(r"#\s*<-- here ?(?P<text>.*?)\s*$")
NUMBERS = re.compile(r"# here: (?P<line>\d+):(?P<column>\d+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Expected:
    """Where a problem must stand: a line, and either the text under the caret or the column."""

    line: int
    text: str | None = None
    column: int | None = None


def single() -> list[Path]:
    return sorted((CASES / "region").glob("*.yaml"))


def groups() -> list[Path]:
    return sorted(p for p in (CASES / "regions").iterdir() if p.is_dir())


def rules(name: str) -> tuple[str, ...]:
    """Rules that a case must break; none for one that is good."""
    found = re.search(r"error\.([A-Z0-9+-]+)\.", f"{name}.")
    return tuple(sorted(found.group(1).split("+"))) if found else ()


def placed(case: Path, folder: Path) -> Path:
    """A copy of a single case under the name that its region has."""
    return Path(shutil.copy(case, folder / "case.yaml"))


def expected(file: Path) -> Expected | None:
    """The mark of a file; None where it has none."""
    content = file.read_bytes().decode(errors="replace")
    numbers = NUMBERS.match(content)
    if numbers:
        return Expected(int(numbers["line"]), column=int(numbers["column"]))
    for number, line in enumerate(re.split(r"\r?\n", content), 1):
        mark = MARK.search(line)
        if mark:
            return Expected(number, text=mark["text"] or None)
    return None
