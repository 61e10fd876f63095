"""kill -9 in the middle of a create or update, then the next run. Real: processes, the kill, containers, logins."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aifactory.provider import identity
from aifactory.provider.local.node_pool import NodePool

from tests.provider.harness import Engine
from tests.provider.local.ground import Ground, ssh

pytestmark = pytest.mark.containers

_VICTIM = """
import json, os, signal, sys
from aifactory.provider import coerce, wire
from aifactory.provider.local import driver, gang
from aifactory.provider.local.node_pool import NodePool
from tests.provider.harness import Engine, State

job = json.load(sys.stdin)
gang.AT_ONCE = 1  # so that "the second" means something
calls = 0

def deadly(real):
    def verb(*args, **more):
        global calls
        calls += 1
        if calls == job["call"] and job["before"]:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = real(*args, **more)
        if calls == job["call"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer
    return verb

engine = Engine(NodePool(), deployment=job["deployment"])
if job["first"]:
    engine.up(job["first"])
setattr(driver.ContainerEngine, job["verb"], deadly(getattr(driver.ContainerEngine, job["verb"])))
engine.up(job["values"])
print("survived")
"""


@dataclass(frozen=True)
class Point:
    """The kill comes at the nth call of a verb of the engine, before or after it did its work."""

    verb: str
    call: int
    before: bool = False


POINTS = {
    "before anything": Point("create_volume", 1, before=True),
    "volume without container": Point("create_volume", 1),
    "container without host key": Point("create", 1),
    "container that never ran": Point("copy_in", 1),
    "first of two runs": Point("start", 1),
    "second has a volume": Point("create_volume", 2),
    "second is created": Point("create", 2),
    "both run, none has answered": Point("start", 2),
}


@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS.keys())
def test_create_killed_then_created_makes_exactly_two(ground: Ground, point: Point) -> None:
    _kill(ground, point, ground.values(2))
    left = {c.name: c.id for c in ground.containers().values() if c.state == "running"}

    engine = ground.engine(NodePool())
    hosts = engine.up(ground.values(2)).outputs.hosts

    assert sorted(ground.containers()) == [n["name"] for n in ground.values(2)["nodes"]]
    assert sorted(ground.volumes()) == [f"{n['name']}-containers" for n in ground.values(2)["nodes"]]
    assert left.items() <= {h.name: h.id for h in hosts}.items(), "a node that ran was made again"
    for host in hosts:
        assert ssh(ground, host, "true").returncode == 0
    engine.destroy()
    assert ground.containers() == {}
    assert ground.volumes() == []


@pytest.mark.parametrize(
    "point",
    [Point("remove", 1), Point("copy_in", 1), Point("remove", 2)],
    ids=lambda p: f"{p.verb}-{p.call}",
)
def test_rolling_replacement_killed_goes_on_with_the_next_up(ground: Ground, point: Point) -> None:
    before = _kill(ground, point, ground.values(2, generation=2), first=ground.values(2))
    engine = _resumed(ground, before)
    hosts = engine.up(ground.values(2, generation=2)).outputs.hosts
    assert len(ground.containers()) == len(ground.volumes()) == 2
    assert not set(before.values()) & {h.id for h in hosts}
    for host in hosts:
        assert ssh(ground, host, "true").returncode == 0


def test_shrinking_killed_leaves_no_volume_behind(ground: Ground) -> None:
    _kill(ground, Point("remove", 1), ground.values(1), first=ground.values(2))
    engine = ground.engine(NodePool())
    engine.up(ground.values(1))
    assert len(ground.containers()) == len(ground.volumes()) == 1


def test_delete_killed_is_finished_by_the_next_one(ground: Ground) -> None:
    engine = ground.engine(NodePool())
    state = engine.up(ground.values(2))
    ground.podman.remove(state.outputs.hosts[0].name)  # what a kill between container and volume leaves
    engine.destroy()
    assert ground.volumes() == []


def _kill(ground: Ground, point: Point, values: dict[str, Any], first: dict[str, Any] | None = None) -> dict[str, str]:
    """Runs a process to its death; name → id of the nodes that `first` had made."""
    job = {"deployment": ground.deployment, "values": values, "first": first, **point.__dict__}
    if first:
        ground.engine(NodePool()).up(first)
    before = {c.name: c.id for c in ground.containers().values()}
    victim = subprocess.run(
        [sys.executable, "-c", _VICTIM],
        input=json.dumps(job), text=True, capture_output=True, timeout=120, check=False,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert victim.returncode == -9, victim.stdout + victim.stderr
    return before


def _resumed(ground: Ground, before: dict[str, str]) -> Engine:
    """An engine whose state is that of before the kill, as Pulumi's would be."""
    engine = ground.engine(NodePool())
    token = identity.token(ground.deployment, engine.context().urn)
    values = engine.inputs(ground.values(2) | {"token": token})
    from aifactory.provider.journal import Journal
    from aifactory.provider.local.pool_types import NodePoolOutputs

    from tests.provider.harness import State

    journal = Journal(ground.region, token)
    engine.state = State(f"{ground.region}-serve", values, NodePoolOutputs((), "run", journal.nonce))
    assert before
    return engine
