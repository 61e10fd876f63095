"""The Pulumi program: the region file named like the stack → plan → components → outputs.

`aifactory up <region>` and `pulumi up -s <region>` both run this. What is wrong with the file is told in full
before anything is registered.
"""

from __future__ import annotations

import datetime as dt

import pulumi
from aifactory import naming, sovereignty
from aifactory.components import limits, sdk
from aifactory.components.region import Region
from aifactory.errors import ProblemError
from aifactory.plan import build
from aifactory.plan.model import RegionPlan
from aifactory.region import loader


def main() -> None:
    sdk.end_with_the_engine()
    sdk.leave_out_stack_traces()
    try:
        plan = planned(pulumi.get_stack())
    except ProblemError as error:
        sdk.stop(str(error))
    region = Region(naming.REGION, plan)
    for name, value in region.exports.items():
        pulumi.export(name, value)


def planned(name: str) -> RegionPlan:
    """The region's plan. Raises ProblemError with everything that stops it."""
    loaded = loader.load(loader.find(name))
    plan = build.of(loaded)
    sovereignty.check(loaded, plan, dt.date.today())
    if stopped := [*limits.problems(plan), *limits.unheeded(loaded.spec)]:
        raise ProblemError(loaded.placed(stopped))
    return plan


main()
