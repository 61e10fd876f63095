"""Which keys a region file left to their defaults, with the values they took."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from aifactory.plan.model import RegionPlan
from aifactory.region.spec import AwsProvider, LocalProvider, Pool, Region

CLOUD_ONLY = ("placement", "capacity", "zone", "root_volume_gib", "data_volume_gib", "image")
"""Keys of a pool that mean nothing outside a cloud."""


def taken(spec: Region, plan: RegionPlan) -> tuple[tuple[str, str], ...]:
    """(key path, value) of every key that the file leaves out, in the order of the format.

    Keys that mean nothing to the region's provider, or that nobody asked for and that take nothing, are not listed.
    """
    worked_out = {**_worked_out(plan), **_pool_sizes(spec.pools)}
    values = ((path, worked_out.get(path, value)) for path, value in _walk(spec, "") if not _idle(spec, path))
    return tuple((path, _text(value)) for path, value in values if value not in (None, {}, ()) and value is not False)


def _walk(section: BaseModel, prefix: str) -> Iterator[tuple[str, Any]]:
    """Every leaf that the file does not give, as (path, value)."""
    for name in type(section).model_fields:
        path, value = f"{prefix}{name}", getattr(section, name)
        asked = name in section.model_fields_set
        if isinstance(value, BaseModel):
            yield from _walk(value, f"{path}.")
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            for index, item in enumerate(value):
                yield from _walk(item, f"{path}[{index}].")
        elif not asked or value is None:
            yield path, value


def _worked_out(plan: RegionPlan) -> dict[str, Any]:
    """Values of keys whose default depends on the rest of the file."""
    door = plan.front_door
    own = next((p for p in plan.pools if p.purpose == "front"), None)
    values: dict[str, Any] = {
        "fabric.kind": plan.fabric.kind.value,
        "software.driver_branch": plan.driver.branch.value if plan.driver else None,
        "software.driver_version": plan.driver.version.value if plan.driver else None,
        "software.kernel_modules": plan.driver.modules if plan.driver else None,
        "tuning.cpu_governor": plan.tuning.cpu_governor if any(p.gpus_per_node for p in plan.pools) else None,
        "tuning.hugepages": None,
        "tuning.imex_channel0": None,
        "acceptance.level": plan.acceptance_level.value,
        "network.egress": "closed",
        "front_door.nodes": (len(own.nodes) if own else 0) if door else None,
        "front_door.shape": own.shape if own else None,
        "front_door.hostname": door.hostname if door else None,
        "front_door.port": door.port.value if door else None,
        "front_door.clients": "only the region's own" if door else None,
    }
    for index, service in enumerate(plan.services):
        values[f"services[{index}].engine"] = f"auto: {service.engine.value}"
        values[f"services[{index}].precision"] = f"auto: {service.precision.value}"
        values[f"services[{index}].context_tokens"] = service.context_tokens.value
    return values


def _pool_sizes(pools: tuple[Pool, ...]) -> dict[str, int]:
    return {f"pools[{i}].nodes": len(pool.hosts) for i, pool in enumerate(pools) if pool.hosts}


def _idle(spec: Region, path: str) -> bool:
    """Whether the key means nothing to the region's provider."""
    if isinstance(spec.provider, AwsProvider):
        return False
    if path.startswith("pools[") and path.partition("].")[2].partition(".")[0] in CLOUD_ONLY:
        return True
    kept = ("network.cidr",) if isinstance(spec.provider, LocalProvider) else ()
    return path.startswith("network.") and path not in kept


def _text(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(str(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
