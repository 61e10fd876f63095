"""Facts of a plan: what is known before anything is made. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from aifactory import catalog
from aifactory.plan.model import RegionPlan
from aifactory.region.spec import AwsProvider, Region
from aifactory.sovereignty.facts import Fact, Facts, Level, Resource

SERVICES = ("ec2", "elasticloadbalancing", "fsx", "iam", "kms", "s3", "sts")
"""APIs that a region of the AWS family asks (endpoint prefixes; `elbv2` and `elasticloadbalancing` are one)."""
ENDPOINT_KEYS = {"elasticloadbalancing": ("elbv2", "elasticloadbalancing")}
HOSTS_OWN = "host's own"
ARN = re.compile(r"arn:(?P<partition>[a-z0-9-]+):[a-z0-9-]*:[a-z0-9-]*:(?P<account>[0-9]{12})?:")


def facts(spec: Region, plan: RegionPlan) -> Facts:
    """What the plan says of the region's sovereignty."""
    cloud = spec.provider if isinstance(spec.provider, AwsProvider) else None
    card = catalog.clouds().get(cloud.partition) if cloud else None
    services = _services(spec) if cloud else ()
    return Facts(
        region=spec.name,
        country=spec.jurisdiction.country,
        data_classes=spec.jurisdiction.data_classes,
        resources=tuple(_resources(spec, plan)),
        hosts=tuple(_hosts(cloud, card, services)) if cloud and card else (),
        look_alikes=tuple(_look_alikes(cloud, card, services)) if cloud and card else (),
        off_region=tuple(_off_region(cloud, card)) if cloud and card else (),
        partition=_partition(cloud, card) if cloud and card else Fact("same", "declared"),
        trusts=tuple(_trusts(cloud, card)) if cloud and card else (),
        open_to_all=tuple(_open(spec)),
    )


def _resources(spec: Region, plan: RegionPlan) -> Iterator[Resource]:
    here, law, level = _home(spec)
    made = isinstance(spec.provider, AwsProvider)
    leaves = Fact(_leaves(spec), "planned" if made else "declared")
    key = Fact("1", "planned") if made else Fact(HOSTS_OWN, "declared")
    mirrored = "mirror" if spec.software.repositories else "vendor"
    for i, pool in enumerate(plan.pools):
        door = pool.purpose == "front"
        yield Resource(
            name=pool.name, kind="nodes", where=here, law=law, key=key, login=Fact("operator", level), leaves=leaves,
            logs=here, software=Fact(mirrored, "planned"), exit=Fact("open formats", "planned"),
            path="front_door" if door else f"pools[{i}]",
        )  # fmt: skip
    for i, storage in enumerate(spec.storage):
        held = Fact(HOSTS_OWN, "declared") if storage.kind == "nfs" else key
        yield Resource(
            name=storage.name, kind="storage", where=here, law=law, key=held, login=Fact("operator", level),
            leaves=Fact("nothing", level), logs=here, software=Fact("vendor", "planned"),
            exit=Fact("open formats", "planned"), path=f"storage[{i}]",
        )  # fmt: skip
    for name, url in (("state", spec.state.backend), ("secrets", spec.state.secrets)):
        yield _of_url(spec, name, url)


def _home(spec: Region) -> tuple[Fact, Fact, Level]:
    """Country and law of what the provider brings. Machines that exist are where the file says."""
    if isinstance(spec.provider, AwsProvider):
        card = catalog.clouds().get(spec.provider.partition)
        where = card.country_of(spec.provider.region) if card else None
        return Fact(where), Fact(card.legal_home if card else None), "planned"
    return Fact(spec.jurisdiction.country, "declared"), Fact(spec.jurisdiction.country, "declared"), "declared"


def _leaves(spec: Region) -> str:
    """`listed` where every destination is an address: a security group knows addresses and ports, no names."""
    if not spec.network.egress:
        return "nothing"
    return "listed" if all(_is_address(e.rsplit(":", 1)[0]) for e in spec.network.egress) else "ports"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _of_url(spec: Region, name: str, url: str | None) -> Resource:
    """State and secrets keeper: on the operator's machine, or where their URL says."""
    if url is None or url == "passphrase" or url.startswith("file://"):
        where, key = Fact(spec.jurisdiction.country, "declared"), Fact("4", "declared")
        law = where
    else:
        parts = urlsplit(url)
        region = parse_qs(parts.query).get("region", [""])[0]
        card = catalog.clouds().get(spec.provider.partition) if isinstance(spec.provider, AwsProvider) else None
        ours = card is not None and parts.scheme in ("s3", "awskms")
        where = Fact(card.country_of(region) if card and ours and region in card.regions else None, "declared")
        law = Fact(card.legal_home if card and ours else None)
        key = Fact("1", "declared") if parts.scheme == "awskms" else Fact("4", "declared")
    return Resource(
        name=name, kind=name, where=where, law=law, key=key, login=Fact("operator", "declared"),
        leaves=Fact("nothing", "planned"), logs=where, software=Fact("vendor", "planned"),
        exit=Fact("open formats", "planned"), path=f"state.{'backend' if name == 'state' else 'secrets'}",
    )  # fmt: skip


def _services(spec: Region) -> tuple[str, ...]:
    return tuple(s for s in SERVICES if s != "fsx" or any(x.kind == "lustre" for x in spec.storage))


def _endpoint(cloud: AwsProvider, service: str) -> str | None:
    keys = ENDPOINT_KEYS.get(service, (service,))
    return next((cloud.endpoints[k] for k in keys if k in cloud.endpoints), None)


def _hosts(cloud: AwsProvider, card: catalog.Cloud, services: tuple[str, ...]) -> Iterator[tuple[str, str, Fact]]:
    here = card.country_of(cloud.region)
    for service in services:
        url = _endpoint(cloud, service)
        if url is not None:
            yield service, str(urlsplit(url).hostname), _country_of_host(str(urlsplit(url).hostname), card, here)
        elif service in card.off_region:
            yield service, f"{service}.{card.dns_suffix}", Fact(card.off_region[service])
        elif cloud.region in card.regions and not card.endpoints_required:
            yield service, f"{service}.{cloud.region}.{card.dns_suffix}", Fact(here)


def _country_of_host(host: str, card: catalog.Cloud, here: str | None) -> Fact:
    """An endpoint of the file: of this cloud, or one that belongs to nobody we know (then it is as declared).

    A host below another cloud's suffix stands where that cloud's region stands.
    """
    for other in catalog.clouds().values():
        if other.dns_suffix and host.endswith(f".{other.dns_suffix}"):
            if other.key == card.key or other.dns_suffix == card.dns_suffix:
                named = [r for r in other.regions if f".{r}." in f".{host}"]
                return Fact(other.country_of(named[0]) if named else None, "declared")
            return Fact(None, "declared")
    return Fact(here, "declared")


def _look_alikes(cloud: AwsProvider, card: catalog.Cloud, services: tuple[str, ...]) -> Iterator[str]:
    guessed = not card.endpoints_required and cloud.region in card.regions
    for service in services:
        if _endpoint(cloud, service) is None and not guessed:
            yield service


def _off_region(cloud: AwsProvider, card: catalog.Cloud) -> Iterator[tuple[str, str]]:
    for service, country in sorted(card.off_region.items()):
        if _endpoint(cloud, service) is None:
            yield service, country


def _partition(cloud: AwsProvider, card: catalog.Cloud) -> Fact:
    role = ARN.match(cloud.credentials.role_arn or "")
    if role and card.partition and role["partition"] != card.partition:
        return Fact(f"the role is one of partition {role['partition']}", "declared")
    return Fact("same", "declared")


def _trusts(cloud: AwsProvider, card: catalog.Cloud) -> Iterator[tuple[str, str]]:
    role = ARN.match(cloud.credentials.role_arn or "")
    if role and role["account"] and role["account"] != cloud.account:
        yield "provider.credentials.role_arn", f"account {role['account']}"


def _open(spec: Region) -> Iterator[str]:
    """SSH from everywhere. The front door is meant to be reached."""
    ssh = getattr(spec.provider, "ssh", None)
    for source in getattr(ssh, "source", ()) or ():
        if ipaddress.ip_network(source, strict=False).prefixlen == 0:
            yield f"SSH from {source}"
