"""`aifactory:static:NodePool`: hosts that exist, taken in after a login on each.

Nothing is made, changed or removed on them. Create and update log in once, with the host key of the
spec checked, on every host that has not been taken in yet; a run without changes opens no connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace

from aifactory.errors import ProblemError
from aifactory.hosts.fleet import FleetHost
from aifactory.hosts.play import SshAccess
from aifactory.provider import identity
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
from aifactory.provider.static import login
from aifactory.provider.tokens import STATIC_NODE_POOL

AT_ONCE = 16
"""Logins at the same time."""
LOGIN_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class StaticHost:
    name: str = prop(doc="Name of the host.")
    address: str = prop(doc="IP address or DNS name.")
    host_key: str = prop(doc="SSH public host key, `type base64`.")
    port: int = prop(22, doc="SSH port.")
    rank: int = prop(0, doc="Place in the region, from 0.")
    gpus: int = prop(0, doc="GPUs of the host.")
    labels: dict[str, str] = prop(doc="Free labels: rack, rail group.", default_factory=dict)


@dataclass(frozen=True)
class StaticPoolInputs:
    region: str = prop(doc="Region name.", replaces=True)
    pool: str = prop(doc="Pool name.", replaces=True)
    shape: str = prop(doc="Shape of the hosts.")
    user: str = prop(doc="Login that may use sudo without a password.")
    hosts: tuple[StaticHost, ...] = prop(doc="The hosts in rank order.")
    ssh_private_key: str = prop("", doc="Login key, OpenSSH format.", secret=True)
    ssh_private_key_path: str = prop("", doc="Login key as a file of this machine.")
    bastion: str = prop("", doc="Jump host, `[user@]host[:port]`.")
    bastion_host_key: str = prop("", doc="SSH public host key of the jump host.")
    token: str = prop("", doc="Identity of the resource.", check=True)


@dataclass(frozen=True)
class StaticPoolOutputs:
    hosts: tuple[FleetHost, ...] = prop(doc="Hosts that let us in, in rank order.")
    run_id: str = prop(doc="Last run that took hosts in: what was proved before it is proved anew.")
    nonce: str = prop(doc="Changes with every create.")


class NodePool(Resource[StaticPoolInputs, StaticPoolOutputs]):
    """Create and update block for one login a host, sixteen at a time, 20 s each at most."""

    token = STATIC_NODE_POOL
    Inputs = StaticPoolInputs
    Outputs = StaticPoolOutputs

    def check(
        self, ctx: Context, news: StaticPoolInputs, olds: StaticPoolInputs | None
    ) -> tuple[StaticPoolInputs, list[CheckFailure]]:
        if news.hosts is UNKNOWN:
            return news, []
        failures = [] if news.hosts else [CheckFailure("hosts", "names no host")]
        names: set[str] = set()
        for i, host in enumerate(news.hosts):
            if host.name in names:
                failures.append(CheckFailure(f"hosts[{i}].name", f"{host.name} is there twice"))
            names.add(host.name)
        return news, failures

    def diff(
        self, ctx: Context, id: str, olds: StaticPoolInputs, outs: StaticPoolOutputs, news: StaticPoolInputs
    ) -> Diff:
        """Compares only; whether the hosts still answer is for the play to find out."""
        plain = super().diff(ctx, id, olds, outs, news)
        updates = [name for name in plain.updates if name != "hosts"]
        return replace(plain, updates=(*updates, *_changed(olds, news)))

    def preview(self, ctx: Context, news: StaticPoolInputs, outs: StaticPoolOutputs | None) -> StaticPoolOutputs:
        """The hosts are known beforehand: they exist."""
        if UNKNOWN in (news.hosts, news.user, news.shape):
            return StaticPoolOutputs(UNKNOWN, UNKNOWN, UNKNOWN)
        return StaticPoolOutputs(_fleet(ctx, news), UNKNOWN, outs.nonce if outs else UNKNOWN)

    def create(self, ctx: Context, news: StaticPoolInputs) -> tuple[str, StaticPoolOutputs]:
        id = f"{news.region}-{news.pool}"
        return id, _take_in(ctx, id, news, known=(), nonce=identity.new_nonce())

    def read(
        self, ctx: Context, id: str, olds: StaticPoolInputs | None, outs: StaticPoolOutputs | None
    ) -> tuple[StaticPoolInputs, StaticPoolOutputs] | None:
        """What the state says; opens no connection. A pool is a list of the spec and is not imported."""
        return None if olds is None or outs is None else (olds, outs)

    def update(
        self, ctx: Context, id: str, olds: StaticPoolInputs, outs: StaticPoolOutputs, news: StaticPoolInputs
    ) -> StaticPoolOutputs:
        """Logs in on hosts that are new or reached in another way; all of them when the way in changed."""
        same_way = _access(olds) == _access(news)
        return _take_in(ctx, id, news, known=outs.hosts if same_way else (), nonce=outs.nonce)

    def delete(self, ctx: Context, id: str, olds: StaticPoolInputs, outs: StaticPoolOutputs) -> None:
        """The hosts are not ours: nothing is touched."""


def _take_in(
    ctx: Context, id: str, news: StaticPoolInputs, *, known: tuple[FleetHost, ...], nonce: str
) -> StaticPoolOutputs:
    """The pool with every host that lets us in. Raises HalfMade with a reason for each that does not."""
    fleet = _fleet(ctx, news)
    accepted = {host.id for host in known}
    unknown = [host for host in fleet if host.id not in accepted]
    reasons: dict[str, str] = {}
    if unknown:
        try:
            reasons = _log_in(ctx, unknown, fleet, _access(news))
        except ProblemError as error:
            raise Refused(str(error)) from error
        except Cancelled as stop:
            reasons = {host.name: f"{stop}: {host.name} was not asked" for host in unknown}
    outputs = StaticPoolOutputs(tuple(host for host in fleet if host.name not in reasons), identity.new_nonce(), nonce)
    if reasons:
        raise HalfMade(id, outputs, [reasons[host.name] for host in fleet if host.name in reasons])
    return outputs


def _log_in(ctx: Context, hosts: list[FleetHost], fleet: tuple[FleetHost, ...], access: SshAccess) -> dict[str, str]:
    """Name → reason of the hosts that do not let us in."""
    reasons: dict[str, str] = {}
    done = len(fleet) - len(hosts)

    def try_one(logins: login.Logins, host: FleetHost) -> login.Refusal | None:
        ctx.check_cancelled()
        return logins.refusal(host, max(1.0, min(LOGIN_TIMEOUT_S, ctx.remaining())))

    with login.opened(hosts, access) as logins, ThreadPoolExecutor(max_workers=min(AT_ONCE, len(hosts))) as pool:
        running = {pool.submit(try_one, logins, host): host for host in hosts}
        for future in as_completed(running):
            refusal, host = future.result(), running[future]
            if refusal is not None:
                reasons[host.name] = refusal.reason
            else:
                done += 1
            ctx.progress(f"{done}/{len(fleet)} hosts reachable")
    return reasons


def _access(news: StaticPoolInputs) -> SshAccess:
    return SshAccess(
        private_key=news.ssh_private_key or None,
        private_key_path=news.ssh_private_key_path or None,
        bastion=news.bastion or None,
        bastion_host_key=news.bastion_host_key or None,
    )


def _fleet(ctx: Context, news: StaticPoolInputs) -> tuple[FleetHost, ...]:
    """A host's id is its name and the key it answers with: a reinstalled host is another one."""
    return tuple(
        FleetHost(
            id=f"{host.name} {host.address}:{host.port} {news.user} {login.fingerprint(host.host_key)}",
            name=host.name,
            address=host.address,
            port=host.port,
            user=news.user,
            host_key=host.host_key,
            pool=news.pool,
            shape=news.shape,
            rank=host.rank,
            gpus=host.gpus,
            node_address=host.address,
            labels=host.labels,
            urn=ctx.urn,
        )
        for host in news.hosts
    )


def _changed(olds: StaticPoolInputs, news: StaticPoolInputs) -> Iterator[str]:
    for i in range(max(len(olds.hosts), len(news.hosts))):
        if olds.hosts[i : i + 1] != news.hosts[i : i + 1]:
            yield f"hosts[{i}]"
