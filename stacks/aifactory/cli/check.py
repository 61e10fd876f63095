"""Commands that only look: validate, plan, preflight, catalog, doctor."""

from __future__ import annotations

import dataclasses
import datetime as dt
import sys
from typing import Any

from aifactory.cli import output, regions
from aifactory.errors import Exit, Problem, ProblemError, fail


def validate(names: list[str], *, as_json: bool, as_sarif: bool) -> None:
    from aifactory import __version__, sovereignty
    from aifactory.errors import render_sarif
    from aifactory.plan import build
    from aifactory.region import loader
    from aifactory.region.checks.rules import MEANINGS

    files = regions.files(names)
    if not files:
        raise fail(
            "CLI-006", "There is no region file.", code=Exit.BAD_INPUT, fix="aifactory init NAME --provider local"
        )
    loaded = loader.validate(files)
    problems: list[Problem] = []
    for region in loaded:
        try:
            sovereignty.check(region, build.of(region), dt.date.today())
        except ProblemError as error:
            problems.extend(error.problems)
    if problems:
        raise ProblemError(problems)
    if as_sarif:
        print(render_sarif([], __version__, MEANINGS))
    elif as_json:
        output.emit_json({"problems": [], "regions": [r.spec.name for r in loaded]})
    else:
        names_text = ", ".join(r.spec.name for r in loaded[:8]) + (" …" if len(loaded) > 8 else "")
        print(f"{len(loaded)} region{'s' if len(loaded) > 1 else ''} valid: {names_text}")


def plan(name: str, *, explain: bool, as_json: bool) -> None:
    from aifactory.plan import render

    _, region_plan = regions.load_plan(name)
    if as_json:
        output.emit_json(render.to_dict(region_plan))
    else:
        print(render.table(region_plan, explain=explain))


def preflight(name: str, *, as_json: bool) -> None:
    from aifactory.cli import lifecycle

    loaded, region_plan = regions.load_plan(name)
    lifecycle.preflight_problems(loaded, region_plan)
    if as_json:
        output.emit_json({"problems": []})
    else:
        print(f"{name}: nothing stands in the way of `aifactory up {name}`.")


def catalog(table: str, *, provider: str | None, as_json: bool) -> None:
    from aifactory import catalog as data
    from aifactory.catalog import suggest

    tables = {
        "gpus": data.gpus,
        "shapes": data.shapes,
        "models": data.models,
        "drivers": data.drivers,
        "engines": data.engines,
        "clouds": data.clouds,
        "countries": data.countries,
        "regimes": data.regimes,
        "versions": data.versions,
        "prices": data.prices,
    }
    if table not in tables:
        wrong = f"`{table}` is not a table of the catalogue." if table else "Which table?"
        near = suggest.nearest(table, tuple(tables))
        raise ProblemError([Problem("CLI-007", wrong, nearest=near, allowed=", ".join(tables))])
    rows: list[Any] = list(tables[table]().values())
    if provider is not None:
        rows = [r for r in rows if provider in getattr(r, "providers", (provider,))]
    dicts = [dataclasses.asdict(r) for r in rows]
    if as_json:
        output.emit_json(dicts)
        return
    columns = _COLUMNS.get(table) or tuple(dicts[0] if dicts else ())
    print(output.table(columns, [[_cell(d[c]) for c in columns] for d in dicts]))


_COLUMNS = {
    "gpus": ("key", "vendor", "architecture", "memory_gb", "memory_bandwidth_tb_s", "power_w", "nvlink_gb_s"),
    "shapes": ("key", "gpu", "gpus", "vcpus", "memory_gib", "nics", "nic_gbit_s", "fabric"),
    "models": ("key", "params_b", "context_tokens", "licence", "origin_country", "precisions", "engines"),
    "clouds": ("key", "provider", "partition", "country", "regions"),
}


def _cell(value: object) -> object:
    if value is None:
        return "unknown"
    if isinstance(value, tuple | list):
        return ", ".join(str(v) for v in value) or "–"
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items()) or "–"
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def doctor(*, as_json: bool) -> None:
    from aifactory import toolchain

    findings = toolchain.doctor()
    bad = [f for f in findings if not f.ok]
    if as_json:
        output.emit_json([dataclasses.asdict(f) for f in findings])
    else:
        for finding in findings:
            print(f"{'ok ' if finding.ok else 'BAD'} {finding.name:<18} {finding.detail}")
            if not finding.ok and finding.fix:
                print(f"    mend: {finding.fix}")
        print("\nAll there." if not bad else f"\n{len(bad)} to mend.")
    if bad:
        sys.exit(int(Exit.PREFLIGHT))
