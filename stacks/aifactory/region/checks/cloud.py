"""What only some providers have: zones, capacity, images, credentials, endpoints; and where the state stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from aifactory import catalog
from aifactory.region.checks.finding import Finding
from aifactory.region.checks.network import is_address
from aifactory.region.positions import Path
from aifactory.region.shape import shown
from aifactory.region.spec import AwsProvider, Pool, Region

CLOUD_KEYS = ("zone", "placement", "capacity", "image", "root_volume_gib", "data_volume_gib")
RESERVED = ("reservation", "capacity_block")
RESERVED_LABEL = "aws:"
"""Source: AWS General Reference, tag naming limits, read 2026-11."""
SOURCES = ("profile", "role_arn", "env_prefix")
ROLE = re.compile(r"arn:(?P<partition>[a-z0-9-]+):iam::[0-9]{12}:role/[\w+=,.@/-]+", re.ASCII)
LOOPBACK = ("127.0.0.1", "localhost", "::1")
AMBIENT = "AWS_"
PREFIX = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
BACKENDS = ("file", "s3", "gs", "azblob", "postgres", "https", "http")
SECRETS = ("passphrase", "awskms", "azurekeyvault", "gcpkms", "hashivault")


def cloud_keys(region: Region) -> Iterator[Finding]:
    """SPEC-043."""
    if isinstance(region.provider, AwsProvider):
        return
    elsewhere: list[tuple[Path, object]] = [
        (("network", "private_endpoints"), region.network.private_endpoints),
        (("network", "flow_logs"), region.network.flow_logs),
        (("front_door", "image"), region.front_door.image),
    ]
    for path, given in elsewhere:
        if given:
            message = f"A region of {region.provider.kind} has no `{path[-1]}`: only a cloud's has."
            yield Finding(path, message, True, fix="remove it")
    for i, pool in enumerate(region.pools):
        for key in CLOUD_KEYS:
            if key in pool.model_fields_set and getattr(pool, key) != Pool.model_fields[key].default:
                message = f"Nodes of {region.provider.kind} have no `{key}`: only a cloud's have."
                yield Finding(("pools", i, key), message, True, fix="remove it")


def zones(region: Region) -> Iterator[Finding]:
    """SPEC-044."""
    if not isinstance(region.provider, AwsProvider):
        return
    known = region.provider.zones
    card = catalog.clouds().get(region.provider.partition)
    for i, zone in enumerate(known if card and region.provider.region in card.regions else ()):
        if not zone.startswith(region.provider.region) or zone == region.provider.region:
            yield Finding(
                ("provider", "zones", i), f"{shown(zone)} is no zone of {region.provider.region}.",
                allowed=f"zones of {region.provider.region}: {region.provider.region}a and so on.",
            )  # fmt: skip
    for i, pool in enumerate(region.pools):
        if pool.zone is not None and pool.zone not in known:
            yield Finding(
                ("pools", i, "zone"),
                f"{shown(pool.zone)} is not one of provider.zones.",
                nearest=catalog.nearest(pool.zone[:60], known),
                allowed=f"{', '.join(known)}." if known else None,
                fix="add it to provider.zones, or take one of them",
            )


def capacity(region: Region) -> Iterator[Finding]:
    """SPEC-045."""
    for i, pool in enumerate(region.pools):
        path: Path = ("pools", i, "capacity")
        kind = pool.capacity.kind
        if kind in RESERVED and pool.capacity.id is None:
            yield Finding(path, f"A {kind} needs the `id` under which it was bought.", True, fix="add `id: …`")
        if kind not in RESERVED and pool.capacity.id is not None:
            message = f"Capacity of kind {kind} has no id."
            yield Finding((*path, "id"), message, True, fix=f"remove it, or write kind: {RESERVED[0]}")


def machines(region: Region) -> Iterator[Finding]:
    """SPEC-074."""
    if not isinstance(region.provider, AwsProvider):
        return
    values: list[tuple[Path, str, int | str | None]] = []
    for i, pool in enumerate(region.pools):
        values.append((("pools", i, "image"), "ec2_image", pool.image))
        values.append((("pools", i, "root_volume_gib"), "ec2_gp3_volume", pool.root_volume_gib))
        values.append((("pools", i, "data_volume_gib"), "ec2_gp3_volume", pool.data_volume_gib))
    for i, item in enumerate(region.storage):
        if item.kind == "lustre" and item.export is None:
            values.append((("storage", i, "capacity_gib"), "fsx_lustre_capacity", item.capacity_gib))
            throughput = item.throughput_mb_s_per_tib
            values.append((("storage", i, "throughput_mb_s_per_tib"), "fsx_lustre_throughput", throughput))
    for path, key, value in values:
        limit = catalog.limits()[key]
        if value is not None and catalog.refusal(limit, value):
            unit = "" if isinstance(value, str) else f" {limit.unit}"
            yield Finding(path, f"The cloud takes no {shown(value)} here.", allowed=f"{limit.allowed}{unit}.")


def reserved_labels(region: Region) -> Iterator[Finding]:
    """SPEC-075."""
    if not isinstance(region.provider, AwsProvider):
        return
    for label in region.labels:
        if label.lower().startswith(RESERVED_LABEL):
            yield Finding(
                ("labels", label), f"The prefix {RESERVED_LABEL} is the cloud's own.", True,
                fix=f"write {label[len(RESERVED_LABEL) :] or 'another word'}",
            )  # fmt: skip


def credentials(region: Region) -> Iterator[Finding]:
    """SPEC-048."""
    if not isinstance(region.provider, AwsProvider):
        return
    given = region.provider.credentials
    path: Path = ("provider", "credentials")
    named = [s for s in SOURCES if getattr(given, s) is not None]
    if len(named) != 1:
        message = "It names no source; what lies around on the machine is never taken." if not named else (
            f"It names {len(named)} sources: {', '.join(named)}.")  # fmt: skip
        yield Finding(path, message, True, allowed=f"exactly one of {', '.join(SOURCES)}.")
    cloud = catalog.clouds().get(region.provider.partition)
    role = ROLE.fullmatch(given.role_arn) if given.role_arn is not None else None
    if given.role_arn is not None and role is None:
        message = f"{shown(given.role_arn)} is not the ARN of a role."
        yield Finding((*path, "role_arn"), message, allowed="arn:PARTITION:iam::ACCOUNT:role/NAME.")
    elif role and cloud and cloud.partition and role["partition"] != cloud.partition:
        message = f"The role is one of partition {role['partition']}, the region one of {cloud.partition}."
        yield Finding((*path, "role_arn"), message)
    if given.env_prefix is not None and not PREFIX.fullmatch(given.env_prefix):
        message = f"{shown(given.env_prefix)} cannot begin the name of an environment variable."
        yield Finding((*path, "env_prefix"), message, allowed="a capital letter, then A-Z, 0-9 and _.")
    elif given.env_prefix == AMBIENT:
        message = f"Variables that begin with {AMBIENT} are what lies around: any shell may have them, for any account."
        yield Finding((*path, "env_prefix"), message, fix="a prefix of this region's own: EU_SOVEREIGN_")


def endpoints(region: Region) -> Iterator[Finding]:
    """SPEC-049."""
    provider = region.provider
    if not isinstance(provider, AwsProvider):
        return
    cloud = catalog.clouds().get(provider.partition)
    if cloud and cloud.endpoints_required and not provider.endpoints:
        message = f"{cloud.name} is reached only through endpoints that the file names."
        yield Finding(("provider", "partition"), message, fix="add `endpoints: {ec2: https://…, sts: https://…}`")
    for service, url in provider.endpoints.items():
        if not _is_endpoint(url):
            path: Path = ("provider", "endpoints", service)
            yield Finding(path, f"{shown(url)} is not an endpoint.", allowed="https://HOST, without a login.")


def _is_endpoint(url: str) -> bool:
    """https, or http to this machine's own loopback, where a stand-in of a cloud may listen."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    safe = parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK)
    return safe and bool(host) and is_address(host or "") and parts.username is None


def state(region: Region) -> Iterator[Finding]:
    """SPEC-057."""
    for key, known in (("backend", BACKENDS), ("secrets", SECRETS)):
        url = getattr(region.state, key)
        scheme = str(url).partition("://")[0]
        if url is None or (key == "secrets" and url == SECRETS[0]) or ("://" in url and scheme in known):
            continue
        allowed = ", ".join(k if k == SECRETS[0] else f"{k}://…" for k in known)
        near = catalog.nearest(scheme[:60], known) if "://" in url else ()
        message = f"{shown(url)} is not a URL of a {'secrets provider' if key == 'secrets' else 'state backend'}."
        yield Finding(("state", key), message, nearest=tuple(f"{n}://" for n in near), allowed=f"{allowed}.")
