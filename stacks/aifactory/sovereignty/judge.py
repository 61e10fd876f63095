"""Rules over facts, with waivers: a report, and the problems that stop a region."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from aifactory.errors import Problem, ProblemError
from aifactory.plan.model import RegionPlan
from aifactory.region.loader import LoadedRegion
from aifactory.region.spec import Region, Waiver
from aifactory.sovereignty import planned
from aifactory.sovereignty.facts import Facts
from aifactory.sovereignty.rules import RULES, Against


@dataclass(frozen=True)
class Finding:
    """One thing that speaks against a rule, and the waiver that covers it, if one does."""

    rule: str
    against: Against
    waiver: Waiver | None
    lapsed: Waiver | None = None
    """A waiver that would cover it and has expired."""


@dataclass(frozen=True)
class Report:
    """Every rule, in order, and all that speaks against it."""

    region: str
    rules: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def open(self) -> tuple[Finding, ...]:
        """What no waiver covers."""
        return tuple(f for f in self.findings if f.waiver is None)

    @property
    def held(self) -> tuple[str, ...]:
        """Rules against which nothing speaks."""
        broken = {f.rule for f in self.findings}
        return tuple(r for r in self.rules if r not in broken)


def judge(facts: Facts, waivers: Sequence[Waiver], today: dt.date) -> Report:
    """All rules over the facts. A waiver covers a rule for its scope (the region, or what the finding names)."""
    found = []
    for rule, against in ((name, a) for name, check in RULES.items() for a in check(facts)):
        mine = [w for w in waivers if w.check == rule and w.scope in (facts.region, against.scope)]
        valid = next((w for w in mine if w.expires >= today), None)
        found.append(Finding(rule, against, valid, None if valid else next(iter(mine), None)))
    return Report(facts.region, tuple(RULES), tuple(found))


def problems(spec: Region, plan: RegionPlan, today: dt.date) -> tuple[Problem, ...]:
    """What stops the region: everything against a rule that no valid waiver covers, each with its way out."""
    report = judge(planned.facts(spec, plan), spec.acceptance.waivers, today)
    return tuple(_problem(f) for f in report.open)


def check(loaded: LoadedRegion, plan: RegionPlan, today: dt.date) -> None:
    """Raises ProblemError (exit 2), with places in the file, unless every rule holds or is waived."""
    if found := problems(loaded.spec, plan, today):
        raise ProblemError(loaded.placed(found))


def _problem(finding: Finding) -> Problem:
    a = finding.against
    meaning = (RULES[finding.rule].__doc__ or "").splitlines()[0]
    lapsed = f" The waiver of {finding.lapsed.owner} ended on {finding.lapsed.expires}." if finding.lapsed else ""
    return Problem(
        finding.rule,
        f"{a.scope}: {a.found} ({a.level}). The rule: {meaning[:1].lower()}{meaning[1:]}{lapsed}",
        path=a.path or None,
        allowed=f"{a.allowed}.",
        fix=f"{a.fix}; or acceptance.waivers: {{check: {finding.rule}, scope: {a.scope}, reason, owner, expires}}",
    )
