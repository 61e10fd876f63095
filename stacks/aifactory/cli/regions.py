"""Region names and files as the commands take them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aifactory.plan.model import RegionPlan
    from aifactory.region.loader import LoadedRegion


def files(names: list[str]) -> list[Path]:
    """Paths for region names or files (a word with `/` or `.yaml` is a file); no names = every region."""
    from aifactory import paths
    from aifactory.region import loader

    if not names:
        return sorted(p for p in paths.regions_dir().glob("*.yaml") if not p.name.startswith("Pulumi."))
    return [Path(n) if "/" in n or n.endswith((".yaml", ".yml")) else loader.find(n) for n in names]


def load(name: str) -> LoadedRegion:
    """The region `name`, checked; raises ProblemError with everything that is wrong with it."""
    from aifactory import paths
    from aifactory.errors import ProblemError
    from aifactory.region import loader

    try:
        return loader.validate(files([name]))[0]
    except ProblemError as error:
        from aifactory.engine import leftovers

        kept = leftovers.applied_file(name)
        if [p.rule for p in error.problems] != ["SPEC-001"] or not kept.exists():
            raise
        fix = f"the file of its last `up` is kept: cp {kept} {paths.region_file(name)}"
        raise ProblemError([dataclasses.replace(error.problems[0], fix=fix)]) from None


def load_plan(name: str) -> tuple[LoadedRegion, RegionPlan]:
    from aifactory.plan import build

    loaded = load(name)
    return loaded, build.of(loaded)
