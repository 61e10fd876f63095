"""A resource whose world is what Ansible leaves on hosts: the base of Configuration, Service and FrontDoor.

A host is up to date when the last run that got through on it had the digest that today's inputs give.
Only hosts for which that is not so are run on; where there are none, no SSH connection is opened.
A run that failed on some hosts keeps what it reached on the others: the next `up` goes on from there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar

from aifactory.errors import ProblemError
from aifactory.hosts import run as hosts_run
from aifactory.hosts.digest import node_digest
from aifactory.hosts.fleet import FleetHost
from aifactory.hosts.play import LAYERS, HostOutcome, Play, SshAccess
from aifactory.provider.journal import Journal
from aifactory.provider.resource import UNKNOWN, CheckFailure, Context, Diff, HalfMade, Refused, Resource, prop

NAMES_SHOWN = 8
STOP_MARGIN_S = 10.0
"""A run ends this long before the operation's deadline, so that its outcome still gets into the state."""


@dataclass(frozen=True, kw_only=True)
class PlayInputs:
    """What every such resource takes. `digests` is filled by Check and is what a preview shows."""

    region: str = prop(doc="Region the hosts belong to.")
    hosts: tuple[FleetHost, ...] = prop(doc="Hosts to configure, in rank order.")
    ssh_private_key: str | None = prop(None, doc="Text of the SSH key.", secret=True)
    ssh_private_key_path: str | None = prop(None, doc="Path of the SSH key; without either, the agent's keys.")
    bastion: str | None = prop(None, doc="Jump host, `[user@]host[:port]`.")
    bastion_host_key: str | None = prop(None, doc="The jump host's public key.")
    token: str = prop("", doc="Identity of this resource.", check=True)
    digests: dict[str, str] = prop(doc="Digests of layers, content and variables.", check=True, default_factory=dict)

    def ssh(self) -> SshAccess:
        return SshAccess(self.ssh_private_key, self.ssh_private_key_path, self.bastion, self.bastion_host_key)


@dataclass(frozen=True)
class NodeRecord:
    """What is known of one host. `digest` is empty until a run got through on it, and after drift."""

    id: str
    digest: str
    status: str


@dataclass(frozen=True, kw_only=True)
class PlayOutputs:
    digests: dict[str, str] = prop(doc="Digest of each layer that the last run had.", default_factory=dict)
    nodes: dict[str, NodeRecord] = prop(doc="What each host has converged to.", default_factory=dict)
    run_id: str = prop("", doc="Last run; stands in the journals of the hosts.")
    nonce: str = prop("", doc="Fence against an older state.")


I = TypeVar("I", bound=PlayInputs)  # noqa: E741
O = TypeVar("O", bound=PlayOutputs)  # noqa: E741


class PlayResource(Resource[I, O], Generic[I, O]):
    """Subclasses say which play their inputs mean; everything else is here.

    create and update block for minutes, are safe to repeat, go on where a failed run stopped and raise
    HalfMade with a reason for each group of hosts. read opens one SSH connection a host, in a refresh only.
    """

    hosts_enter_variables: ClassVar[bool] = False
    """True where `play` makes role variables out of the hosts: then no digest is known before they are."""

    @abstractmethod
    def play(self, inputs: I) -> Play:
        """The run that brings the hosts to `inputs`. Pure; sees no UNKNOWN (hosts may be empty in a preview)."""

    def removal(self, inputs: I, outs: O) -> Play | None:
        """The run that takes off the hosts what `play` put there; None (here) leaves it to go with the node."""
        return None

    def more_outputs(self, inputs: I) -> dict[str, Any]:
        """Values of the outputs that the subclass adds, from known inputs. Pure."""
        return {}

    # -- what would change

    def check(self, ctx: Context, news: I, olds: I | None) -> tuple[I, list[CheckFailure]]:
        """Fills in the digests; {} stays UNKNOWN while an input that they depend on is not known yet."""
        given = [f.name for f in dataclasses.fields(news) if f.name not in self._outside_digest(news)]
        if any(has_unknown(getattr(news, name)) for name in given):
            return replace(news, digests=UNKNOWN), []
        known = replace(news, hosts=()) if has_unknown(news.hosts) else news
        try:
            play = self.play(known)
            if play.secret_vars and has_unknown(news.ssh_private_key):
                return replace(news, digests=UNKNOWN), []
            return replace(news, digests=hosts_run.digests(play, self._key(ctx, news))), []
        except (ValueError, FileNotFoundError) as error:
            return replace(news, digests={}), [CheckFailure("digests", str(error))]

    def _outside_digest(self, news: I) -> set[str]:
        own = {"digests", "token", "ssh_private_key", "ssh_private_key_path", "bastion", "bastion_host_key"}
        if not self.hosts_enter_variables:
            own.add("hosts")
        return own

    def diff(self, ctx: Context, id: str, olds: I, outs: O, news: I) -> Diff:
        """The layers whose digest changed, other inputs by name, and hosts that are not where they should be."""
        plain = super().diff(ctx, id, olds, outs, news)
        updates = [name for name in plain.updates if name != "digests"]
        if "digests" in plain.updates:
            updates += [f"digests.{layer}" for layer in self._changed_layers(olds, news)] or ["digests"]
        behind = () if has_unknown(news) else tuple(f"nodes.{h.name}" for h in self._behind(news, outs))
        known_hosts = {h.name for h in olds.hosts}
        drifted = tuple(path for path in behind if path.partition(".")[2] in known_hosts) if not updates else ()
        return Diff(tuple(updates), plain.replaces, drifted)

    def _changed_layers(self, olds: I, news: I) -> list[str]:
        if not isinstance(news.digests, Mapping) or not isinstance(olds.digests, Mapping):
            return []
        layers = _in_order({**olds.digests, **news.digests})
        return [layer for layer in layers if olds.digests.get(layer) != news.digests.get(layer)]

    def _behind(self, inputs: I, outs: O | None) -> list[FleetHost]:
        """Hosts on which no run got through yet with this digest, in rank order."""
        records = outs.nodes if outs is not None and isinstance(outs.nodes, Mapping) else {}
        return [host for host in inputs.hosts if not _is_current(host, records.get(host.name), inputs.digests)]

    def preview(self, ctx: Context, news: I, outs: O | None) -> O:
        """Says which layers would be configured on which hosts; opens no connection."""
        if has_unknown(news.hosts) or has_unknown(news.digests):
            where = "hosts that are not made yet" if has_unknown(news.hosts) else f"{len(news.hosts)} hosts"
            layers = _in_order(news.digests) if isinstance(news.digests, Mapping) else ["layers not known yet"]
            ctx.log(f"would configure {', '.join(layers)} on {where}")
            return self._outputs(news, UNKNOWN, UNKNOWN, outs.nonce if outs else UNKNOWN)
        behind = self._behind(news, outs)
        if not behind and outs is not None:
            return self._outputs(news, self._kept(news, outs), outs.run_id, outs.nonce)
        ctx.log(f"would configure {self._what(news, outs)} on {_names([h.name for h in behind])}")
        return self._outputs(news, UNKNOWN, UNKNOWN, outs.nonce if outs else UNKNOWN)

    def _what(self, news: I, outs: O | None) -> str:
        """The layers, those with new content named first."""
        names = _in_order(news.digests)
        changed = [name for name in names if outs and outs.digests.get(name) != news.digests[name]]
        layers = ", ".join(names)
        return f"{layers} (changed: {', '.join(changed)})" if changed else layers

    # -- doing it

    def create(self, ctx: Context, news: I) -> tuple[str, O]:
        journal = Journal(news.region, news.token)
        with journal.held(ctx):
            return news.token, self._converge(ctx, news, None, journal.new_nonce())

    def update(self, ctx: Context, id: str, olds: I, outs: O, news: I) -> O:
        journal = Journal(news.region, news.token)
        with journal.held(ctx):
            if not journal.owns(outs.nonce):
                ctx.log("a newer deployment has taken these hosts over; nothing was done")
                return outs
            return self._converge(ctx, news, outs, outs.nonce)

    def _converge(self, ctx: Context, inputs: I, outs: O | None, nonce: str) -> O:
        """Runs the play on the hosts that are behind; returns outputs or raises HalfMade with the same."""
        records = self._kept(inputs, outs)
        behind = self._behind(inputs, outs)
        if not behind:
            return self._outputs(inputs, records, outs.run_id if outs else "", nonce)
        result = self._run(ctx, inputs, self.play(inputs), behind)
        for host in behind:
            outcome = result.hosts[host.name]
            digest = node_digest(host, inputs.digests) if outcome.done else ""
            records[host.name] = NodeRecord(host.id, digest, outcome.status)
        outputs = self._outputs(inputs, records, result.run_id, nonce)
        for note in result.notes:
            ctx.log(note)
        if not result.ok:
            raise HalfMade(inputs.token, outputs, reasons(result.failed()))
        changed = sum(outcome.changed for outcome in result.hosts.values())
        ctx.log(f"{counted(len(behind), 'host')} converged, {counted(changed, 'task')} changed, {result.seconds:.0f} s")
        return outputs

    def _run(self, ctx: Context, inputs: I, play: Play, hosts: Sequence[FleetHost]) -> hosts_run.RunResult:
        limit = None if ctx.deadline is None else max(1.0, ctx.deadline - time.monotonic() - STOP_MARGIN_S)
        play = replace(play, limit=tuple(h.name for h in hosts), timeout_s=limit)
        try:
            return hosts_run.run_play(
                play,
                inputs.ssh(),
                key=self._key(ctx, inputs),
                progress=ctx.progress,
                cancelled=ctx.cancel.is_set,
            )
        except (ProblemError, ValueError, hosts_run.RunError) as error:
            raise Refused(str(error)) from error

    def _key(self, ctx: Context, inputs: I) -> bytes:
        """HMAC key of the secrets in the digests: this deployment's, and secret where the region has its own key."""
        own = inputs.ssh_private_key if isinstance(inputs.ssh_private_key, str) else ""
        return hmac.new(ctx.deployment.encode(), own.encode(), hashlib.sha256).digest()

    def _kept(self, inputs: I, outs: O | None) -> dict[str, NodeRecord]:
        """Records of the hosts that are still in the inputs."""
        names = {host.name for host in inputs.hosts}
        return {name: record for name, record in (outs.nodes if outs else {}).items() if name in names}

    def _outputs(self, inputs: I, nodes: Any, run_id: Any, nonce: Any) -> O:
        base = {"digests": inputs.digests, "nodes": nodes, "run_id": run_id, "nonce": nonce}
        added = {f.name for f in dataclasses.fields(self.Outputs)} - set(base)
        more = dict.fromkeys(added, UNKNOWN) if has_unknown(inputs) else self.more_outputs(inputs)
        outputs: O = self.Outputs(**base, **more)
        return outputs

    # -- looking and leaving

    def read(self, ctx: Context, id: str, olds: I | None, outs: O | None) -> tuple[I, O] | None:
        """Compares the markers on the hosts with the records. Hosts that do not answer keep theirs, and are named.

        There is nothing on a host that an import could be made of: None without old inputs.
        """
        if olds is None or outs is None:
            return None
        try:
            markers = hosts_run.read_markers(olds.hosts, olds.ssh(), self.play(olds).marker)
        except ProblemError as error:
            raise Refused(str(error)) from error
        records = dict(outs.nodes)
        for name, marker in markers.items():
            record = records.get(name)
            if record and record.digest and (marker or {}).get("node_digest") != record.digest:
                records[name] = replace(record, digest="", status="drifted")
        if silent := [h.name for h in olds.hosts if h.name not in markers]:
            ctx.log(f"no answer from {_names(silent)}: not compared")
        return olds, replace(outs, nodes=records)

    def delete(self, ctx: Context, id: str, olds: I, outs: O) -> None:
        """Runs the removal play, where there is one, on hosts that answer; the others are taken for gone."""
        journal = Journal(olds.region, olds.token)
        with journal.held(ctx):
            if not journal.owns(outs.nonce):
                ctx.log("a newer deployment has taken these hosts over; nothing was done")
                return
            self._remove(ctx, olds, outs)
            journal.remove()

    def _remove(self, ctx: Context, olds: I, outs: O) -> None:
        play = self.removal(olds, outs)
        hosts = [host for host in olds.hosts if host.name in outs.nodes]
        if play is None or not hosts:
            return
        failed = self._run(ctx, olds, play, hosts).failed()
        gone = sorted(name for name, outcome in failed.items() if outcome.status == "unreachable")
        if gone:
            ctx.log(f"no answer from {_names(gone)}: nothing removed there")
        if left := {name: outcome for name, outcome in failed.items() if name not in gone}:
            raise Refused("; ".join(reasons(left)))


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def reasons(failed: Mapping[str, HostOutcome]) -> list[str]:
    """One line for each thing that went wrong, with the hosts it went wrong on, the most hosts first."""
    groups: dict[HostOutcome, list[str]] = {}
    for name, outcome in failed.items():
        groups.setdefault(replace(outcome, changed=0, ok=0), []).append(name)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    return [outcome.reason(_names(names)) for outcome, names in ordered]


def has_unknown(value: Any) -> bool:
    """Whether UNKNOWN stands anywhere in a value of the wire."""
    if value is UNKNOWN:
        return True
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return any(has_unknown(getattr(value, f.name)) for f in dataclasses.fields(value))
    if isinstance(value, Mapping):
        return any(has_unknown(item) for item in value.values())
    return isinstance(value, list | tuple) and any(has_unknown(item) for item in value)


def _in_order(layers: Iterable[str]) -> list[str]:
    """Layers in the order they are configured; the wire forgets it."""
    return sorted(layers, key=lambda name: (LAYERS.index(name) if name in LAYERS else len(LAYERS), name))


def _is_current(host: FleetHost, record: NodeRecord | None, digests: Mapping[str, str]) -> bool:
    return record is not None and record.id == host.id and record.digest == node_digest(host, digests)


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"
