"""`service:Service`: the replicas of one model, each a unit on a host."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from aifactory.hosts.play import Play
from aifactory.provider import tokens
from aifactory.provider.host.play_resource import PlayInputs, PlayOutputs, PlayResource
from aifactory.provider.resource import Context, prop
from aifactory.serving import golden, image, units

PLAYBOOK = "inference.yml"
LAYER = "inference"


@dataclass(frozen=True)
class Replica:
    """One copy of the service: `index` is stable, `node` a host's name, `port` where it listens there."""

    index: int
    node: str
    port: int


@dataclass(frozen=True)
class Endpoint:
    """Where a replica answers, as other nodes reach it."""

    node: str
    address: str
    port: int


@dataclass(frozen=True, kw_only=True)
class ServiceInputs(PlayInputs):
    service: str = prop(doc="Name; also the model id that clients ask for.", replaces=True)
    model: str = prop(doc="Key of the models catalogue.")
    engine: str = prop(doc="Key of the engines catalogue.")
    image_archive: str = prop(doc="Archive of the engine image, file under images/ of the cache.")
    image_id: str = prop(doc="Image id; nodes run this and nothing else.")
    model_file: str = prop(doc="Weights, file under models/ of the cache.")
    model_sha256: str = prop(doc="Digest of the weights, checked on the node.")
    context_tokens: int = prop(doc="Tokens a request may use, prompt and answer.")
    parallel_requests: int = prop(doc="Requests a replica works on at once.")
    replicas: tuple[Replica, ...] = prop(doc="Where the copies stand.")
    upstream_key: str = prop(doc="Key that the front door shows to the engines.", secret=True)


@dataclass(frozen=True, kw_only=True)
class ServiceOutputs(PlayOutputs):
    endpoints: tuple[Endpoint, ...] = prop(doc="Where the replicas answer, in replica order.")


class Service(PlayResource[ServiceInputs, ServiceOutputs]):
    """Runs the replicas. See PlayResource for what blocks, repeats and fails how.

    A changed image, model or setting restarts one replica after the other. Hosts that have no replica any
    more, and every host at a delete, are cleared of the service's units where they still answer.
    """

    token: ClassVar[str] = tokens.SERVICE_SERVICE
    Inputs: ClassVar[type] = ServiceInputs
    Outputs: ClassVar[type] = ServiceOutputs

    def play(self, inputs: ServiceInputs) -> Play:
        variables = {
            "service": inputs.service,
            "image_id": inputs.image_id,
            "image_layer": image.ENGINE_LAYER,
            "image_root": image.ENGINE_ROOT,
            "model_sha256": inputs.model_sha256,
            "context_tokens": inputs.context_tokens,
            "parallel_requests": inputs.parallel_requests,
            "connections": units.CONNECTIONS,
            "drain_s": units.DRAIN_S,
            "replicas": [{"index": r.index, "node": r.node, "port": r.port} for r in inputs.replicas],
        }
        return Play(
            PLAYBOOK,
            f"service-{inputs.service}",
            inputs.hosts,
            (LAYER,),
            {LAYER: variables},
            {LAYER: {"upstream_key": inputs.upstream_key}},
            local_vars={
                LAYER: {
                    "image_archive": str(image.folder() / inputs.image_archive),
                    "model_file": str(golden.folder() / inputs.model_file),
                }
            },
        )

    def removal(self, inputs: ServiceInputs, outs: ServiceOutputs) -> Play:
        return self.play(replace(inputs, replicas=()))

    def more_outputs(self, inputs: ServiceInputs) -> dict[str, Any]:
        addresses = {host.name: host.node_address for host in inputs.hosts}
        return {"endpoints": tuple(Endpoint(r.node, addresses[r.node], r.port) for r in inputs.replicas)}

    def update(
        self, ctx: Context, id: str, olds: ServiceInputs, outs: ServiceOutputs, news: ServiceInputs
    ) -> ServiceOutputs:
        """Clears hosts that left the service first, so that nothing answers there unseen."""
        staying = {host.name for host in news.hosts}
        if left := tuple(host for host in olds.hosts if host.name not in staying):
            self._remove(ctx, replace(olds, hosts=left), outs)
        return super().update(ctx, id, olds, outs, news)
