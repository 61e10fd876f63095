"""Prices of the file: that each is of something the region has."""

from __future__ import annotations

from collections.abc import Iterator

from aifactory import catalog
from aifactory.region.checks.finding import Finding
from aifactory.region.shape import shown
from aifactory.region.spec import Region


def prices(region: Region) -> Iterator[Finding]:
    """SPEC-073."""
    shapes = {pool.shape for pool in region.pools} | ({region.front_door.shape} if region.front_door.shape else set())
    kind = region.provider.kind
    if any(s.purpose == "front" and kind in s.providers for s in catalog.shapes().values()):
        shapes.add(catalog.front_shape(kind).key)
    for shape in region.cost.per_hour:
        if shape not in shapes:
            yield Finding(
                ("cost", "per_hour", shape), f"No node of the region is a {shown(shape)}.",
                nearest=catalog.nearest(shape[:60], sorted(shapes)), allowed=f"{', '.join(sorted(shapes))}.",
            )  # fmt: skip
