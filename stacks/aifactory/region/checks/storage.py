"""Storage: the keys of each kind, and where it is mounted."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from aifactory import catalog
from aifactory.region.checks.finding import Finding
from aifactory.region.checks.network import is_address
from aifactory.region.partial import is_stand_in
from aifactory.region.positions import Path, dotted
from aifactory.region.shape import shown
from aifactory.region.spec import AwsProvider, Region

KINDS = {
    "local": (),
    "static": ("nfs", "lustre", "local_nvme"),
    "aws": ("nfs", "lustre", "object", "block", "local_nvme"),
}
"""What a provider can make or mount."""
REQUIRED = {"nfs": ("export", "mount"), "lustre": ("mount",), "object": (), "block": ("mount", "capacity_gib"),
            "local_nvme": ("mount",)}  # fmt: skip
OPTIONAL = {"nfs": (), "lustre": ("export", "capacity_gib", "throughput_mb_s_per_tib"), "object": ("retention_days",),
            "block": (), "local_nvme": ()}  # fmt: skip
OF_MADE_LUSTRE = ("bucket", "delete_data")
"""Of a file system that the cloud makes; one that is there is only mounted."""
KEYS = ("export", "mount", "capacity_gib", "throughput_mb_s_per_tib", "retention_days", *OF_MADE_LUSTRE)
SYSTEM = ("bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "proc", "root", "run", "sbin", "sys", "usr", "var")


def kinds(region: Region) -> Iterator[Finding]:
    """SPEC-050."""
    known = KINDS[region.provider.kind]
    for i, item in enumerate(region.storage):
        if item.kind not in known:
            message = f"{region.provider.kind} has no storage of kind {item.kind}."
            allowed = f"{', '.join(known)}." if known else "none: containers keep their data on this machine."
            yield Finding(("storage", i, "kind"), message, allowed=allowed, fix=None if known else "remove it")
            continue
        required = REQUIRED[item.kind]
        if item.kind == "lustre":  # a cloud makes one of a size; elsewhere there is one to mount
            required = ("capacity_gib",) if region.provider.kind == "aws" else (*required, "export")
        for key in required:
            if getattr(item, key) is None:
                yield Finding(("storage", i), f"Storage of kind {item.kind} needs `{key}`.", True, fix=f"add `{key}:`")
        optional = OPTIONAL[item.kind]
        if item.kind == "lustre" and region.provider.kind == "aws":
            optional = (*optional, "mount", *OF_MADE_LUSTRE)
        for key in KEYS:
            if getattr(item, key) not in (None, False) and key not in required and key not in optional:
                yield Finding(
                    ("storage", i, key), f"Storage of kind {item.kind} has no `{key}`.", True, fix="remove it"
                )
        if item.export is not None and not _is_export(item.export):
            message = f"{shown(item.export)} is not an export."
            yield Finding(("storage", i, "export"), message, allowed="ADDRESS:/PATH.")


def buckets(region: Region) -> Iterator[Finding]:
    """SPEC-059."""
    known = [item.name for item in region.storage if item.kind == "object"]
    named: list[tuple[Path, str | None]] = [(("storage", i, "bucket"), s.bucket) for i, s in enumerate(region.storage)]
    if isinstance(region.provider, AwsProvider):
        named.append((("network", "flow_logs"), region.network.flow_logs))
    for path, bucket in named:
        if bucket is not None and bucket not in known and not any(map(is_stand_in, known)):
            yield Finding(
                path, f"The region has no storage {bucket} of kind object.",
                nearest=catalog.nearest(bucket, known), allowed=f"{', '.join(known)}." if known else None,
                fix=None if known else f"add one: {{name: {bucket}, kind: object}}",
            )  # fmt: skip


def mounts(region: Region) -> Iterator[Finding]:
    """SPEC-051."""
    taken: dict[str, int] = {}
    for i, item in enumerate(region.storage):
        if item.mount is None:
            continue
        clean = posixpath.normpath(item.mount)
        first = clean.strip("/").partition("/")[0]
        if clean != item.mount or not item.mount.isprintable() or " " in item.mount:
            message = f"{shown(item.mount)} is not a plain path."
            yield Finding(("storage", i, "mount"), message, allowed="no .., //, spaces, or / at the end.")
        elif not first or first in SYSTEM:
            yield Finding(
                ("storage", i, "mount"), f"{item.mount} belongs to the system.", allowed="/data, /srv/…, /mnt/…"
            )
        elif clean in taken:
            message = f"{dotted(('storage', taken[clean]))} is mounted there too."
            yield Finding(("storage", i, "mount"), message, fix="make them different")
        else:
            taken[clean] = i


def _is_export(text: str) -> bool:
    address, colon, path = text.partition(":/")
    return bool(colon) and is_address(address.strip("[]")) and path.isprintable() and " " not in path
