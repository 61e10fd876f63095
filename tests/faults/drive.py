"""One operation of a Stage in a process of its own, as `aifactory` would be: PROJECT NAME OPERATION; ends with JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from aifactory.engine import Stack
from aifactory.engine.events import Event, Note
from aifactory.errors import ProblemError
from aifactory.region.spec import Region

SPEC = {
    "version": 1,
    "jurisdiction": {"country": "DE"},
    "provider": {"kind": "local"},
    "pools": [{"name": "a", "shape": "local-cpu", "nodes": 1}],
}
"""What Stack reads of a spec is its name and where its state is; the resources come from the project's own file."""


def spec(name: str) -> Region:
    return Region.model_validate_json(json.dumps({**SPEC, "name": name}))


def main(project: str, name: str, operation: str) -> int:
    notes: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.message)

    stack = Stack(spec(name), project=Path(project))
    try:
        if operation == "snapshot":
            found = stack.snapshot()
            print(json.dumps({"exit": 0, "text": found.text if found else ""}))
            return 0
        outcome = getattr(stack, operation)(hear)
    except ProblemError as error:
        rules = [problem.rule for problem in error.problems]
        print(json.dumps({"exit": int(error.code), "rules": rules, "text": str(error)}))
        return int(error.code)
    reasons = [f"{failure.name}: {reason}" for failure in outcome.failures for reason in failure.reasons]
    said = {"exit": int(outcome.exit), "notes": notes, "changes": outcome.changes, "reasons": reasons}
    print(json.dumps(said | {"text": "\n".join([*notes, *outcome.warnings, *reasons])}))
    return int(outcome.exit)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
