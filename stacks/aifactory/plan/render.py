"""The plan for people (a page read in ten seconds, reasons on request) and for programs (JSON)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from aifactory import catalog
from aifactory.plan.model import AwsPlan, Derived, FrontDoorPlan, PoolPlan, RegionPlan, ReplicaPlan, ServicePlan

WIDTH = 100
LABEL = 12
"""Width of the left column."""
SHOWN_COPIES = 4
"""Copies of a service named one by one; of more, the first and the last."""
GAP = "   "
ANYWHERE = "0.0.0.0/0"
CLOUD = "aws."
"""Begins the paths of what only a cloud has; they are long, and get columns of their own."""
WHEN_PARTIAL = {"keep": "kept", "release": "released"}

Row = Sequence[str]


def table(plan: RegionPlan, explain: bool = False) -> str:
    """The plan as text of at most 100 columns; `explain` adds every derived value's reason and the defaults taken."""
    blocks = [_header(plan)]
    blocks += _section("cloud", _cloud(plan.aws))
    blocks += _section("pools", _columns(_pool_row(p) for p in plan.pools))
    blocks += _section("driver", _driver(plan))
    blocks += _section("fabric", [_fabric(plan)])
    blocks += _section("storage", _columns(_storage_rows(plan)))
    blocks += _section("services", [line for s in plan.services for line in _service(s)])
    blocks += _section("front door", _front_door(plan.front_door))
    blocks += _section("power", [_power(plan)])
    blocks += _section("cost", _cost(plan))
    blocks += _section("acceptance", [f"level {plan.acceptance_level.value}: {plan.acceptance_level.reason}"])
    if explain:
        blocks += ["", *_why(plan), "", *_defaults(plan)]
    return "\n".join(line.rstrip() for line in blocks)


def to_dict(plan: RegionPlan) -> dict[str, Any]:
    """The plan as plain data; keys in the order of the dataclasses, derived values as {value, reason}."""
    return dataclasses.asdict(plan)


def digest(plan: RegionPlan) -> str:
    """SHA-256 over the plan as canonical JSON."""
    canonical = json.dumps(to_dict(plan), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _header(plan: RegionPlan) -> str:
    country = catalog.countries().get(plan.country)
    where = f"{country.name} ({plan.country})" if country else plan.country
    nodes = sum(len(p.nodes) for p in plan.pools)
    gpus = sum(len(p.nodes) * p.gpus_per_node for p in plan.pools)
    facts = [where, plan.provider, _count(nodes, "node"), _count(gpus, "GPU") if gpus else "no GPUs"]
    left, right = f"Region {plan.region}", " · ".join(facts)
    return f"{left}{right:>{WIDTH - len(left)}}\n{'─' * WIDTH}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _section(label: str, lines: Iterable[str]) -> list[str]:
    """Lines beside a label, wrapped under themselves; nothing for an empty section."""
    out: list[str] = []
    for line in lines:
        if LABEL + len(line) <= WIDTH:
            out.append(" " * LABEL + line)
        else:
            text = line.lstrip()
            out += _wrap(text, " " * (LABEL + len(line) - len(text)))
    if out:
        out[0] = f"{label:{LABEL}}{out[0][LABEL:]}"
    return out


def _wrap(text: str, head: str) -> list[str]:
    """`text` after `head`, its further lines under its first."""
    indent = " " * len(head)
    return textwrap.wrap(
        text, WIDTH, initial_indent=head, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _columns(rows: Iterable[Row]) -> Iterator[str]:
    """Rows with their columns aligned."""
    table = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)] if table else []
    for row in table:
        yield GAP.join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _cloud(aws: AwsPlan | None) -> Iterator[str]:
    """Where, what leaves, who comes in, how nodes are bought."""
    if aws is None:
        return
    card = catalog.clouds()[aws.cloud.key]
    yield f"{card.name}, {', '.join(aws.zones)}, account {aws.cloud.account}"
    out = ", ".join(f"TCP {e.port} to {'anywhere' if e.cidr == ANYWHERE else e.cidr}" for e in aws.egress)
    yield f"  leaves: {out + ', through NAT' if out else 'nothing'}"
    balancer = f"API from {', '.join(aws.api_from)}; " if aws.door else ""
    yield f"  comes in: {balancer}SSH from {', '.join(aws.ssh_from) or 'nowhere'}"
    for pool in aws.pools:
        bought = pool.capacity_kind.replace("_", " ") + (f" {pool.capacity_id}" if pool.capacity_id else "")
        yield f"  {pool.name}: {bought} in {pool.zone}; a part of it is {WHEN_PARTIAL[pool.on_partial]}"


def _pool_row(pool: PoolPlan) -> Row:
    if pool.gpu_kind:
        what = f"{pool.gpus_per_node} × {catalog.gpus()[pool.gpu_kind].name} each"
    else:
        what = "for the front door" if pool.purpose == "front" else "no GPUs"
    return (pool.name, f"{len(pool.nodes):,} × {pool.shape}", what, _span([n.name for n in pool.nodes]))


def _span(names: Sequence[str]) -> str:
    """`a-000`, `a-000, 001`, `a-000 … 015`: what all names share is said once."""
    if len(names) == 1:
        return names[0]
    link = ", " if len(names) == 2 else " … "
    return f"{names[0]}{link}{names[-1].removeprefix(names[0][: names[0].rfind('-') + 1])}"


def _driver(plan: RegionPlan) -> Iterator[str]:
    driver = plan.driver
    if driver:
        version = driver.version.value or f"newest of {driver.branch.value}"
        yield f"NVIDIA {version}, {driver.modules} kernel modules; branch {driver.branch.value}: {driver.branch.reason}"


def _fabric(plan: RegionPlan) -> str:
    fabric = plan.fabric
    nics, rate = fabric.nics_per_node.value, fabric.line_rate_gbit_s.value
    if not nics:
        return f"{fabric.kind.value}: {fabric.nics_per_node.reason}"
    speed = f"{nics} × {rate:g} = {nics * rate:,g} Gbit/s a node" if rate else f"{_count(nics, 'NIC')} a node"
    rails = f", {_count(fabric.rails.value, 'rail')}" if fabric.rails.value else ""
    return f"{fabric.kind.value}: {speed}{rails}"


def _storage_rows(plan: RegionPlan) -> Iterator[Row]:
    for item in plan.storage:
        size = f"{item.capacity_gib:,} GiB" if item.capacity_gib else ""
        speed = f"{item.throughput_mb_s.value:,} MB/s" if item.throughput_mb_s.value else ""
        yield (item.name, item.kind, item.mount or "", ", ".join(t for t in (size, speed) if t))


def _service(service: ServicePlan) -> Iterator[str]:
    """What, how much, where, why."""
    yield f"{service.name}: {service.model} on {service.engine.value}, {service.precision.value}{_weights(service)}"
    copies = len(service.replicas)
    each = f" in each of {copies:,} copies" if copies > 1 else ""
    requests = _count(service.parallel_requests.value, "request")
    yield f"  {service.context_tokens.value:,} tokens of context, {requests} at once{each}"
    yield f"  on {_places(service.replicas)}"
    on_gpus = bool(service.replicas[0].gpu_indices)
    yield (
        f"  because {service.tensor_parallel.reason}"
        if on_gpus
        else f"  {service.engine.value}: {service.engine.reason}"
    )


def _weights(service: ServicePlan) -> str:
    gib = service.weights_gib.value
    if gib is None:
        return ""
    return f", {gib:,.1f} GiB" if gib >= 0.1 else f", {gib * 1024:,.1f} MiB"


def _places(replicas: Sequence[ReplicaPlan]) -> str:
    """Equal copies in one breath, different ones one by one; of many, the first and the last."""
    alike = {(r.port, r.gpu_indices, len(r.nodes)) for r in replicas}
    nodes = [n for r in replicas for n in r.nodes]
    if len(alike) == 1 and (len(replicas) == 1 or len(replicas[0].nodes) == 1):
        return f"{_span(nodes)}, {_slot(replicas[0])}"
    if len(replicas) > SHOWN_COPIES:
        return (
            f"{_span(replicas[0].nodes)} ({_slot(replicas[0])}) … {_span(replicas[-1].nodes)} ({_slot(replicas[-1])})"
        )
    return "; ".join(f"{_span(r.nodes)}, {_slot(r)}" for r in replicas)


def _slot(replica: ReplicaPlan) -> str:
    gpus = replica.gpu_indices
    if not gpus:
        return f"port {replica.port}"
    if len(gpus) == 1:
        return f"GPU {gpus[0]}, port {replica.port}"
    run = list(gpus) == list(range(gpus[0], gpus[-1] + 1))
    taken = f"{gpus[0]}–{gpus[-1]}" if run else ", ".join(map(str, gpus))
    return f"GPUs {taken}, port {replica.port}"


def _front_door(door: FrontDoorPlan | None) -> Iterator[str]:
    if door is None:
        return
    yield f"{door.endpoint} on {_span(door.nodes)}"
    issuer = "issued by the region's own CA" if door.own_ca else "from the region's secrets"
    yield f"  certificate {issuer}; clients: {', '.join(c.name for c in door.clients)}"


def _power(plan: RegionPlan) -> str:
    power = plan.power
    total, it, contract = power.total_kw.value, power.it_kw.value, power.contract_kw
    if total is None or it is None:
        against = f"; {contract:,g} kW contracted" if contract else ""
        return f"not known: {power.it_kw.reason}{against}"
    share = f" of {contract:,g} kW contracted ({total / contract:.0%})" if contract else ""
    return f"{total:,g} kW{share}: {power.total_kw.reason}"


def _cost(plan: RegionPlan) -> Iterator[str]:
    """`1,012.74 USD/h, 739,297 USD a month: 16 × 63.296`."""
    if plan.cost is None:
        return
    hour, month = plan.cost.per_hour, plan.cost.per_month
    if hour.value is None or month.value is None:
        yield f"unknown: {hour.reason}"
    else:
        currency = plan.cost.currency
        yield f"{hour.value:,.2f} {currency}/h, {month.value:,.0f} {currency} a month: {hour.reason}"


def _why(plan: RegionPlan) -> Iterator[str]:
    rows = [(path, _value(path, d.value), d.reason) for path, d in derived(plan)]
    yield "why"
    yield from _aligned([row for row in rows if not row[0].startswith(CLOUD)])
    yield from _aligned([row for row in rows if row[0].startswith(CLOUD)])


def _defaults(plan: RegionPlan) -> Iterator[str]:
    yield "defaults taken"
    yield from _aligned([(path, value, "") for path, value in plan.defaults_taken])


def _aligned(rows: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    """Path, value, reason."""
    first = max((len(r[0]) for r in rows), default=0)
    second = max((len(r[1]) for r in rows), default=0)
    for path, value, reason in rows:
        head = f"  {path:{first}}  {value:{second}}  "
        yield from _wrap(reason, head) if reason else [head]


def derived(thing: Any, path: str = "") -> Iterator[tuple[str, Derived[Any]]]:
    """Every derived value of a plan with its path; items of a list go by their name."""
    if isinstance(thing, Derived):
        yield path, thing
    elif dataclasses.is_dataclass(thing):
        for field in dataclasses.fields(thing):
            value = getattr(thing, field.name)
            if isinstance(value, tuple):
                for item in value:
                    if dataclasses.is_dataclass(item) and hasattr(item, "name"):
                        yield from derived(item, f"{path}{field.name}.{item.name}.")
            else:
                yield from derived(value, path + field.name + ("" if isinstance(value, Derived) else "."))


def _value(path: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) or path.endswith("port"):
        return str(value)
    return f"{value:,g}" if isinstance(value, float) else f"{value:,}"
