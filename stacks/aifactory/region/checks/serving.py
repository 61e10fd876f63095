"""Services on their pools' hardware, and the front door."""

from __future__ import annotations

from collections.abc import Iterator

from aifactory import catalog
from aifactory.catalog import Engine, Gpu, Model
from aifactory.region.checks.finding import Finding
from aifactory.region.checks.network import is_hostname
from aifactory.region.positions import Path
from aifactory.region.shape import shown
from aifactory.region.spec import Region, Service, StaticProvider

AUTO = "auto"
CPU = "cpu"
CARRIED = ("infiniband", "roce", "efa")
"""Fabrics that need cards of their own kind."""


def gpu_of(region: Region, pool_name: str) -> tuple[bool, Gpu | None]:
    """(whether the pool's shape is one of the provider's, the GPU of its nodes)."""
    pool = next((p for p in region.pools if p.name == pool_name), None)
    shape = catalog.shapes().get(pool.shape) if pool else None
    if shape is None or region.provider.kind not in shape.providers:
        return False, None
    return True, catalog.gpus().get(shape.gpu or "")


def _served(region: Region) -> Iterator[tuple[Path, Service, Model, Gpu | None]]:
    """Services whose model and pool the catalogue knows."""
    for i, service in enumerate(region.services):
        model = catalog.models().get(service.model)
        known, gpu = gpu_of(region, service.pool)
        if model and known:
            yield ("services", i), service, model, gpu


def _fitting(model: Model, gpu: Gpu | None) -> tuple[Engine, ...]:
    vendor = gpu.vendor if gpu else CPU
    engines = catalog.engines()
    return tuple(engines[key] for key in model.engines if vendor in engines[key].vendors)


def engines(region: Region) -> Iterator[Finding]:
    """SPEC-040."""
    for path, service, model, gpu in _served(region):
        fitting = _fitting(model, gpu)
        where = gpu.name if gpu else "CPUs"
        if service.engine == AUTO and not fitting:
            yield Finding(
                (*path, "model"),
                f"No engine serves {model.key} on {where}, which is what pool {service.pool} has.",
                allowed=f"engines of {model.key}: {', '.join(model.engines)}.",
                fix="take another model or pool",
            )
        elif service.engine != AUTO and service.engine not in {e.key for e in fitting}:
            wrong = f"does not run on {where}" if service.engine in model.engines else f"does not serve {model.key}"
            words = (AUTO, *(e.key for e in fitting)) if fitting else ()
            yield Finding(
                (*path, "engine"),
                f"{service.engine} {wrong}.",
                allowed=f"{', '.join(words)}." if words else None,
                fix=None if fitting else "take another model or pool",
            )


def precisions(region: Region) -> Iterator[Finding]:
    """SPEC-041."""
    for path, service, model, gpu in _served(region):
        if service.precision == AUTO:
            continue
        fitting = [e for e in _fitting(model, gpu) if service.engine in {AUTO, e.key}]
        hardware = None if gpu is None else set(gpu.precisions)
        can = [
            p
            for p in model.precisions
            if (hardware is None or p in hardware) and any(p in e.precisions for e in fitting)
        ]
        if not fitting or service.precision in can:
            continue
        if service.precision not in model.precisions:
            wrong = f"{model.key} does not come in {service.precision}"
        elif gpu and hardware is not None and service.precision not in hardware:
            wrong = f"{gpu.name} does not compute in {service.precision}"
        else:
            wrong = f"{', '.join(e.key for e in fitting)} cannot serve {service.precision}"
        yield Finding((*path, "precision"), f"{wrong}.", allowed=f"{', '.join((AUTO, *can))}.")


def contexts(region: Region) -> Iterator[Finding]:
    """SPEC-042."""
    for path, service, model, _ in _served(region):
        asked, own = service.context_tokens, model.context_tokens
        if asked is not None and own is not None and asked > own:
            message = f"{model.key} has a context of {own:,} tokens; {asked:,} are asked for."
            yield Finding((*path, "context_tokens"), message, allowed=f"1 to {own}.", fix=f"write {own}, or remove it")


def front_door(region: Region) -> Iterator[Finding]:
    """SPEC-052."""
    door = region.front_door
    if isinstance(region.provider, StaticProvider) and door.nodes:
        message = "Static regions list their hosts: no node can be made for the front door."
        yield Finding(
            ("front_door", "nodes"), message, fix="remove it: the front door then stands on the service nodes"
        )
    elif door.shape is not None and door.nodes == 0:
        message = "With `nodes: 0` the front door has no nodes that could be of this shape."
        yield Finding(("front_door", "shape"), message, True, fix="remove it, or give the front door nodes")
    if door.tls is not None and door.hostname is None:
        message = "A certificate of your own is for a name, and none is given."
        yield Finding(("front_door", "tls"), message, True, fix="add `hostname:` with a name of the certificate")


def hostname(region: Region) -> Iterator[Finding]:
    """SPEC-053."""
    name = region.front_door.hostname
    if name is not None and not (is_hostname(name) and not name.rpartition(".")[2].isdigit()):
        allowed = "labels of letters, digits and inner hyphens, joined by dots: api.example.eu."
        yield Finding(("front_door", "hostname"), f"{shown(name)} is not a DNS name.", allowed=allowed)


def fabric(region: Region) -> Iterator[Finding]:
    """SPEC-054."""
    kind = region.fabric.kind
    if kind not in CARRIED:
        return
    rows = {key: shape for key, shape in catalog.shapes().items() if region.provider.kind in shape.providers}
    shapes = [rows[p.shape] for p in region.pools if p.shape in rows and rows[p.shape].gpus]
    if not shapes and all(p.shape in rows for p in region.pools):
        fix = "remove it"
        yield Finding(("fabric", "kind"), f"No pool has GPUs that {kind} could join.", fix=fix)
    for shape in shapes:
        if (kind == "efa") != (shape.fabric == "efa" or shape.efa_cards > 0):
            yield Finding(
                ("fabric", "kind"),
                f"{shape.key} has no {kind}; its fabric is {shape.fabric}.",
                allowed=f"{shape.fabric}, tcp, none.",
                fix="remove it: the shape's own is taken",
            )
            return


def power_cap(region: Region) -> Iterator[Finding]:
    """SPEC-056."""
    cap = region.power.cap_w_per_gpu
    if cap is None:
        return
    for pool in region.pools:
        _, gpu = gpu_of(region, pool.name)
        if gpu and gpu.power_w is not None and cap > gpu.power_w:
            message = f"{gpu.name} draws at most {gpu.power_w} W: a cap of {cap} W does nothing."
            yield Finding(("power", "cap_w_per_gpu"), message, allowed=f"at most {gpu.power_w}.")
            return
