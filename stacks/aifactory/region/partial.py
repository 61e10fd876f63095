"""What is left of a file with mistakes of shape, so that the rules can still look at the rest of it.

Wrong optional parts are left out; wrong or missing required ones get a stand-in. What the rules then say about
such a part or beside it is dropped by the loader, which knows their paths.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from aifactory.region import schema
from aifactory.region.positions import Path

STAND_INS = {"^[0-9a-f]{64}$": "0" * 64}


def is_stand_in(name: str) -> bool:
    """Whether a name is one of `without`, in the place of a wrong one: nobody else can be held against it."""
    return name.endswith("-stand-in")


def without(data: Any, wrong: Iterable[Path]) -> Any:
    """A copy of `data` with nothing wrong left in it, as far as that can be done."""
    left = json.loads(json.dumps(data))
    for number, path in enumerate(sorted(wrong, key=len, reverse=True)):
        section = schema.value_at(left, path[:-1]) if path else None
        if isinstance(section, dict):
            section.pop(path[-1], None)
            stand_in = _stand_in(path, data, number) if _required(path, data) else None
            if stand_in is not None:
                section[path[-1]] = stand_in
        elif isinstance(section, list) and isinstance(path[-1], int) and path[-1] < len(section):
            section[path[-1]] = _stand_in(path, data, number)
    return left


def _required(path: Path, data: Any) -> bool:
    section = schema.at(path[:-1], data)
    return section is not None and path[-1] in section.get("required", ())


def _stand_in(path: Path, data: Any, number: int) -> Any:
    """A value of the right form that nobody else has; None where there is none (a whole section)."""
    node = schema.at(path, data) or {}
    pattern = str(node.get("pattern"))
    if words := schema.choices(node):
        return int(words[0]) if node.get("type") == "integer" else words[0]
    if pattern in STAND_INS or pattern in schema.FORMS:
        example = STAND_INS.get(pattern) or schema.FORMS[pattern][1].strip('"')
        return f"x{number}-stand-in" if path[-1] in {"name", "pool"} else example
    stand_ins: dict[Any, Any] = {
        "integer": node.get("minimum", 1),
        "number": 1.0,
        "string": "2000-01-01" if node.get("format") == "date" else f"stand-in-{number}",
    }
    return stand_ins.get(node.get("type"))
