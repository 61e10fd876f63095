"""`aifactory:local:Network`: the bridge network of a region's nodes."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace

from aifactory import naming
from aifactory.provider.journal import Journal
from aifactory.provider.local import driver, labels, subnets
from aifactory.provider.local.driver import ContainerEngine
from aifactory.provider.local.engine_errors import EngineError, StillInUse
from aifactory.provider.resource import UNKNOWN, CheckFailure, Context, Diff, Refused, Resource, prop
from aifactory.provider.tokens import LOCAL_NETWORK


@dataclass(frozen=True)
class NetworkInputs:
    region: str = prop(doc="Region name.", replaces=True)
    cidr: str = prop(doc="IPv4 network of the nodes; the first address is the gateway.", replaces=True)
    engine: str = prop("auto", doc="Container engine: auto, podman, docker.", replaces=True)
    token: str = prop("", doc="Identity of the resource.", check=True)


@dataclass(frozen=True)
class NetworkOutputs:
    engine: str = prop(doc="The engine that was found.")
    network: str = prop(doc="Name of the network in the engine.")
    subnet: str = prop(doc="IPv4 network.")
    gateway: str = prop(doc="Address of this machine inside it.")
    nonce: str = prop(doc="Fence of delete and update.")


class Network(Resource[NetworkInputs, NetworkOutputs]):
    """Every verb is a command or two of the engine: well under a second."""

    token = LOCAL_NETWORK
    Inputs = NetworkInputs
    Outputs = NetworkOutputs

    def check(
        self, ctx: Context, news: NetworkInputs, olds: NetworkInputs | None
    ) -> tuple[NetworkInputs, list[CheckFailure]]:
        failures = []
        if news.engine is not UNKNOWN and news.engine not in ("auto", *driver.ENGINES):
            failures.append(CheckFailure("engine", f"{news.engine} is none of auto, podman, docker"))
        if news.cidr is not UNKNOWN:
            try:
                ipaddress.IPv4Network(news.cidr)
            except ValueError as error:
                failures.append(CheckFailure("cidr", str(error)))
        return news, failures

    def diff(self, ctx: Context, id: str, olds: NetworkInputs, outs: NetworkOutputs, news: NetworkInputs) -> Diff:
        """Also asks the engine whether the network is there. Its name is fixed, so it goes before a new one comes."""
        plain = super().diff(ctx, id, olds, outs, news)
        if plain.replaces:
            return replace(plain, delete_before_replace=True)
        gone = _engine(outs.engine).network(outs.network) is None
        return replace(plain, output_updates=("network",) if gone else ())

    def preview(self, ctx: Context, news: NetworkInputs, outs: NetworkOutputs | None) -> NetworkOutputs:
        if outs is not None:
            return outs
        if news.cidr is UNKNOWN or news.region is UNKNOWN:
            return NetworkOutputs(UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)
        return replace(_outputs(UNKNOWN, news), nonce=UNKNOWN)

    def create(self, ctx: Context, news: NetworkInputs) -> tuple[str, NetworkOutputs]:
        """Refused when the name or a part of the range is somebody else's."""
        engine = _engine(news.engine)
        with Journal(news.region, news.token).held(ctx) as journal:
            outputs = replace(_outputs(engine.name, news), nonce=journal.new_nonce())
            try:
                _make(ctx, engine, news, outputs)
            except Refused:
                if engine.network(outputs.network) is None:
                    journal.remove()
                raise
        return outputs.network, outputs

    def read(
        self, ctx: Context, id: str, olds: NetworkInputs | None, outs: NetworkOutputs | None
    ) -> tuple[NetworkInputs, NetworkOutputs] | None:
        """None when it is gone, or never was this resource's. Networks are not imported."""
        if olds is None or outs is None:
            return None
        found = _engine(outs.engine).network(outs.network)
        return (olds, outs) if found and found.labels.get(labels.TOKEN) == olds.token else None

    def update(
        self, ctx: Context, id: str, olds: NetworkInputs, outs: NetworkOutputs, news: NetworkInputs
    ) -> NetworkOutputs:
        """Makes it again where somebody removed it; nothing of it can change in place."""
        with Journal(news.region, news.token).held(ctx) as journal:
            if not journal.owns(outs.nonce):
                ctx.log(f"network {outs.network} belongs to a newer create; left alone")
                return outs
            _make(ctx, _engine(outs.engine), news, outs)
        return outs

    def delete(self, ctx: Context, id: str, olds: NetworkInputs, outs: NetworkOutputs) -> None:
        engine = _engine(outs.engine)
        with Journal(olds.region, olds.token).held(ctx) as journal:
            if not journal.owns(outs.nonce):
                ctx.log(f"network {outs.network} belongs to a newer create; left alone")
                return
            found = engine.network(outs.network)
            if found and found.labels.get(labels.TOKEN) == olds.token:
                try:
                    engine.remove_network(found.name)
                except StillInUse as error:
                    raise Refused(f"network {found.name} still has containers: {error.detail}") from error
                except EngineError as error:
                    raise Refused(str(error)) from error
            journal.remove()


def _engine(name: str) -> ContainerEngine:
    try:
        return driver.find(name)
    except EngineError as error:
        raise Refused(str(error)) from error


def _outputs(engine: str, news: NetworkInputs) -> NetworkOutputs:
    subnet = ipaddress.IPv4Network(news.cidr)
    return NetworkOutputs(engine, naming.network(news.region), str(subnet), str(subnet[1]), "")


def _make(ctx: Context, engine: ContainerEngine, news: NetworkInputs, wanted: NetworkOutputs) -> None:
    """Makes the network, or adopts what an earlier run of this resource made."""
    networks = engine.networks()
    mine = labels.of(ctx, news.region, news.token)
    found = next((n for n in networks if n.name == wanted.network), None)
    try:
        if found is not None:
            if found.labels.get(labels.TOKEN) == news.token and wanted.subnet in found.subnets:
                return
            if any(found.labels.get(key) != mine[key] for key in (labels.DEPLOYMENT, labels.URN)):
                raise Refused(f"network {found.name} exists already and belongs to {labels.holder(found.labels)}")
            engine.remove_network(found.name)  # an earlier network of this very resource, of another range
        if held := subnets.clash(wanted.subnet, networks, wanted.network):
            raise Refused(f"{wanted.subnet} is taken: {held}; choose another network.cidr")
        engine.create_network(wanted.network, wanted.subnet, wanted.gateway, mine)
    except EngineError as error:
        raise Refused(f"network {wanted.network} ({wanted.subnet}): {error}") from error
