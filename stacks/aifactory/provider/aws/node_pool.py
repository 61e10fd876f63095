"""`aifactory:aws:NodePool`: the nodes of one pool as instances, one resource for all of them.

Diff reads the pool once, by its tag, and names what the world no longer matches, so that a plain `up` mends it. A
change touches only the nodes it is about; what a node cannot change without being made again (shape, subnet,
generation) replaces nodes in small groups, the next one only when the last one is ready.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from aifactory import naming
from aifactory.hosts.fleet import FleetHost
from aifactory.provider import identity, tokens
from aifactory.provider.aws import boot, pool_types
from aifactory.provider.aws.api import Api
from aifactory.provider.aws.arrival import Arrival
from aifactory.provider.aws.capacity import RESERVED
from aifactory.provider.aws.failures import CloudError, told
from aifactory.provider.aws.gang import SHORTAGE_S, Gang
from aifactory.provider.aws.pool_types import NodePoolInputs, NodePoolOutputs
from aifactory.provider.journal import Journal
from aifactory.provider.resource import UNKNOWN, Cancelled, CheckFailure, Context, Diff, HalfMade, Refused, Resource

ROLL_SHARE = 20
"""One node in so many is replaced at the same time, after the first one alone: never more than 5 % are out."""
REASONS = 12
"""Lines of reasons that are shown; a thousand nodes fail in a few ways."""


class NodePool(Resource[NodePoolInputs, NodePoolOutputs]):
    """Create and update block until every node is ready, `ready_timeout_s` at most for those that are not."""

    token = tokens.AWS_NODE_POOL
    Inputs = NodePoolInputs
    Outputs = NodePoolOutputs

    def check(
        self, ctx: Context, news: NodePoolInputs, olds: NodePoolInputs | None
    ) -> tuple[NodePoolInputs, list[CheckFailure]]:
        """The token is that of the first generation, always: a raised one rebuilds nodes, the pool stays the same, and
        is found again when its state was lost."""
        if olds is not None and olds.token:
            news = replace(news, token=olds.token)
        elif ctx.deployment and news.token is not UNKNOWN:
            news = replace(news, token=identity.token(ctx.deployment, ctx.urn))
        return news, list(_failures(news))

    def diff(self, ctx: Context, id: str, olds: NodePoolInputs, outs: NodePoolOutputs, news: NodePoolInputs) -> Diff:
        """Raises Refused where the cloud cannot be asked: a pool that nobody has seen is not unchanged."""
        plain = super().diff(ctx, id, olds, outs, news)
        moved = tuple(f"cloud.{name}" for name in ("key", "region", "account") if _moved(olds, news, name))
        if plain.replaces or moved:
            return Diff((), (*plain.replaces, *moved), delete_before_replace=True)  # the nodes' names are the same
        updates = [name for name in plain.updates if name != "nodes"]
        return replace(plain, updates=(*updates, *_changed_nodes(olds, news)), output_updates=_drift(ctx, olds, outs))

    def preview(self, ctx: Context, news: NodePoolInputs, outs: NodePoolOutputs | None) -> NodePoolOutputs:
        """Hosts that stay are known, those that will be made are not."""
        if outs is None:
            return NodePoolOutputs(UNKNOWN, UNKNOWN, UNKNOWN)
        if UNKNOWN in (news.nodes, *(getattr(news, name) for name in pool_types.SPEC_FIELDS)):
            return replace(outs, hosts=UNKNOWN, run_id=UNKNOWN)
        gang = Gang(ctx, Api(ctx, news.cloud), news, Journal(news.region, news.token), outs.hosts)
        with told():
            gang.look()
        hosts: list[Any] = []
        for index in range(len(news.nodes)):
            one = gang.nodes.get(index)
            stays = one is not None and one.id in gang.hosts and one.state == "running" and gang.is_current(one)
            hosts.append(gang.host(index) if stays else UNKNOWN)
        return replace(outs, hosts=tuple(hosts), run_id=UNKNOWN)

    def create(self, ctx: Context, news: NodePoolInputs) -> tuple[str, NodePoolOutputs]:
        """Adopts what carries the token. Refused when there is no node at all; HalfMade when some exist."""
        id = f"{news.region}-{news.pool}"
        with Journal(news.region, news.token).held(ctx) as journal:
            journal.new_nonce()
            converge = _Converge(ctx, news, journal)
            try:
                return id, converge.run(id)
            except (Refused, Cancelled):
                if not converge.gang.may_exist:
                    journal.remove()
                raise

    def read(
        self, ctx: Context, id: str, olds: NodePoolInputs | None, outs: NodePoolOutputs | None
    ) -> tuple[NodePoolInputs, NodePoolOutputs] | None:
        """The nodes that exist, running or not; None when there is none. Pools are not imported: they are made."""
        if olds is None or outs is None:
            return None
        journal = Journal(olds.region, olds.token)
        gang = Gang(ctx, Api(ctx, olds.cloud), olds, journal, outs.hosts)
        with told():
            gang.look()
        if not gang.may_exist:
            return None
        found = replace(outs, hosts=_hosts(gang))
        waiting = [gang.name(i) for i, one in gang.nodes.items() if not gang.has_been_ready(one.id)]
        if waiting:
            raise HalfMade(id, found, [f"not ready yet: {', '.join(waiting[:3])}{_more(len(waiting) - 3)}"])
        return olds, found

    def update(
        self, ctx: Context, id: str, olds: NodePoolInputs, outs: NodePoolOutputs, news: NodePoolInputs
    ) -> NodePoolOutputs:
        """Adds and removes from the end, makes what is missing, starts what is stopped, leaves the rest alone."""
        with Journal(news.region, news.token).held(ctx) as journal:
            if not journal.owns(outs.nonce):
                ctx.log(f"pool {news.pool} belongs to a newer create; left alone")
                return outs
            if not journal.exists:  # lost with AIFACTORY_HOME; the nodes are found by their tags
                journal.nonce = outs.nonce
                journal.data["whole"] = bool(outs.hosts)
                journal.save()
            return _Converge(ctx, news, journal, outs.hosts).run(id)

    def delete(self, ctx: Context, id: str, olds: NodePoolInputs, outs: NodePoolOutputs) -> None:
        """Ends every instance of this create, and waits until they are gone. May be called twice."""
        with Journal(olds.region, olds.token).held(ctx) as journal:
            if not journal.owns(outs.nonce):
                ctx.log(f"pool {olds.pool} belongs to a newer create; left alone")
                return
            gang = Gang(ctx, Api(ctx, olds.cloud), olds, journal, outs.hosts)
            with told():
                gang.look()
                gang.resolve(wanted=False)
                gang.let_go([*gang.nodes.values(), *gang.surplus, *gang.ending])
            journal.remove()


class _Converge:
    """From whatever is there to what the inputs say."""

    def __init__(self, ctx: Context, news: NodePoolInputs, journal: Journal, hosts: tuple[FleetHost, ...] = ()) -> None:
        self.ctx, self.news, self.journal = ctx, news, journal
        self.gang = Gang(ctx, Api(ctx, news.cloud), news, journal, hosts)
        self.arrival = Arrival(self.gang)

    def run(self, id: str) -> NodePoolOutputs:
        """Raises HalfMade with what exists; Refused or Cancelled when nothing was begun, or nothing is there."""
        try:
            reasons = self._steps()
        except (Cancelled, CloudError, Refused) as stop:
            reasons = [str(stop)]
            if isinstance(stop, Cancelled) and not self.gang.looked:
                raise
        if reasons and not (self.gang.looked and (self.gang.hosts or self.gang.may_exist)):
            raise Refused("\n".join(reasons))
        self.gang.settle(whole=not reasons)
        outputs = NodePoolOutputs(_hosts(self.gang), identity.new_nonce(), self.journal.nonce)
        if reasons:
            raise HalfMade(id, outputs, reasons)
        return outputs

    def _steps(self) -> list[str]:
        """Why nodes are not as they should be, in a few lines."""
        gang, wanted = self.gang, range(len(self.news.nodes))
        gang.look()
        gang.resolve(wanted=True)
        self._say_drift()
        if gang.surplus:
            self.ctx.log(
                f"ended, for they are nodes of no place in the pool: {_listed(one.id for one in gang.surplus)}"
            )
            gang.let_go(gang.surplus)
        stale = [i for i, one in gang.nodes.items() if not gang.is_current(one)]
        missing = [i for i in wanted if i not in gang.nodes]
        if missing:
            self.ctx.progress(f"{len(gang.nodes)}/{len(wanted)} nodes exist; making {len(missing)}")
            if (short := gang.launch(missing)) is not None:
                return [self._short(short)]
        reasons = self.arrival.wait(i for i in wanted if i not in stale and not self.arrival.is_ready(i))
        return self._told(reasons) if reasons or not stale else self._roll(stale)

    def _say_drift(self) -> None:
        """What the state knows and the world has no longer, or not as it was; all of it is mended from here on."""
        place = {node.name: i for i, node in enumerate(self.news.nodes)}
        here = {one.id: one for one in self.gang.nodes.values()}
        lines = []
        for host in self.gang.hosts.values():
            one = here.get(host.id)
            if host.name in place and (one is None or one.state != "running"):
                lines.append(
                    f"hosts[{place[host.name]}]: {host.name} ({host.id}) {one.state if one else 'gone'} → running"
                )
        for line in lines[:REASONS]:
            self.ctx.log(line)
        if len(lines) > REASONS:
            self.ctx.log(f"and {len(lines) - REASONS} more nodes")

    def _roll(self, stale: list[int]) -> list[str]:
        """Replaces nodes: one, then one in ROLL_SHARE at a time. What was given back is waited for."""
        size = 1
        while stale:
            some, stale = stale[:size], stale[size:]
            self.ctx.progress(f"replacing {_listed(self.gang.name(i) for i in some)}; {len(stale)} are left")
            self.gang.let_go([self.gang.nodes[i] for i in some if i in self.gang.nodes])
            if (short := self.gang.launch(some, patience_s=SHORTAGE_S)) is not None:
                return [self._partial(short, "the nodes that are there stay")]
            if reasons := self.arrival.wait(some):
                return self._told(reasons)
            size = max(1, len(self.news.nodes) // ROLL_SHARE)
        return []

    def _short(self, error: CloudError) -> str:
        """Not all could be had: keeps what came, or gives it back, as the region file says."""
        gang = self.gang
        if self.news.on_partial == "keep":
            return self._partial(error, "they are kept; `up` asks for the rest again")
        given = [one for one in gang.nodes.values() if one.id in gang.made or not gang.was_whole]
        text = self._partial(error, f"{len(given)} of them are given back")
        gang.let_go(given)
        return text

    def _partial(self, error: CloudError, what: str) -> str:
        have, want = len(self.gang.nodes), len(self.news.nodes)
        return f"{have} of {want} in zone {self.news.zone}; policy: {self.news.on_partial}: {what} ({error})"

    def _told(self, reasons: Mapping[int, str]) -> list[str]:
        """One line a reason, with the nodes it is true of."""
        by_why: dict[str, list[int]] = {}
        for index, why in sorted(reasons.items()):
            by_why.setdefault(why, []).append(index)
        lines = [f"{_listed(self._node(i) for i in indices)}: {why}" for why, indices in by_why.items()]
        rest = len(lines) - REASONS
        return lines if rest <= 0 else [*lines[:REASONS], f"and {rest} more nodes, for reasons like these"]

    def _node(self, index: int) -> str:
        one = self.gang.nodes.get(index)
        return f"{self.gang.name(index)} ({one.id})" if one else self.gang.name(index)


def _hosts(gang: Gang) -> tuple[FleetHost, ...]:
    return tuple(gang.host(index) for index in sorted(gang.nodes))


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + _more(len(names) - 3)


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""


def _moved(olds: NodePoolInputs, news: NodePoolInputs, name: str) -> bool:
    return UNKNOWN not in (olds.cloud, news.cloud) and getattr(olds.cloud, name) != getattr(news.cloud, name)


def _changed_nodes(olds: NodePoolInputs, news: NodePoolInputs) -> Iterator[str]:
    for i in range(max(len(olds.nodes), len(news.nodes))):
        if olds.nodes[i : i + 1] != news.nodes[i : i + 1]:
            yield f"nodes[{i}]"


def _drift(ctx: Context, olds: NodePoolInputs, outs: NodePoolOutputs) -> tuple[str, ...]:
    """Paths of hosts that are gone, do not run, or are not the ones of the state; `hosts` where there are others."""
    gang = Gang(ctx, Api(ctx, olds.cloud), olds, Journal(olds.region, olds.token), outs.hosts)
    with told():
        gang.look()
    here = {one.id: one for one in (*gang.nodes.values(), *gang.surplus)}
    paths = []
    for i, host in enumerate(outs.hosts):
        one = here.get(host.id)
        if one is None or one.state != "running" or not gang.is_current(one):
            paths.append(f"hosts[{i}]")
    if here.keys() - {host.id for host in outs.hosts} or {n.name for n in olds.nodes} - {h.name for h in outs.hosts}:
        paths.append("hosts")
    return tuple(paths)


def _failures(news: NodePoolInputs) -> Iterator[CheckFailure]:
    if news.user is not UNKNOWN and not boot.USER_RE.fullmatch(news.user):
        yield CheckFailure("user", f"{news.user} is not a login name")
    for name in ("generation", "ready_timeout_s"):
        if getattr(news, name) is not UNKNOWN and getattr(news, name) < 1:
            yield CheckFailure(name, "is at least 1")
    if news.capacity_kind in RESERVED and not news.capacity_id:
        yield CheckFailure("capacity_id", f"capacity_kind {news.capacity_kind} needs the id of one")
    if news.capacity_kind not in RESERVED and news.capacity_kind is not UNKNOWN and news.capacity_id:
        yield CheckFailure("capacity_id", f"capacity_kind {news.capacity_kind} takes none")
    if UNKNOWN not in (news.bastion, news.bastion_host_key) and news.bastion and not news.bastion_host_key:
        yield CheckFailure("bastion_host_key", f"is not known; {news.bastion} cannot be told from an impostor")
    if news.nodes is not UNKNOWN:
        yield from _node_failures(news)


def _node_failures(news: NodePoolInputs) -> Iterator[CheckFailure]:
    if not news.nodes:
        yield CheckFailure("nodes", "names no node")
    names: set[str] = set()
    for i, node in enumerate(news.nodes):
        if not naming.HOST_RE.fullmatch(node.name):
            yield CheckFailure(f"nodes[{i}].name", f"{node.name} is not a host name")
        if node.name in names:
            yield CheckFailure(f"nodes[{i}].name", f"{node.name} is there twice")
        names.add(node.name)
