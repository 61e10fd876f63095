"""The instances of one pool: which node each one is, made in batches, ended together.

What exists is told by tags, never by memory alone. Before each call that makes instances the journal knows the call,
its client token included: a run that follows a kill repeats it as it was, and gets what was made or makes it now. EC2
shows what it made with a delay; until then the journal's ids count.
"""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aifactory import naming
from aifactory.hosts.fleet import FleetHost
from aifactory.provider.aws import capacity, instances_api, parallel, pool_types, tags
from aifactory.provider.aws.api import VISIBLE_S, Api
from aifactory.provider.aws.failures import CloudError
from aifactory.provider.aws.instances_api import BATCH, FIRST, GENERATION, LARGEST, POOL, SPEC, Instance
from aifactory.provider.aws.places import placed, runs
from aifactory.provider.aws.pool_types import NodePoolInputs
from aifactory.provider.journal import Journal
from aifactory.provider.resource import Context

AT_ONCE = 4
"""RunInstances and TerminateInstances calls at the same time; EC2 takes five of the former from a full bucket."""
SHORTAGE_S = 110.0
"""How long smaller batches are tried once EC2 has said that there is no capacity."""
FREED_PAUSE_S = 5.0
"""Between two requests for capacity that was given back a moment ago."""
SPENT = ("IdempotentInstanceTerminated", "IdempotentParameterMismatch")
"""A client token whose instances have ended, or that was used for another call. Source: EC2 API error codes."""
OUTCOME_UNKNOWN = ("lost", "transient")
TAGGED = ("instance", "volume", "network-interface")
"""What one RunInstances call makes."""


class Gang:
    """One pool during one verb; the caller holds the journal.

    `nodes`, `surplus` and `ending` are what the last look, and every call since, has shown. The journal's data:
    `batches` {id: call whose answer is not known}, `nodes` {instance id: at, index, spec, key, ready}, `whole` once all
    nodes were ready at the same time.
    """

    def __init__(
        self, ctx: Context, api: Api, news: NodePoolInputs, journal: Journal, hosts: Iterable[FleetHost] = ()
    ) -> None:
        self.ctx, self.api, self.news, self.journal = ctx, api, news, journal
        self.hosts = {host.id: host for host in hosts}
        self.nodes: dict[int, Instance] = {}
        self.surplus: list[Instance] = []
        self.ending: list[Instance] = []
        self.made: set[str] = set()
        """Ids of the instances that this verb has made."""
        self._mutex = threading.Lock()
        self._fresh: dict[str, Instance] = {}
        self.looked = False
        self._batches: dict[str, Any] = journal.data.setdefault("batches", {})
        self._notes: dict[str, dict[str, Any]] = journal.data.setdefault("nodes", {})

    # -- looking

    def look(self) -> None:
        """One paged read; a second one only for instances that were made a moment ago and are not in it."""
        found = {one.id: one for one in instances_api.look(self.api, self.news.token)}
        young = {name for name, note in self._notes.items() if _age_s(note) < VISIBLE_S and name not in found}
        if young:
            asked = instances_api.by_id(self.api, young)
            for name in young - asked.keys():
                found[name] = self._fresh.get(name) or Instance(name, "pending", spec=self._notes[name].get("spec", ""))
            found |= {name: one for name, one in asked.items() if one.alive or one.state == instances_api.ENDING}
            for name in young - found.keys():
                self._notes.pop(name)
        self.nodes, self.surplus = placed(found.values(), self._known(), len(self.news.nodes))
        self.ending = [one for one in found.values() if not one.alive]
        self.looked = True

    def is_current(self, instance: Instance) -> bool:
        return instance.spec == pool_types.spec_digest(self.news)

    def note(self, instance_id: str) -> dict[str, Any]:
        """The journal's line of an instance; the key that the state knows is in it."""
        known = self.hosts.get(instance_id)
        return {"key": known.host_key if known else "", **self._notes.get(instance_id, {})}

    def has_been_ready(self, instance_id: str) -> bool:
        """False only where the journal knows that it has been waited for in vain."""
        return self._notes.get(instance_id, {"ready": True}).get("ready") is True

    def write(self, facts: Mapping[str, Mapping[str, Any]]) -> None:
        """Instance id → what is to be added to its line; one write of the journal."""
        if not facts:
            return
        with self._mutex:
            for name, more in facts.items():
                self._notes[name] = {**self._notes.get(name, {}), **more}
            self.journal.save()

    def name(self, index: int) -> str:
        """The node's name, also of one that is no longer wanted."""
        nodes = self.news.nodes
        return nodes[index].name if index < len(nodes) else naming.node(self.news.region, self.news.pool, index)

    def host(self, index: int) -> FleetHost:
        """The node as the fleet has it. EC2's launch time changes with every start: the first one stays."""
        one = self.nodes[index]
        known = self.hosts.get(one.id)
        return pool_types.fleet_host(
            self.news,
            self.news.nodes[index],
            one,
            host_key=self.note(one.id)["key"],
            created_at=known.created_at if known else "",
            urn=self.ctx.urn,
        )

    def settle(self, *, whole: bool) -> None:
        """Last step of a verb: the journal keeps no line about what is gone."""
        with self._mutex:
            here = {one.id for one in (*self.nodes.values(), *self.surplus, *self.ending)}
            for name in [name for name in self._notes if name not in here]:
                del self._notes[name]
            self.journal.data["whole"] = whole or self.was_whole
            self.journal.save()

    @property
    def was_whole(self) -> bool:
        return self.journal.data.get("whole") is True

    @property
    def may_exist(self) -> bool:
        """Whether there are instances, or may be: calls without an answer, and what only the journal has seen yet."""
        unseen = bool(self._notes) and not self.looked
        return bool(self.nodes or self.surplus or self.ending or self._batches or unseen)

    # -- making

    def resolve(self, *, wanted: bool) -> None:
        """Finds out what became of calls whose answer an earlier run did not live to see.

        A call for nodes that are still missing is made again as it was. Any other one is waited for, VISIBLE_S at most:
        what it made is then seen by its tags. Not `wanted`: nothing is made.
        """
        while self._batches:
            for name, batch in list(self._batches.items()):
                seen = [one for one in self._everything() if one.batch == name]
                if len(seen) >= batch["count"]:
                    self._note(name, seen)
                elif wanted and self._is_wanted(batch):
                    self._ask_again(name)
                elif _age_s(batch) > VISIBLE_S:
                    self._forget(name)
            if self._batches:
                self.ctx.progress("waiting to see what a run before this one has made")
                self.ctx.wait(2.0)
            self.look()

    def _ask_again(self, name: str) -> None:
        self.ctx.progress(f"asking again for the {self._batches[name]['count']} nodes of a run before this one")
        try:
            self._ask(name)
        except CloudError as error:
            if error.kind != "capacity":
                raise

    def launch(self, indices: Iterable[int], *, patience_s: float = 0.0) -> CloudError | None:
        """Makes these nodes, in rank order, in batches. None, or EC2's words when it did not have them all.

        `patience_s`: how long capacity is waited for that was given back a moment ago. Raises CloudError where the
        reason is another one; what was made until then is among `nodes`.
        """
        refused: list[CloudError] = []

        def act(run: range) -> None:
            if not refused:
                try:
                    self._ask(self._begin(run))
                except CloudError as error:
                    if error.kind != "capacity":
                        raise
                    refused.append(error)

        done = parallel.each(self.ctx, runs(indices, LARGEST), act, workers=AT_ONCE)
        for found in done:
            if found.error is not None:
                raise found.error
        left = sorted(set(indices) - self.nodes.keys())
        return self._squeeze(left, refused[0], patience_s) if left and refused else None

    def _squeeze(self, left: list[int], error: CloudError, patience_s: float) -> CloudError | None:
        """Asks for less and less of what was refused; ends when not even one node is to be had."""
        begun = time.monotonic()
        most = min(LARGEST, len(left)) // 2 or 1
        while left:
            run = next(runs(left, most))
            self.ctx.progress(f"no capacity for all in {self.news.zone}: trying {len(run)}, {len(left)} are missing")
            try:
                self._ask(self._begin(run))
                left = [index for index in left if index not in run]
                continue
            except CloudError as again:
                if again.kind != "capacity":
                    raise
                error = again
            passed = time.monotonic() - begun
            if (len(run) == 1 and passed >= patience_s) or passed >= SHORTAGE_S:
                return error
            if len(run) == 1:
                self.ctx.wait(min(FREED_PAUSE_S, max(0.0, patience_s - passed)))
            most = len(run) // 2 or 1
        return None

    def _begin(self, run: range) -> str:
        """The call for these nodes, in the journal before it is made. Its name is what its client token is made of."""
        name = uuid.uuid4().hex
        batch = {
            "at": time.time(),
            "first": run[0],
            "count": len(run),
            "spec": pool_types.spec_digest(self.news),
            "call": self._call(name, run),
        }
        with self._mutex:
            self._batches[name] = batch
            self.journal.save()
        return name

    def _call(self, name: str, run: range) -> dict[str, Any]:
        news = self.news
        marks = {
            "Name": f"{news.region}-{news.pool}",
            POOL: news.pool,
            GENERATION: str(news.generation),
            FIRST: str(run[0]),
            BATCH: name,
            SPEC: pool_types.spec_digest(news),
        }
        found = tags.of(self.ctx, news.region, news.token, **marks)
        return {
            "LaunchTemplate": {"LaunchTemplateId": news.template_id, "Version": str(news.template_version)},
            "MinCount": len(run),
            "MaxCount": len(run),
            "ClientToken": hashlib.sha256(f"{news.token}\0{name}".encode()).hexdigest()[:32],
            "TagSpecifications": [one for kind in TAGGED for one in tags.specification(kind, found)],
            **capacity.options(news.capacity_kind, news.capacity_id),
        }

    def _ask(self, name: str) -> None:
        """Makes a call of the journal, for the first time or again. A spent token makes nothing."""
        batch = self._batches[name]
        try:
            made = instances_api.run(self.api, batch["call"])
        except CloudError as error:
            if error.kind not in OUTCOME_UNKNOWN:
                self._forget(name)
            if error.code in SPENT:
                return
            raise
        marks = {"batch": name, "spec": batch["spec"], "first": batch["first"]}
        self._note(name, [replace(one, **marks) for one in made])

    def _note(self, name: str, made: Sequence[Instance]) -> None:
        """A call is answered: its instances take its place in the journal."""
        with self._mutex:
            nodes, _ = placed(made, {}, 1 << 30)
            for index, one in nodes.items():
                self._notes[one.id] = {
                    "at": time.time(),
                    **self._notes.get(one.id, {}),
                    "index": index,
                    "spec": one.spec,
                }
                self._fresh[one.id] = one
                self.made.add(one.id)
                self.nodes.setdefault(index, one)
            self._batches.pop(name)
            self.journal.save()

    def _forget(self, name: str) -> None:
        with self._mutex:
            self._batches.pop(name)
            self.journal.save()

    def _is_wanted(self, batch: Mapping[str, Any]) -> bool:
        """Whether the call would make nodes that are missing, and as they are to be now."""
        asked = range(batch["first"], batch["first"] + batch["count"])
        others = {index for index, one in self.nodes.items() if one.batch not in self._batches}
        fits = asked.stop <= len(self.news.nodes) and batch["spec"] == pool_types.spec_digest(self.news)
        return fits and not others & set(asked)

    # -- ending

    def let_go(self, instances: Iterable[Instance]) -> None:
        """Ends instances, the last node first, and returns when they are gone. A drain would stand at its beginning."""
        index = {one.id: at for at, one in self.nodes.items()}
        ids = [one.id for one in sorted(instances, key=lambda one: (-index.get(one.id, 1 << 30), one.id))]
        left = ids
        while left:
            chunks = [left[at : at + LARGEST] for at in range(0, len(left), LARGEST)]
            ended = parallel.each(
                self.ctx, chunks, lambda some: instances_api.terminate(self.api, some), workers=AT_ONCE
            )
            for done in ended:
                if done.error is not None:
                    raise done.error
            left = self._until_gone(set(ids))

    def _until_gone(self, ids: set[str]) -> list[str]:
        """Empty once none of them is there; or those that are alive all the same.

        EC2 may not have known yet what it made a moment ago: that is to be told again.
        """
        begun, pause = time.monotonic(), 0.5
        while True:
            self.look()
            here = [one for one in self._everything() if one.id in ids]
            if not here:
                return []
            self.ctx.progress(f"{len(here)} of {len(ids)} instances still end ({time.monotonic() - begun:.0f} s)")
            self.ctx.wait(pause)
            if alive := [one.id for one in here if one.alive]:
                return alive
            pause = min(10.0, pause * 1.6)

    def fates(self, ids: Iterable[str]) -> dict[str, str]:
        """Why instances that are not there any more have ended, in EC2's words; empty where it does not know them."""
        return {name: one.reason for name, one in instances_api.by_id(self.api, ids).items()}

    # -- what is where

    def _everything(self) -> list[Instance]:
        return [*self.nodes.values(), *self.surplus, *self.ending]

    def _known(self) -> dict[str, int]:
        """Instance id → index, as state and journal have it."""
        place = {node.name: at for at, node in enumerate(self.news.nodes)}
        known = {name: place[host.name] for name, host in self.hosts.items() if host.name in place}
        return {**known, **{name: note["index"] for name, note in self._notes.items() if "index" in note}}


def _age_s(line: Mapping[str, Any]) -> float:
    """Seconds since a line of the journal was written; a clock that was set back makes it old."""
    passed = time.time() - float(line.get("at", 0.0))
    return passed if passed >= 0 else VISIBLE_S * 2
