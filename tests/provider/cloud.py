"""A test-only backend: the cloud is a folder of JSON files, one an object. Real journals, real locks, real waits.

`Network` has plan-time values, a secret and a replacing property; `Gang` makes its nodes one after another.
Faults are files beside the objects: `<node>.slow` (being made takes until the file goes), `<node>.broken`
(made, but never ready), `<network>.stuck`
(its delete takes until the file goes), `bug` (the resource fails as no resource should).
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aifactory.provider.journal import Journal
from aifactory.provider.registry import Registry
from aifactory.provider.resource import (
    UNKNOWN,
    Cancelled,
    CheckFailure,
    Context,
    Diff,
    HalfMade,
    Refused,
    Resource,
    prop,
)

NETWORK = "aifactory:test:Network"
GANG = "aifactory:test:Gang"
REGION = "t-cloud"
CLASSES = {NETWORK: f"{__name__}:Network", GANG: f"{__name__}:Gang"}


def registry() -> Registry:
    return Registry("aifactory", CLASSES)


class Cloud:
    """The objects of a folder. Every change is logged: `calls` has one `verb kind name` a line."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def fault(self, name: str) -> bool:
        return (self.folder / name).exists()

    def log(self, text: str) -> None:
        with (self.folder / "calls").open("a") as file:
            file.write(text + "\n")

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def find(self, token: str) -> dict[str, dict[str, Any]]:
        """Objects with the token's tag, by name."""
        return {o["name"]: o for o in self.all() if o["token"] == token}

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(p.read_text()) for p in sorted(self.folder.glob("*.json"))]

    def get(self, id_: str) -> dict[str, Any] | None:
        path = self.folder / f"{id_}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def put(self, kind: str, name: str, token: str, **values: Any) -> dict[str, Any]:
        thing = {"id": f"{kind}-{uuid.uuid4().hex[:8]}", "kind": kind, "name": name, "token": token, **values}
        self.log(f"create {kind} {name}")
        return self.change(thing)

    def change(self, thing: dict[str, Any]) -> dict[str, Any]:
        new = self.folder / f"{thing['id']}.new"
        new.write_text(json.dumps(thing))
        new.replace(new.with_suffix(".json"))
        return thing

    def drop(self, thing: dict[str, Any]) -> None:
        self.log(f"delete {thing['kind']} {thing['name']}")
        (self.folder / f"{thing['id']}.json").unlink(missing_ok=True)


@dataclass(frozen=True)
class NetworkInputs:
    cloud: str = prop(doc="Folder of the cloud.", replaces=True)
    cidr: str = prop(doc="Addresses.", replaces=True)
    zone: str = prop("", doc="Replaces it, the new one first.", replaces=True)
    size: int = prop(1, doc="Changes in place.")
    labels: dict[str, str] = prop(default_factory=dict, doc="Changes in place.")
    password: str = prop("", doc="A secret input.", secret=True)
    region: str = prop(REGION, doc="Region.")
    generation: int = prop(1, doc="Another number rebuilds.", replaces=True)
    token: str = prop("", doc="Identity.", check=True)


@dataclass(frozen=True)
class NetworkOutputs:
    arn: str = prop(doc="Known before the create.")
    ip: str = prop(doc="Known after it.")
    size: int = prop(doc="As it is.")
    nonce: str = prop(doc="Fence.")
    password: str = prop("", doc="The input, given back.", secret=True)
    key: str = prop("", doc="A secret that the create makes.", secret=True)
    generation_seen: int | None = prop(None, doc="The generation it was made with.")


class Network(Resource[NetworkInputs, NetworkOutputs]):
    """A network."""

    token = NETWORK
    Inputs = NetworkInputs
    Outputs = NetworkOutputs

    def check(
        self, ctx: Context, news: NetworkInputs, olds: NetworkInputs | None
    ) -> tuple[NetworkInputs, list[CheckFailure]]:
        failures = []
        if news.cidr is not UNKNOWN and "/" not in news.cidr:
            failures.append(CheckFailure("cidr", "must have a prefix length"))
        if news.password == "too-short-password":
            failures.append(CheckFailure("password", "is too short"))
        return news, failures

    def diff(self, ctx: Context, id: str, olds: NetworkInputs, outs: NetworkOutputs, news: NetworkInputs) -> Diff:
        found = super().diff(ctx, id, olds, outs, news)
        return Diff(found.updates, found.replaces, delete_before_replace="cidr" in found.replaces)

    def preview(self, ctx: Context, news: NetworkInputs, outs: NetworkOutputs | None) -> NetworkOutputs:
        if outs:
            return NetworkOutputs(outs.arn, outs.ip, news.size, outs.nonce, news.password, outs.key, news.generation)
        return NetworkOutputs(f"arn:{ctx.name}", UNKNOWN, news.size, UNKNOWN, news.password, UNKNOWN, news.generation)

    def create(self, ctx: Context, news: NetworkInputs) -> tuple[str, NetworkOutputs]:
        cloud = Cloud(news.cloud)
        if cloud.fault("bug"):
            raise KeyError(f"a bug that knows {news.password}")
        if cloud.fault("refuse"):
            raise Refused(f"no quota for {news.password}")
        with Journal(news.region, news.token).held(ctx) as journal:
            nonce = journal.new_nonce()
            thing = cloud.find(news.token).get(ctx.name) or cloud.put(
                "network", ctx.name, news.token, size=news.size, key=f"key-{uuid.uuid4().hex}", cidr=news.cidr
            )
            outs = self._outputs(thing, nonce, news)
            self._boot(ctx, cloud, thing["id"], outs)
            return thing["id"], outs

    def _boot(self, ctx: Context, cloud: Cloud, id_: str, outs: NetworkOutputs) -> None:
        ctx.log(f"{ctx.name} is there")
        try:
            while cloud.fault(f"{ctx.name}.slow"):
                ctx.progress("booting")
                ctx.wait(0.02)
        except Cancelled as stop:
            raise HalfMade(id_, outs, [str(stop)]) from stop
        if cloud.fault(f"{ctx.name}.broken"):
            raise HalfMade(id_, outs, [f"{ctx.name} did not boot", f"{outs.password} was no help"])

    def _outputs(self, thing: dict[str, Any], nonce: str, news: NetworkInputs) -> NetworkOutputs:
        return NetworkOutputs(
            arn=f"arn:{thing['name']}",
            ip=f"10.0.0.{thing['size']}",
            size=thing["size"],
            nonce=nonce,
            password=news.password,
            key=thing["key"],
            generation_seen=news.generation,
        )

    def read(
        self, ctx: Context, id: str, olds: NetworkInputs | None, outs: NetworkOutputs | None
    ) -> tuple[NetworkInputs, NetworkOutputs] | None:
        if olds is None:
            return self._import(id)
        cloud = Cloud(olds.cloud)
        thing = cloud.get(id)
        if thing is None:
            return None
        changed = NetworkInputs(**{**asdict(olds), "size": thing["size"]})
        found = self._outputs(thing, outs.nonce if outs else "", changed)
        if cloud.fault(f"{ctx.name}.broken"):
            raise HalfMade(id, found, [f"{ctx.name} did not boot"])
        return changed, found

    def _import(self, id_: str) -> tuple[NetworkInputs, NetworkOutputs] | None:
        folder, _, id_ = id_.rpartition("/")
        thing = Cloud(folder).get(id_)
        if thing is None:
            return None
        journal = Journal(REGION, thing["token"])
        news = NetworkInputs(cloud=folder, cidr=thing["cidr"], size=thing["size"], token=thing["token"])
        return news, self._outputs(thing, journal.new_nonce(), news)

    def update(
        self, ctx: Context, id: str, olds: NetworkInputs, outs: NetworkOutputs, news: NetworkInputs
    ) -> NetworkOutputs:
        cloud = Cloud(news.cloud)
        with Journal(news.region, news.token).held(ctx) as journal:
            if not journal.owns(outs.nonce):
                ctx.log("another create owns it now; nothing was changed")
                return outs
            thing = cloud.get(id)
            if thing is None:
                raise Refused(f"{id} is gone; run refresh")
            if thing["size"] != news.size:
                cloud.log(f"update network {ctx.name}")
            outs = self._outputs(cloud.change({**thing, "size": news.size}), outs.nonce, news)
            self._boot(ctx, cloud, id, outs)
            return outs

    def delete(self, ctx: Context, id: str, olds: NetworkInputs, outs: NetworkOutputs) -> None:
        cloud = Cloud(olds.cloud)
        with Journal(olds.region, olds.token).held(ctx) as journal:
            thing = cloud.get(id)
            if not journal.owns(outs.nonce):
                ctx.log("another create owns it now; nothing was deleted")
                return
            if thing:
                cloud.drop(thing)
            while cloud.fault(f"{ctx.name}.stuck"):
                ctx.wait(0.02)
            journal.remove()


@dataclass(frozen=True)
class Node:
    name: str = prop(doc="Stable name.")
    size: int = prop(1, doc="Changes in place.")
    labels: dict[str, str] = prop(default_factory=dict, doc="Free words.")


@dataclass(frozen=True)
class Host:
    id: str
    name: str
    size: int


@dataclass(frozen=True)
class GangInputs:
    cloud: str = prop(doc="Folder of the cloud.", replaces=True)
    nodes: tuple[Node, ...] = prop(doc="The nodes, in rank order.")
    network_ip: str = prop("", doc="Of the network.", replaces=True)
    region: str = prop(REGION, doc="Region.")
    generation: int = prop(1, doc="Another number rebuilds.", replaces=True)
    token: str = prop("", doc="Identity.", check=True)


@dataclass(frozen=True)
class GangOutputs:
    hosts: tuple[Host, ...] = prop(doc="One a node, in rank order.")
    nonce: str = prop(doc="Fence.")


class Gang(Resource[GangInputs, GangOutputs]):
    """Nodes that are made, mended and removed together."""

    token = GANG
    Inputs = GangInputs
    Outputs = GangOutputs

    def diff(self, ctx: Context, id: str, olds: GangInputs, outs: GangOutputs, news: GangInputs) -> Diff:
        found = super().diff(ctx, id, olds, outs, news)
        cloud = Cloud(olds.cloud)
        dead = tuple(f"hosts[{i}]" for i, host in enumerate(outs.hosts) if not cloud.get(host.id))
        return Diff(found.updates, found.replaces, dead)

    def preview(self, ctx: Context, news: GangInputs, outs: GangOutputs | None) -> GangOutputs:
        known = {h.name: h.id for h in outs.hosts} if outs else {}
        hosts = tuple(Host(known.get(n.name, UNKNOWN), n.name, n.size) for n in news.nodes)
        return GangOutputs(hosts, outs.nonce if outs else UNKNOWN)

    def create(self, ctx: Context, news: GangInputs) -> tuple[str, GangOutputs]:
        with Journal(news.region, news.token).held(ctx) as journal:
            return f"gang-{news.token[:8]}", self._converge(ctx, news, journal.new_nonce())

    def update(self, ctx: Context, id: str, olds: GangInputs, outs: GangOutputs, news: GangInputs) -> GangOutputs:
        with Journal(news.region, news.token).held(ctx) as journal:
            return self._converge(ctx, news, outs.nonce) if journal.owns(outs.nonce) else outs

    def _converge(self, ctx: Context, news: GangInputs, nonce: str) -> GangOutputs:
        cloud, hosts, reasons = Cloud(news.cloud), [], []
        found = cloud.find(news.token)
        for name in found.keys() - {n.name for n in news.nodes}:
            cloud.drop(found[name])
        try:
            for node in news.nodes:
                ctx.check_cancelled()
                thing = found.get(node.name) or cloud.put("node", node.name, news.token, size=node.size)
                hosts.append(Host(thing["id"], node.name, node.size))
                if thing["size"] != node.size:
                    cloud.log(f"update node {node.name}")
                    cloud.change({**thing, "size": node.size})
                ctx.progress(f"{len(hosts)}/{len(news.nodes)} nodes made")
                while cloud.fault(f"{node.name}.slow"):
                    ctx.wait(0.02)
                if cloud.fault(f"{node.name}.broken"):
                    reasons.append(f"{node.name} did not boot")
        except Cancelled as stop:
            reasons.append(str(stop))
            if not hosts:
                raise
        outs = GangOutputs(tuple(hosts), nonce)
        if reasons:
            raise HalfMade(f"gang-{news.token[:8]}", outs, reasons)
        return outs

    def read(
        self, ctx: Context, id: str, olds: GangInputs | None, outs: GangOutputs | None
    ) -> tuple[GangInputs, GangOutputs] | None:
        if olds is None or outs is None:
            return None
        cloud = Cloud(olds.cloud)
        hosts = tuple(h for h in outs.hosts if cloud.get(h.id))
        return (olds, GangOutputs(hosts, outs.nonce)) if hosts else None

    def delete(self, ctx: Context, id: str, olds: GangInputs, outs: GangOutputs) -> None:
        cloud = Cloud(olds.cloud)
        with Journal(olds.region, olds.token).held(ctx) as journal:
            if not journal.owns(outs.nonce):
                ctx.log("another create owns them now; nothing was deleted")
                return
            for thing in cloud.find(olds.token).values():
                cloud.drop(thing)
                ctx.progress("deleting")
                while cloud.fault(f"{thing['name']}.slow"):
                    ctx.wait(0.02)
            journal.remove()
