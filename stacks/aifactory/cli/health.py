"""`aifactory health`: one verdict a node with GPUs, by the catalogue's rows. Reads; changes nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aifactory.cli import output, regions, use
from aifactory.errors import Exit

if TYPE_CHECKING:
    from aifactory.hosts.play import RunResult

WELL = ("ok", "warn")


@dataclass(frozen=True)
class Judged:
    """`verdict` is a word of the catalogue's table signals, or `unknown` where the node could not be asked."""

    node: str
    verdict: str
    told: str


def health(name: str, *, as_json: bool) -> None:
    """Exit 5 when a node is neither ok nor worth a warning only, or did not answer."""
    from aifactory.components import role_vars
    from aifactory.hosts import run as hosts_run
    from aifactory.hosts.play import Play

    region = use.standing(name)
    _, plan = regions.load_plan(name)
    judged: list[Judged] = []
    for pool in plan.pools:
        hosts = tuple(h for h in region.hosts if h.pool == pool.name)
        if not pool.gpus_per_node or not hosts:
            continue
        play = Play("health.yml", "", hosts, ("health",), {"health": role_vars.health(plan, pool)})
        judged += _judged(hosts_run.run_play(play, region.ssh_access(), key=b""))
    if as_json:
        output.emit_json({"region": name, "nodes": [vars(one) for one in judged]})
    elif judged:
        print(output.table(("node", "verdict", "why"), [(one.node, one.verdict, one.told) for one in judged]))
    else:
        print(f"Region {name} has no GPUs.")
    if any(one.verdict not in WELL for one in judged):
        sys.exit(int(Exit.NOT_PROVED))


def _judged(result: RunResult) -> Iterator[Judged]:
    for node, outcome in result.hosts.items():
        told = next((note.partition(f"{node} ")[2] for note in result.notes if f" {node} " in f" {note}"), "")
        verdict, _, why = told.partition(": ")
        if outcome.done and verdict:
            yield Judged(node, verdict, why)
        else:
            yield Judged(node, "unknown", outcome.message or outcome.status)
