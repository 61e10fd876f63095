"""`aifactory:local:NodePool`: the nodes of one pool as containers with systemd and sshd, one resource for all of them.

Diff asks the engine once and names what the world no longer matches, so that a plain `up` mends it. A
change touches only the nodes it is about; what a node cannot change without being made again (address,
published ports, shape, generation) replaces nodes one at a time, the next one only when the last one
answers.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from aifactory import naming
from aifactory.hosts.fleet import FleetHost
from aifactory.hosts.play import SshAccess
from aifactory.provider import identity
from aifactory.provider.journal import Journal
from aifactory.provider.local import driver, labels, pool_types, reach
from aifactory.provider.local.driver import ContainerEngine
from aifactory.provider.local.engine_errors import EngineError
from aifactory.provider.local.engine_output import Container
from aifactory.provider.local.gang import Gang, NodeFailed
from aifactory.provider.local.image_recipe import NODE_USER
from aifactory.provider.local.pool_types import NodeInput, NodePoolInputs, NodePoolOutputs
from aifactory.provider.resource import UNKNOWN, Cancelled, CheckFailure, Context, Diff, HalfMade, Refused, Resource
from aifactory.provider.static import login
from aifactory.provider.tokens import LOCAL_NODE_POOL


class NodePool(Resource[NodePoolInputs, NodePoolOutputs]):
    """Create and update block until every node answers, `ready_timeout_s` at most for those that do not."""

    token = LOCAL_NODE_POOL
    Inputs = NodePoolInputs
    Outputs = NodePoolOutputs

    def check(
        self, ctx: Context, news: NodePoolInputs, olds: NodePoolInputs | None
    ) -> tuple[NodePoolInputs, list[CheckFailure]]:
        if olds is not None and olds.token:
            news = replace(news, token=olds.token)  # a raised generation rebuilds nodes, the pool stays the same
        return news, list(_failures(news))

    def diff(self, ctx: Context, id: str, olds: NodePoolInputs, outs: NodePoolOutputs, news: NodePoolInputs) -> Diff:
        plain = super().diff(ctx, id, olds, outs, news)
        if plain.replaces:
            return replace(plain, delete_before_replace=True)  # node names are the same
        updates = [name for name in plain.updates if name != "nodes"]
        return replace(plain, updates=(*updates, *_changed_nodes(olds, news)), output_updates=_drift(ctx, olds, outs))

    def preview(self, ctx: Context, news: NodePoolInputs, outs: NodePoolOutputs | None) -> NodePoolOutputs:
        """Hosts that stay are known, those that will be made are not."""
        if outs is None:
            return NodePoolOutputs(UNKNOWN, UNKNOWN, UNKNOWN)
        gang = Gang(ctx, _engine(news.engine), news, Journal(news.region, news.token))
        there, known = _asked(gang.look), {host.name: host for host in outs.hosts}
        hosts: list[Any] = []
        for node in news.nodes:
            container = there.get(node.name)
            stays = container and node.name in known and container.id == known[node.name].id
            if container and stays and gang.is_current(container, node):
                hosts.append(pool_types.fleet_host(news, node, container, ctx.urn))
            else:
                hosts.append(UNKNOWN)
        return replace(outs, hosts=tuple(hosts), run_id=UNKNOWN)

    def create(self, ctx: Context, news: NodePoolInputs) -> tuple[str, NodePoolOutputs]:
        """Refused when not one node could be made; HalfMade when some exist, with a reason a node."""
        engine = _engine(news.engine)
        id = f"{news.region}-{news.pool}"
        with Journal(news.region, news.token).held(ctx) as journal:
            journal.new_nonce()
            try:
                return id, _Converge(ctx, engine, news, journal).run(id)
            except Refused:
                journal.remove()
                raise

    def read(
        self, ctx: Context, id: str, olds: NodePoolInputs | None, outs: NodePoolOutputs | None
    ) -> tuple[NodePoolInputs, NodePoolOutputs] | None:
        """The nodes that exist, running or not; None when there is none. Pools are not imported: they are made."""
        if olds is None or outs is None:
            return None
        gang = Gang(ctx, _engine(olds.engine), olds, Journal(olds.region, olds.token))
        hosts = _hosts(ctx, olds, _asked(gang.look))
        return (olds, replace(outs, hosts=hosts)) if hosts else None

    def update(
        self, ctx: Context, id: str, olds: NodePoolInputs, outs: NodePoolOutputs, news: NodePoolInputs
    ) -> NodePoolOutputs:
        """Adds and removes from the end, makes what is missing, starts what is stopped, leaves the rest alone."""
        engine = _engine(news.engine)
        with Journal(news.region, news.token).held(ctx) as journal:
            if not journal.owns(outs.nonce):
                ctx.log(f"pool {news.pool} belongs to a newer create; left alone")
                return outs
            if not journal.exists:  # lost with AIFACTORY_HOME; the nodes are found by their labels
                journal.nonce = outs.nonce
                journal.save()
            return _Converge(ctx, engine, news, journal).run(id)

    def delete(self, ctx: Context, id: str, olds: NodePoolInputs, outs: NodePoolOutputs) -> None:
        """Containers and volumes of this create. Gone already is fine; may be called twice."""
        engine = _engine(olds.engine)
        with Journal(olds.region, olds.token).held(ctx) as journal:
            if not journal.owns(outs.nonce):
                ctx.log(f"pool {olds.pool} belongs to a newer create; left alone")
                return
            mine = labels.of(ctx, olds.region, olds.token)
            gang = Gang(ctx, engine, olds, journal)
            try:
                names = {c.name for c in engine.containers(mine)}
                reasons = gang.each([NodeInput(n, "", 0) for n in sorted(names)], lambda node: gang.remove(node.name))
                for volume in engine.volumes(mine):
                    engine.remove_volume(volume.name)
            except EngineError as error:
                raise Refused(str(error)) from error
            if reasons:
                raise Refused("\n".join(reasons.values()))
            journal.remove()


class _Converge:
    """From whatever is there to what the inputs say."""

    def __init__(self, ctx: Context, engine: ContainerEngine, news: NodePoolInputs, journal: Journal) -> None:
        self.ctx, self.engine, self.news, self.journal = ctx, engine, news, journal
        self.gang = Gang(ctx, engine, news, journal)
        self._in: set[str] = set()
        self._there: dict[str, Container] = {}

    def run(self, id: str) -> NodePoolOutputs:
        """Raises HalfMade with what exists, Refused when nothing does."""
        try:
            reasons = list(self._steps().values())
        except (Cancelled, EngineError) as error:
            reasons = [str(error)]
        hosts = _hosts(self.ctx, self.news, _asked(self.gang.look))
        outputs = NodePoolOutputs(hosts, identity.new_nonce(), self.journal.nonce)
        if reasons and not hosts:
            raise Refused("\n".join(reasons))
        if reasons:
            raise HalfMade(id, outputs, reasons)
        return outputs

    def _steps(self) -> dict[str, str]:
        """Name → reason of the nodes that are not as they should be."""
        self._there = self.gang.look()
        self._remove_surplus()
        nodes = self.news.nodes
        stale = [n for n in nodes if self._stands(n) and not self.gang.is_current(self._there[n.name], n)]
        missing = [n for n in nodes if not self._stands(n)]
        asleep = [n for n in nodes if self._stands(n) and n not in stale and self._there[n.name].state != "running"]
        self._in = {n.name for n in nodes if self._has_answered(n) and n not in missing and n not in asleep}
        if missing or asleep or stale or len(self._in) < len(nodes):
            self._say()
        reasons = self.gang.each(missing, self.gang.make)
        reasons |= self.gang.each(asleep, lambda n: self.gang.mend(n, self._there[n.name]))
        made = [n for n in (*missing, *asleep) if n.name not in reasons]
        standing = [n for n in nodes if n not in missing and n not in asleep and n not in stale]
        reasons |= self.gang.each(standing, self.gang.authorize)
        reasons |= self._wait([n for n in (*made, *standing) if n.name not in self._in])
        for node in stale:
            if reasons:  # one broken node at a time is enough
                break
            self._in.discard(node.name)
            self._say(f"replacing {node.name}, ")
            reasons = self.gang.each([node], self.gang.make) or self._wait([node])
        return reasons

    def _remove_surplus(self) -> None:
        """Nodes beyond the wanted ones, from the end, and what an earlier token of this pool left."""
        wanted = {n.name for n in self.news.nodes}
        for name in sorted(self._there, reverse=True):
            if name not in wanted:
                self.ctx.check_cancelled()
                self.gang.remove(name)
                del self._there[name]
        self.gang.remove_stray_volumes()

    def _stands(self, node: NodeInput) -> bool:
        """Whether the node exists and has run: only then is its host key certain to be inside."""
        container = self._there.get(node.name)
        return container is not None and container.state not in ("created", "dead", "removing")

    def _has_answered(self, node: NodeInput) -> bool:
        note, container = self.gang.note(node.name), self._there.get(node.name)
        return container is not None and note.get("ready") is True and note.get("id") == container.id

    def _wait(self, nodes: list[NodeInput]) -> dict[str, str]:
        """Name → reason of the nodes that do not answer in time."""
        if not nodes:
            return {}
        there = self.gang.look()
        hosts = {
            n.name: pool_types.fleet_host(self.news, n, there[n.name], self.ctx.urn) for n in nodes if n.name in there
        }
        with login.opened(hosts.values(), SshAccess(private_key=self.news.ssh_private_key or None)) as logins:

            def wait(node: NodeInput) -> None:
                if node.name not in hosts:
                    raise NodeFailed(f"failed: {node.name}: its container is gone again")
                host = hosts[node.name]
                reach.until_in(self.ctx, self.engine, logins, host, timeout_s=self.news.ready_timeout_s)
                self.gang.write(node.name, ready=True, id=host.id)
                self._in.add(node.name)
                self._say()

            return self.gang.each(nodes, wait)

    def _say(self, before: str = "") -> None:
        self.ctx.progress(f"{before}{len(self._in)}/{len(self.news.nodes)} nodes reachable")


def _engine(name: str) -> ContainerEngine:
    try:
        return driver.find(name)
    except EngineError as error:
        raise Refused(str(error)) from error


def _asked(look: Any) -> dict[str, Container]:
    try:
        found: dict[str, Container] = look()
    except EngineError as error:
        raise Refused(str(error)) from error
    return found


def _hosts(ctx: Context, news: NodePoolInputs, there: dict[str, Container]) -> tuple[FleetHost, ...]:
    return tuple(
        pool_types.fleet_host(news, node, there[node.name], ctx.urn) for node in news.nodes if node.name in there
    )


def _changed_nodes(olds: NodePoolInputs, news: NodePoolInputs) -> Iterator[str]:
    for i in range(max(len(olds.nodes), len(news.nodes))):
        if olds.nodes[i : i + 1] != news.nodes[i : i + 1]:
            yield f"nodes[{i}]"


def _drift(ctx: Context, olds: NodePoolInputs, outs: NodePoolOutputs) -> tuple[str, ...]:
    """Paths of hosts that are gone, do not run, or are not the ones of the state."""
    gang = Gang(ctx, _engine(olds.engine), olds, Journal(olds.region, olds.token))
    there = _asked(gang.look)
    paths = []
    for i, host in enumerate(outs.hosts):
        container = there.get(host.name)
        if container is None or container.id != host.id or container.state != "running":
            paths.append(f"hosts[{i}]")
    if {n.name for n in olds.nodes} - {h.name for h in outs.hosts}:
        paths.append("hosts")
    return tuple(paths)


def _failures(news: NodePoolInputs) -> Iterator[CheckFailure]:
    if news.user is not UNKNOWN and news.user != NODE_USER:
        yield CheckFailure("user", f"local nodes have the login {NODE_USER}")
    if news.generation is not UNKNOWN and news.generation < 1:
        yield CheckFailure("generation", "is at least 1")
    if news.nodes is UNKNOWN:
        return
    if not news.nodes:
        yield CheckFailure("nodes", "names no node")
    names: set[str] = set()
    addresses: set[str] = set()
    for i, node in enumerate(news.nodes):
        if not naming.HOST_RE.fullmatch(node.name):
            yield CheckFailure(f"nodes[{i}].name", f"{node.name} is not a host name")
        if node.name in names:
            yield CheckFailure(f"nodes[{i}].name", f"{node.name} is there twice")
        if node.address is not UNKNOWN and not _is_address(node.address):
            yield CheckFailure(f"nodes[{i}].address", f"{node.address} is not an IPv4 address")
        if node.address in addresses:
            yield CheckFailure(f"nodes[{i}].address", f"{node.address} is there twice")
        names.add(node.name)
        addresses.add(node.address)


def _is_address(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
