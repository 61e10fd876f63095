"""The table of bench_aws.py, from its rows, in docs/performance.md."""

from __future__ import annotations

import datetime as dt
import json
import platform
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEADING = "## Clouds of the AWS family"


@dataclass(frozen=True)
class Bar:
    """A row of the table. The bar is seconds, MiB or requests; 0: none is set."""

    name: str
    nodes: int
    phase: str
    bar: float
    value: str = "seconds"
    variant: str = ""


BARS = (
    Bar("apply", 8, "apply", 0), Bar("apply", 64, "apply", 10), Bar("apply", 256, "apply", 20),
    Bar("apply", 1000, "apply", 60),
    Bar("unchanged, refresh included", 8, "unchanged", 0), Bar("unchanged, refresh included", 64, "unchanged", 4),
    Bar("unchanged, refresh included", 256, "unchanged", 0), Bar("unchanged, refresh included", 1000, "unchanged", 20),
    Bar("one node more", 8, "one more", 0), Bar("one node more", 64, "one more", 4),
    Bar("one node more", 256, "one more", 0),
    Bar("one node more", 1000, "one more", 0),
    Bar("destroy", 8, "destroy", 0), Bar("destroy", 64, "destroy", 0), Bar("destroy", 256, "destroy", 10),
    Bar("destroy", 1000, "destroy", 0),
    *(Bar("requests when unchanged", n, "unchanged", 40 + n / 100, "requests") for n in (8, 64, 256, 1000)),
    *(Bar("peak memory, apply", n, "apply", 350, "peak_mib") for n in (8, 64, 256, 1000)),
    Bar("apply, token buckets and 150 ms", 64, "apply", 0, variant="limited"),
    Bar("apply, token buckets and 150 ms", 256, "apply", 30, variant="limited"),
    Bar("apply, token buckets and 150 ms", 1000, "apply", 120, variant="limited"),
    Bar("calls refused by the buckets, %", 64, "apply", 5, "refused", "limited"),
    Bar("calls refused by the buckets, %", 256, "apply", 5, "refused", "limited"),
    Bar("calls refused by the buckets, %", 1000, "apply", 5, "refused", "limited"),
)  # fmt: skip
UNITS = {"seconds": " s", "peak_mib": " MiB", "requests": "", "refused": " %"}


def write(rows: Path, page: Path) -> str:
    """Puts the section into the page, in place of the one that is there; its text."""
    found = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    section = "\n".join([HEADING, "", *_intro(found), "", *_table(found), "", *_lessons(found), ""])
    text = page.read_text(encoding="utf-8")
    if HEADING in text:
        before, _, rest = text.partition(HEADING)
        at = rest.find("\n## ")
        text = before + section + (rest[at:] if at >= 0 else "")
    else:
        text = text.rstrip("\n") + "\n\n" + section
    page.write_text(text, encoding="utf-8")
    return section


def _intro(rows: list[dict[str, Any]]) -> list[str]:
    tools = sorted({row["tool"] for row in rows})
    left_out = "" if "terraform" in tools else " Terraform was not on this machine."
    machine = f"{platform.machine()}, Python {platform.python_version()}, {dt.date.today().isoformat()}"
    return [
        f"`make bench-aws` writes this section ({machine}).{left_out} The same region by three tools, each on a "
        "fresh emulator of `tests/emulator` on the same machine, in turn: Terraform 1.11 with the aws provider "
        "5.100.0 and its default parallelism (100 at 1000 nodes), `aifactory` with engine, plugin and program, "
        "and bare boto3, which has no plan, no state and no care for errors: the floor. Network with four "
        "subnets, gateways and NAT, key, bucket, role, placement group, template with eight EFA cards, nodes with"
        " an encrypted data volume. No host layer: the emulator starts no machines.",
        "",
        "It is an emulator: an instance runs at once, and a call takes milliseconds. Ratios against Terraform are"
        " upper bounds for apply and destroy, where its fixed waits would partly hide behind real ones; they are "
        "fair for requests, memory and the unchanged run.",
    ]


def _table(rows: list[dict[str, Any]]) -> list[str]:
    out = [
        "| measure | nodes | Terraform | boto3 | aifactory | Terraform ÷ aifactory | bar |",
        "|---|---|---|---|---|---|---|",
    ]
    for bar in BARS:
        values = {tool: _median(rows, tool, bar) for tool in ("terraform", "boto3", "aifactory")}
        if values["aifactory"] is None:
            continue
        tf, us = values["terraform"], values["aifactory"]
        ratio = f"{tf / us:.0f}×" if tf and us and bar.value != "refused" else "–"
        met = "–" if not bar.bar else f"≤ {bar.bar:.4g}{UNITS[bar.value]}" + (": missed" if us > bar.bar else "")
        shown = [_shown(values[tool], bar.value) for tool in ("terraform", "boto3", "aifactory")]
        out.append(f"| {bar.name} | {bar.nodes} | {' | '.join(shown)} | {ratio} | {met} |")
    return out


def _lessons(rows: list[dict[str, Any]]) -> list[str]:
    peaks = {n: _median(rows, "aifactory", Bar("", n, "apply", 0, "peak_mib")) for n in (8, 64, 256, 1000)}
    have = [n for n, peak in peaks.items() if peak is not None]
    lines = []
    if len(have) > 1:
        first, last = have[0], have[-1]
        grown = ((peaks[last] or 0) - (peaks[first] or 0)) / (last - first)
        lines.append(f"Memory grows by {grown:.2f} MiB a node between {first} and {last} nodes (bar: < 0.1).")
    failed = [
        f"{row['tool']} {row['phase']} at {row['nodes']} {row['variant']}".strip() for row in rows if not row["ok"]
    ]
    if failed:
        lines.append(f"Failed: {', '.join(failed)}.")
    others = statistics.median(row["others_s"] / max(row["seconds"], 0.1) for row in rows)
    lines.append(f"Other work took {others:.1f} of the machine's processors in the median row.")
    return [" ".join(lines)]


def _median(rows: list[dict[str, Any]], tool: str, bar: Bar) -> float | None:
    found = [
        row
        for row in rows
        if (row["tool"], row["nodes"], row["phase"], row["variant"]) == (tool, bar.nodes, bar.phase, bar.variant)
        and row["ok"]
    ]
    if not found:
        return None
    if bar.value == "refused":
        return statistics.median(100 * row["throttled"] / max(1, row["requests"]) for row in found)
    return float(statistics.median(row[bar.value] for row in found))


def _shown(value: float | None, kind: str) -> str:
    if value is None:
        return "–"
    return (
        f"{value:.0f}{UNITS[kind]}" if value >= 100 or kind in ("requests", "peak_mib") else f"{value:.1f}{UNITS[kind]}"
    )
