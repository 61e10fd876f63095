"""Settings of nodes with GPUs: that there is something to set them on."""

from __future__ import annotations

from collections.abc import Iterator

from aifactory import catalog
from aifactory.catalog import Shape
from aifactory.region.checks.finding import Finding
from aifactory.region.spec import Region, Tuning

SMALLEST_HUGEPAGE_MIB = 2
"""Default size on x86-64 and on arm64 with pages of 4 KiB; other kernels' are larger."""


def tuning(region: Region) -> Iterator[Finding]:
    """SPEC-072."""
    rows = catalog.shapes()
    shapes = {pool.name: shape for pool in region.pools if (shape := rows.get(pool.shape))}
    if len(shapes) != len({pool.name for pool in region.pools}):
        return
    asked = region.tuning
    gpus = {name: gpu for name, shape in shapes.items() if (gpu := catalog.gpus().get(shape.gpu or ""))}
    for key, field in Tuning.model_fields.items():
        if getattr(asked, key) != field.default and not gpus:
            yield Finding(("tuning", key), "No pool has GPUs, and only their nodes are tuned.", True, fix="remove it")
    if gpus and asked.imex_channel0 and not any(gpu.needs_imex for gpu in gpus.values()):
        names = ", ".join(sorted({gpu.name for gpu in gpus.values()}))
        yield Finding(("tuning", "imex_channel0"), f"{names} shares no memory between nodes.", allowed="false.")
    yield from _hugepages(asked.hugepages, {name: shape for name, shape in shapes.items() if name in gpus})


def _hugepages(pages: int, shapes: dict[str, Shape]) -> Iterator[Finding]:
    for name, shape in shapes.items():
        if shape.memory_gib is None:
            continue
        most = int(shape.memory_gib * 1024) // SMALLEST_HUGEPAGE_MIB
        if pages >= most:
            message = f"{pages:,} huge pages take all of the {shape.memory_gib:,g} GiB of a {shape.key} (pool {name})."
            allowed = f"fewer than {most:,} of {SMALLEST_HUGEPAGE_MIB} MiB; larger ones are fewer still."
            yield Finding(("tuning", "hugepages"), message, allowed=allowed)
            return
