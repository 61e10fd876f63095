"""Words that must stand in the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aifactory import catalog
from aifactory.region.checks.finding import Finding
from aifactory.region.positions import Path
from aifactory.region.shape import shown
from aifactory.region.spec import AwsProvider, Region


def models(region: Region) -> Iterator[Finding]:
    """SPEC-011."""
    known = catalog.models()
    for i, service in enumerate(region.services):
        if service.model not in known:
            yield _unknown(("services", i, "model"), service.model, "is not a model of the catalogue", known, "models")


def shapes(region: Region) -> Iterator[Finding]:
    """SPEC-012."""
    asked: list[tuple[Path, str]] = [(("pools", i, "shape"), p.shape) for i, p in enumerate(region.pools)]
    if region.front_door.shape is not None:
        asked.append((("front_door", "shape"), region.front_door.shape))
    kind = region.provider.kind
    rows = catalog.shapes()
    known = [key for key, shape in rows.items() if kind in shape.providers]
    for path, shape in asked:
        if shape not in known:
            owners = f"; it is one of {', '.join(rows[shape].providers)}" if shape in rows else ""
            yield _unknown(path, shape, f"is not a shape of {kind}{owners}", known, f"shapes --provider {kind}")


def driver(region: Region) -> Iterator[Finding]:
    """SPEC-013."""
    branch, known = region.software.driver_branch, catalog.drivers()
    if branch is not None and branch not in known:
        yield _unknown(("software", "driver_branch"), branch, "is not a driver branch", known, "drivers")


def country(region: Region) -> Iterator[Finding]:
    """SPEC-014."""
    code, known = region.jurisdiction.country, catalog.countries()
    if code not in known:
        # two letters have no nearest: the catalogue lists them with their names
        yield Finding(
            ("jurisdiction", "country"),
            f"{code} is not a country of ISO 3166-1.",
            list_command="aifactory catalog countries",
        )


def regimes(region: Region) -> Iterator[Finding]:
    """SPEC-015."""
    known = catalog.regimes()
    for i, regime in enumerate(region.jurisdiction.regimes):
        if regime not in known:
            yield _unknown(("jurisdiction", "regimes", i), regime, "is not a regime of the catalogue", known, "regimes")


def partition(region: Region) -> Iterator[Finding]:
    """SPEC-016."""
    if isinstance(region.provider, AwsProvider):
        known = [key for key, cloud in catalog.clouds().items() if cloud.provider == region.provider.kind]
        if region.provider.partition not in known:
            path, given = ("provider", "partition"), region.provider.partition
            yield _unknown(path, given, f"is not a partition of {region.provider.kind}", known, "clouds")


def cloud_region(region: Region) -> Iterator[Finding]:
    """SPEC-017. A region with endpoints of its own may be one that no list has."""
    provider = region.provider
    if not isinstance(provider, AwsProvider) or provider.endpoints:
        return
    cloud = catalog.clouds().get(provider.partition)
    if cloud and cloud.provider == provider.kind and provider.region not in cloud.regions:
        yield _unknown(
            ("provider", "region"), provider.region, f"is not a region of {provider.partition}", cloud.regions, "clouds"
        )


def service_pools(region: Region) -> Iterator[Finding]:
    """SPEC-018."""
    pools = tuple(dict.fromkeys(p.name for p in region.pools))
    for i, service in enumerate(region.services):
        if service.pool not in pools:
            yield Finding(
                ("services", i, "pool"),
                f"The region has no pool {service.pool}.",
                nearest=catalog.nearest(service.pool, pools),
                allowed=f"{', '.join(pools)}.",
            )


def _unknown(path: Path, given: str, says: str, known: Iterable[str], table: str) -> Finding:
    near = catalog.nearest(given[:60], known)
    return Finding(path, f"{shown(given)} {says}.", nearest=near, list_command=f"aifactory catalog {table}")
