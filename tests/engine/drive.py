"""One operation of a Stack in a process of its own, so that a test can stop or kill it: PROJECT NAME OPERATION."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from aifactory.engine import Stack
from aifactory.engine.events import Event, Note
from aifactory.errors import ProblemError

from tests.engine.engine_project import spec


def main(project: str, name: str, operation: str) -> int:
    notes: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.message)

    try:
        outcome = getattr(Stack(spec(name), project=Path(project)), operation)(hear)
    except ProblemError as error:
        print(json.dumps({"exit": int(error.code), "rules": [p.rule for p in error.problems], "text": str(error)}))
        return int(error.code)
    reasons = [reason for failure in outcome.failures for reason in failure.reasons]
    print(json.dumps({"exit": int(outcome.exit), "notes": notes, "changes": outcome.changes, "reasons": reasons}))
    return int(outcome.exit)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
