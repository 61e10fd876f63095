"""Settings of the network between GPUs: each is of some kinds of fabric only, and classes must be told apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aifactory import catalog
from aifactory.region.checks.finding import Finding
from aifactory.region.positions import Path
from aifactory.region.spec import Region, RoceClass

MEANT_FOR: Mapping[str, tuple[str, ...]] = {
    "stack": ("infiniband", "roce"),
    "efa_installer": ("efa",),
    "exclude_hcas": ("infiniband", "roce"),
    "roce": ("roce",),
}
"""Key → fabrics for which it means something."""
NOTHING_ASKED = (None, (), RoceClass())
DSCPS_A_PRIORITY = 8
"""Classes that a card puts into one priority when it trusts DSCP."""


def settings(region: Region) -> Iterator[Finding]:
    """SPEC-071."""
    kind = _kind(region)
    if kind is None:
        return
    for key, kinds in MEANT_FOR.items():
        if getattr(region.fabric, key) not in NOTHING_ASKED and kind not in kinds:
            yield Finding(
                ("fabric", key), f"A fabric of kind {kind} has no `{key}`.", True,
                allowed=f"only with kind {' or '.join(kinds)}.", fix="remove it",
            )  # fmt: skip
    if kind in MEANT_FOR["exclude_hcas"]:
        yield from _twice(region.fabric.exclude_hcas)
    if kind in MEANT_FOR["roce"] and region.fabric.roce != RoceClass():
        yield from _classes(region.fabric.roce)


def _kind(region: Region) -> str | None:
    """The region's fabric, as the plan takes it; none without GPUs. None where a shape is not known."""
    rows = catalog.shapes()
    shapes = [rows.get(pool.shape) for pool in region.pools]
    known = [shape for shape in shapes if shape and region.provider.kind in shape.providers]
    if len(known) != len(region.pools):
        return None
    with_gpus = [shape for shape in known if shape.gpus]
    if not with_gpus:
        return "none"
    return region.fabric.kind or with_gpus[0].fabric


def _twice(names: tuple[str, ...]) -> Iterator[Finding]:
    for index, name in enumerate(names):
        if name in names[:index]:
            path: Path = ("fabric", "exclude_hcas", index)
            yield Finding(path, f"{name} stands here twice.", fix="remove one")


def _classes(asked: RoceClass) -> Iterator[Finding]:
    """What is asked for, with the catalogue's values where nothing is."""
    own = {
        name: int(value)
        for row in catalog.nccl().values()
        if "roce" in row.fabrics
        for name, value in row.settings.items()
        if name in RoceClass.model_fields
    }
    given = {name: value for name, value in asked.model_dump().items() if value is not None}
    dscp, cnp_dscp = given.get("dscp", own["dscp"]), given.get("cnp_dscp", own["cnp_dscp"])
    priority = given.get("priority", dscp // DSCPS_A_PRIORITY)
    byte = given.get("traffic_class", dscp * 4)
    if byte // 4 != dscp:
        message = f"Traffic class {byte} has DSCP {byte // 4}; the data has {dscp}."
        allowed = f"{dscp * 4} to {dscp * 4 + 3}."
        yield Finding(("fabric", "roce", "traffic_class"), message, allowed=allowed, fix=f"write dscp: {byte // 4}")
    if cnp_dscp // DSCPS_A_PRIORITY == priority:
        where = next((key for key in ("cnp_dscp", "priority") if key in given), "dscp")
        message = f"Congestion notices (DSCP {cnp_dscp}) are in priority {priority}, behind the data."
        yield Finding(
            ("fabric", "roce", where), message, fix="give the notices a DSCP of another priority (eight to each)"
        )
