"""`make test-faults`: every case of the matrix, and docs/reliability.md written from what came of it.

    python tests/faults/run.py [--rows FILE] [--table] [pytest's own options]

With `--table` nothing is run: the page is written from the rows of an earlier run. A run that pytest's options narrow
(`-k`, a file) replaces the rows of its cases and leaves the others. Exit code: pytest's.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import subprocess
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO), str(REPO / "stacks")]

import tomllib  # noqa: E402

from tests.faults import ledger  # noqa: E402
from tests.faults.ledger import Row  # noqa: E402

SHOWN = 4
"""Cases of a row that are quoted."""
PAGE = REPO / "docs" / "reliability.md"
INTRO = """# Reliability

{about}

{after}

| | |
|---|---|
| I1 | as many nodes as wanted, counted by tag from outside |
| I2 | nothing in the cloud that state and journals do not name: the whole inventory, by kind |
| I3 | a second run asks for nothing but reads |
| I4 | no planted secret anywhere but in its store |
| I5 | the end says what happened, what is left, what to do |
| I6 | no lock outlives its holder by more than a minute |
| I7 | no volume, bucket, key or file system is deleted unless asked for by name |
"""
ABOUT = (
    "`make test-faults` does every fault of this page on purpose and writes the page. The cloud is an emulator "
    "(`tests/emulator`: moto behind HTTP, with lost replies, hangs, token buckets, unseen and stale reads); command, "
    "engine, plugin, state, locks, signals and kills are real. What only a real account can show: [aws.md](aws.md). "
    "The quick cases run in `make test` too."
)
AFTER = "After each fault, unless its row says otherwise, a plain `up` follows, and then all of this must hold:"
NOT_HERE = """
Faults 22 to 24 of the study (sick nodes, SSH that dies, waves over regions) are about hosts, not about a cloud's API.
"""


def _of(number: int, terraform: dict[str, str]) -> str:
    return terraform.get(str(number), "not tried")


def page(rows: list[Row], terraform: dict[str, Any]) -> str:
    right = sum(row.right for row in rows)
    newest = dt.date.today().isoformat()
    out = [
        INTRO.format(about=ABOUT, after=AFTER),
        f"Last run {newest}: {right} of {len(rows)} cases right. Terraform's column is data: "
        f"{terraform['source']['title']} ({terraform['source']['document']}).\n",
        "| # | what was done | expected | what we did | Terraform, measured |",
        "|---|---|---|---|---|",
    ]
    rows = sorted(rows, key=lambda row: (row.number, row.order))
    shown: set[int] = set()
    for (number, done), some in groupby(rows, key=lambda row: (row.number, row.done)):
        cases = list(some)
        theirs = _of(number, terraform["measured"]) if number not in shown else "″"
        shown.add(number)
        out.append(f"| {number} | {done} ({cases[0].on}) | {cases[0].expected} | {_ours(cases)} | {theirs} |")
    out.append(NOT_HERE)
    wrong = [row for row in rows if not row.right]
    out.append("## What is left\n")
    if wrong:
        out += [f"- **{row.number}**, {row.done}{_case(row)}: {_plain(row.seen)}" for row in wrong]
    else:
        out.append("Nothing: every case is right.")
    return "\n".join(out) + "\n"


def _case(row: Row) -> str:
    return f" ({row.case})" if row.case else ""


def _ours(cases: list[Row]) -> str:
    wrong = [row for row in cases if not row.right]
    count = f" ({len(cases)} cases)" if len(cases) > 1 else ""
    verdict = f"right{count}" if not wrong else f"**{len(wrong)} of {len(cases)} not right**"
    seen = [f"{row.case}: {row.seen}" if row.case else row.seen for row in cases if row.seen and row.right]
    shown = "; ".join(_plain(text) for text in seen[:SHOWN])
    return f"{verdict}. {shown}" if shown else verdict


def _plain(text: str) -> str:
    return text.replace("|", "¦").replace("\n", " ").replace("<", "‹").replace(">", "›")


def merge(old: list[Row], new: list[Row]) -> list[Row]:
    """New rows in place of old ones of the same case."""
    found = {(row.number, row.done, row.case): row for row in [*old, *new]}
    return list(found.values())


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=Path, default=Path(tempfile.gettempdir()) / "test-faults.jsonl")
    arguments.add_argument("--table", action="store_true")
    given, more = arguments.parse_known_args()
    old = ledger.read(given.rows) if given.rows.exists() and (more or given.table) else []
    code, new = 0, []
    if not given.table:
        fresh = Path(tempfile.mkdtemp(prefix="test-faults-")) / "rows.jsonl"
        env = {**os.environ, ledger.RESULTS: str(fresh)}
        folder = [] if any((REPO / each.partition("::")[0]).exists() for each in more) else ["tests/faults"]
        command = [sys.executable, "-m", "pytest", "-n", "0", "-q", *more, *folder]
        code = subprocess.run(command, cwd=REPO, env=env, check=False).returncode
        new = ledger.read(fresh) if fresh.exists() else []
    rows = merge(old, new)
    ledger.write(given.rows, rows)
    PAGE.write_text(page(rows, tomllib.loads((Path(__file__).with_name("terraform.toml")).read_text())))
    print(f"{sum(row.right for row in rows)} of {len(rows)} cases right: {PAGE.relative_to(REPO)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
