"""Facts about hardware, drivers, models, clouds and versions: data with a source, read through typed rows.

Each function reads one file of data/ the first time it is called and returns a read-only mapping by key.
`source` answers where a value came from. See docs/catalogue.md for how rows are added.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from aifactory.catalog import load
from aifactory.catalog.limit import refusal
from aifactory.catalog.suggest import nearest
from aifactory.catalog.types import (
    ApiLimit,
    Cloud,
    Country,
    Driver,
    Engine,
    Gpu,
    Limit,
    Model,
    Nccl,
    Precision,
    Price,
    Quota,
    Regime,
    Repository,
    Shape,
    Signal,
    Source,
    Version,
    Xid,
)

__all__ = [
    "TABLES",
    "ApiLimit",
    "Cloud",
    "Country",
    "Driver",
    "Engine",
    "Gpu",
    "Limit",
    "Model",
    "Nccl",
    "Precision",
    "Price",
    "Quota",
    "Regime",
    "Repository",
    "Shape",
    "Signal",
    "Source",
    "Version",
    "Xid",
    "api_limit",
    "api_limits",
    "clouds",
    "countries",
    "default_driver",
    "drivers",
    "engines",
    "front_shape",
    "gpus",
    "limits",
    "models",
    "nccl",
    "nearest",
    "prices",
    "quotas",
    "refusal",
    "regimes",
    "repositories",
    "shapes",
    "signals",
    "source",
    "versions",
    "xids",
]

TABLES: Mapping[str, type[Any]] = {
    "gpus": Gpu,
    "shapes": Shape,
    "drivers": Driver,
    "models": Model,
    "engines": Engine,
    "clouds": Cloud,
    "api_limits": ApiLimit,
    "limits": Limit,
    "countries": Country,
    "regimes": Regime,
    "prices": Price,
    "quotas": Quota,
    "versions": Version,
    "repositories": Repository,
    "nccl": Nccl,
    "signals": Signal,
    "xids": Xid,
}


@lru_cache
def _table(name: str) -> load.Table[Any]:
    return load.read(load.DATA / f"{name}.toml", TABLES[name])


def gpus() -> Mapping[str, Gpu]:
    return _table("gpus").rows


def shapes() -> Mapping[str, Shape]:
    return _table("shapes").rows


def drivers() -> Mapping[str, Driver]:
    return _table("drivers").rows


def models() -> Mapping[str, Model]:
    return _table("models").rows


def engines() -> Mapping[str, Engine]:
    return _table("engines").rows


def clouds() -> Mapping[str, Cloud]:
    return _table("clouds").rows


def api_limits() -> Mapping[str, ApiLimit]:
    return _table("api_limits").rows


def api_limit(action: str) -> ApiLimit:
    """The bucket of an API action: its own row, else that of all reads or of all others."""
    rows = api_limits()
    return rows.get(action) or rows["Describe" if action.startswith(("Describe", "Get", "List")) else "default"]


def limits() -> Mapping[str, Limit]:
    return _table("limits").rows


def countries() -> Mapping[str, Country]:
    return _table("countries").rows


def regimes() -> Mapping[str, Regime]:
    return _table("regimes").rows


def prices() -> Mapping[str, Price]:
    return _table("prices").rows


def quotas() -> Mapping[str, Quota]:
    return _table("quotas").rows


def versions() -> Mapping[str, Version]:
    return _table("versions").rows


def repositories() -> Mapping[str, Repository]:
    return _table("repositories").rows


def nccl() -> Mapping[str, Nccl]:
    return _table("nccl").rows


def signals() -> Mapping[str, Signal]:
    return _table("signals").rows


def xids() -> Mapping[str, Xid]:
    return _table("xids").rows


def source(table: str, key: str, field: str) -> Source:
    """Where the value of one field came from. Raises KeyError for a table, key or field that is not there."""
    return _table(table).sources[key, field]


def front_shape(provider: str) -> Shape:
    """The smallest shape of `provider` meant for front doors. Raises KeyError for an unknown provider."""
    fitting = [s for s in shapes().values() if provider in s.providers and s.purpose == "front"]
    if not fitting:
        raise KeyError(provider)
    return min(fitting, key=lambda s: (s.vcpus or 0, s.memory_gib or 0, s.key))


def default_driver() -> Driver:
    """The branch a region takes when it names none."""
    return next(d for d in drivers().values() if d.default)
