"""`aifactory sovereignty`: the facts of a region and every rule over them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import sys

from aifactory.cli import output, regions
from aifactory.errors import Exit
from aifactory.sovereignty import Facts, Finding, Report, judge, observed, planned
from aifactory.sovereignty.rules import RULES


def show(region: str, *, live: bool, as_json: bool) -> None:
    loaded, plan = regions.load_plan(region)
    if live:
        from aifactory.engine import Stack

        facts = observed.facts(loaded.spec, plan, Stack(loaded.spec).resource_outputs())
    else:
        facts = planned.facts(loaded.spec, plan)
    report = judge(facts, loaded.spec.acceptance.waivers, dt.date.today())
    if as_json:
        output.emit_json({"facts": dataclasses.asdict(facts), "rules": [_row(report, rule) for rule in report.rules]})
    else:
        print(_facts(facts))
        print()
        print(_rules(report))
    if report.open:
        sys.exit(Exit.BAD_INPUT)


def _facts(facts: Facts) -> str:
    columns = ("what", "kind", "where", "law", "key", "login", "leaves", "logs", "software", "exit", "known")
    rows = [
        (r.name, r.kind, r.where, r.law, r.key, r.login, r.leaves, r.logs, r.software, r.exit, r.where.level)
        for r in facts.resources
    ]
    return output.table(columns, [[str(cell) for cell in row] for row in rows])


def _rules(report: Report) -> str:
    rows = []
    for rule in report.rules:
        meaning = (RULES[rule].__doc__ or "").splitlines()[0]
        found = [f for f in report.findings if f.rule == rule]
        rows.append((_mark(found), rule, meaning))
        rows += [("", "", f"  {f.against.scope}: {f.against.found}{_by(f)}") for f in found]
    return output.table(("", "rule", "meaning, and what speaks against it"), rows)


def _mark(found: list[Finding]) -> str:
    if not found:
        return "✓"
    return "✗" if any(f.waiver is None for f in found) else "waived"


def _by(finding: Finding) -> str:
    waiver = finding.waiver or finding.lapsed
    if waiver is None:
        return ""
    word = "waived" if finding.waiver else "waiver lapsed:"
    return f" · {word} by {waiver.owner} until {waiver.expires}: {waiver.reason}"


def _row(report: Report, rule: str) -> dict[str, object]:
    found = [f for f in report.findings if f.rule == rule]
    return {
        "rule": rule,
        "meaning": (RULES[rule].__doc__ or "").splitlines()[0],
        "verdict": {"✓": "holds", "✗": "open"}.get(_mark(found), "waived"),
        "against": [
            {
                **dataclasses.asdict(f.against),
                "waiver": f.waiver.model_dump(mode="json") if f.waiver else None,
                "lapsed": f.lapsed.model_dump(mode="json") if f.lapsed else None,
            }
            for f in found
        ],
    }
