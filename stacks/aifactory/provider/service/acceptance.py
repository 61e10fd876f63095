"""`service:Acceptance`: the proof that a region is up, taken anew whenever something of it changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from aifactory.acceptance import verdict as verdicts
from aifactory.acceptance.verify import verify_region
from aifactory.errors import ProblemError
from aifactory.hosts.fleet import FleetHost
from aifactory.hosts.play import SshAccess
from aifactory.provider import tokens
from aifactory.provider.journal import Journal
from aifactory.provider.resource import UNKNOWN, Context, HalfMade, Refused, Resource, prop


@dataclass(frozen=True, kw_only=True)
class AcceptanceInputs:
    region: str = prop(doc="Region to accept.")
    hosts: tuple[FleetHost, ...] = prop(doc="Its hosts, in rank order.")
    ssh_private_key: str | None = prop(None, doc="Text of the SSH key.", secret=True)
    ssh_private_key_path: str | None = prop(None, doc="Path of the SSH key; without either, the agent's keys.")
    bastion: str | None = prop(None, doc="Jump host, `[user@]host[:port]`.")
    bastion_host_key: str | None = prop(None, doc="The jump host's public key.")
    endpoint: str | None = prop(None, doc="URL of the front door; none where nothing is served.")
    ca_certificate: str | None = prop(None, doc="Certificate to trust, PEM; none = those of the system.")
    client_key: str | None = prop(None, doc="Key to ask with.", secret=True)
    services: tuple[dict[str, Any], ...] = prop((), doc="Services, each at least with its `name`.")
    units: dict[str, tuple[str, ...]] = prop(doc="Node → units that must run on it.", default_factory=dict)
    level: str = prop("l1", doc="Depth: l0 … l4.")
    after: tuple[str, ...] = prop((), doc="Ids of the runs that made what is accepted: a new run is accepted anew.")
    token: str = prop("", doc="Identity of this resource.", check=True)


@dataclass(frozen=True, kw_only=True)
class Proof:
    """A verdict as it stands in the state."""

    check: str
    scope: str
    verdict: str
    measured: str
    floor: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class AcceptanceOutputs:
    verdicts: tuple[Proof, ...] = prop(doc="What was checked, measured and found.")
    nonce: str = prop(doc="Changes with every create.")


class Acceptance(Resource[AcceptanceInputs, AcceptanceOutputs]):
    """create and update ask the hosts and the front door: they block for seconds, change nothing, may be repeated.

    Anything but a pass raises HalfMade with a line for each, so the next `up` asks again. There is nothing to
    delete.
    """

    token: ClassVar[str] = tokens.SERVICE_ACCEPTANCE
    Inputs: ClassVar[type] = AcceptanceInputs
    Outputs: ClassVar[type] = AcceptanceOutputs

    def preview(self, ctx: Context, news: AcceptanceInputs, outs: AcceptanceOutputs | None) -> AcceptanceOutputs:
        return AcceptanceOutputs(verdicts=UNKNOWN, nonce=outs.nonce if outs else UNKNOWN)

    def create(self, ctx: Context, news: AcceptanceInputs) -> tuple[str, AcceptanceOutputs]:
        journal = Journal(news.region, news.token)
        with journal.held(ctx):
            return news.token, self._verify(ctx, news, journal.new_nonce())

    def update(
        self, ctx: Context, id: str, olds: AcceptanceInputs, outs: AcceptanceOutputs, news: AcceptanceInputs
    ) -> AcceptanceOutputs:
        return self._verify(ctx, news, outs.nonce)

    def _verify(self, ctx: Context, inputs: AcceptanceInputs, nonce: str) -> AcceptanceOutputs:
        ctx.progress(f"asking {len(inputs.hosts)} hosts and {len(inputs.services)} services")
        ssh = SshAccess(inputs.ssh_private_key, inputs.ssh_private_key_path, inputs.bastion, inputs.bastion_host_key)
        try:
            found = verify_region(
                hosts=inputs.hosts,
                ssh=ssh,
                endpoint=inputs.endpoint,
                ca_certificate=inputs.ca_certificate,
                client_key=inputs.client_key,
                services=inputs.services,
                units=inputs.units,
                wait=ctx.wait,
            )
        except ProblemError as error:
            raise Refused(str(error)) from error
        outputs = AcceptanceOutputs(verdicts=tuple(Proof(**verdict.to_dict()) for verdict in found), nonce=nonce)
        if missing := verdicts.reasons(found):
            raise HalfMade(inputs.token, outputs, missing)
        ctx.log(f"{len(found)} of {len(found)} checks passed")
        return outputs

    def read(
        self, ctx: Context, id: str, olds: AcceptanceInputs | None, outs: AcceptanceOutputs | None
    ) -> tuple[AcceptanceInputs, AcceptanceOutputs] | None:
        """What was found then: a verdict is about its moment. `aifactory verify` asks anew."""
        return None if olds is None or outs is None else (olds, outs)

    def delete(self, ctx: Context, id: str, olds: AcceptanceInputs, outs: AcceptanceOutputs) -> None:
        journal = Journal(olds.region, olds.token)
        with journal.held(ctx):
            if journal.owns(outs.nonce):
                journal.remove()
