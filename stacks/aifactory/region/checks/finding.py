"""What a rule finds: a path in the spec and what is wrong there. The loader adds file, line and rule id."""

from __future__ import annotations

from dataclasses import dataclass

from aifactory.region.positions import Path


@dataclass(frozen=True)
class Finding:
    """One thing wrong at `path`. `at_key`: the key is at fault, not its value."""

    path: Path
    message: str
    at_key: bool = False
    nearest: tuple[str, ...] = ()
    allowed: str | None = None
    fix: str | None = None
    list_command: str | None = None
