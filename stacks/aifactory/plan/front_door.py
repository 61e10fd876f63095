"""Where clients come in: on which nodes, under which name and port, who may call."""

from __future__ import annotations

from aifactory import naming
from aifactory.plan.lookup import refuse
from aifactory.plan.model import ClientPlan, Derived, FrontDoorPlan, NodePlan, PoolPlan, ServicePlan
from aifactory.region.spec import LocalProvider, Region

LOCAL_PORT = 8443
"""On the machine's loopback; a port below 1024 would need root there."""
PORT = 443
LOOPBACK = "127.0.0.1"
OWN_CLIENT = "aifactory"
"""The region's own client: acceptance and `aifactory ask` call with its key."""
SECRET = "secret:"  # noqa: S105 - the prefix of a reference, not a secret


def port(spec: Region) -> Derived[int]:
    if spec.front_door.port is not None:
        return Derived(spec.front_door.port, "as asked")
    if isinstance(spec.provider, LocalProvider):
        return Derived(LOCAL_PORT, "local: on 127.0.0.1, where 443 would need root")
    return Derived(PORT, "HTTPS")


def front_door(spec: Region, pools: tuple[PoolPlan, ...], services: tuple[ServicePlan, ...]) -> FrontDoorPlan | None:
    """The front door, or None for a region that serves nothing."""
    if not services:
        return None
    nodes = _nodes(pools, services)
    door = spec.front_door
    hostname = _hostname(spec, nodes)
    return FrontDoorPlan(
        nodes=tuple(n.name for n in nodes),
        hostname=hostname,
        server_names=_server_names(spec, hostname, nodes),
        port=port(spec),
        clients=_clients(spec),
        own_ca=door.tls is None,
        tls_certificate_secret=door.tls.certificate.removeprefix(SECRET) if door.tls else None,
        tls_key_secret=door.tls.key.removeprefix(SECRET) if door.tls else None,
    )


def _nodes(pools: tuple[PoolPlan, ...], services: tuple[ServicePlan, ...]) -> tuple[NodePlan, ...]:
    """Its own nodes, else every node on which a copy of a service answers, in rank order."""
    own = next((p for p in pools if p.name == naming.FRONT_POOL and p.purpose == "front"), None)
    if own:
        return own.nodes
    heads = {replica.nodes[0] for service in services for replica in service.replicas}
    return tuple(n for pool in pools for n in pool.nodes if n.name in heads)


def _hostname(spec: Region, nodes: tuple[NodePlan, ...]) -> str:
    """Loopback on local, else the name asked for or the first node's address; empty: the load balancer's own name."""
    if isinstance(spec.provider, LocalProvider):
        return LOOPBACK
    return spec.front_door.hostname or nodes[0].address or ""


def _server_names(spec: Region, hostname: str, nodes: tuple[NodePlan, ...]) -> tuple[str, ...]:
    asked = (spec.front_door.hostname,) if spec.front_door.hostname else ()
    addresses = tuple(n.address for n in nodes if n.address)
    return tuple(dict.fromkeys((*([hostname] if hostname else []), *asked, LOOPBACK, "localhost", *addresses)))


def _clients(spec: Region) -> tuple[ClientPlan, ...]:
    asked = tuple(ClientPlan(c.name, c.key_sha256, c.requests_per_minute) for c in spec.front_door.clients)
    for index, client in enumerate(asked):
        if client.name == OWN_CLIENT:
            raise refuse(
                "PLAN-012", f"front_door.clients[{index}].name", f"{OWN_CLIENT} is the region's own client.",
                fix="another name",
            )  # fmt: skip
    return (ClientPlan(OWN_CLIENT, None, None), *asked)
