"""The Pulumi program: the region file named like the stack → plan → components → outputs.

`aifactory up <region>` and `pulumi up -s <region>` both run this. What is wrong with the file is told in full
before anything is registered.
"""

from __future__ import annotations

import pulumi
from aifactory import naming
from aifactory.components import limits, sdk
from aifactory.components.region import Region
from aifactory.errors import ProblemError
from aifactory.plan import build
from aifactory.region import loader


def main() -> None:
    sdk.leave_out_stack_traces()
    try:
        (loaded,) = loader.validate([loader.find(pulumi.get_stack())])
        plan = build.plan(loaded.spec)
        if refused := limits.problems(plan):
            raise ProblemError(refused)
    except ProblemError as error:
        sdk.stop(str(error))
    region = Region(naming.REGION, plan)
    for name, value in region.exports.items():
        pulumi.export(name, value)


main()
