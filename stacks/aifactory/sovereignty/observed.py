"""Facts of what is there: the planned ones, where the state of the region's resources knows better. Pure.

What a resource's outputs hold was read from the cloud's API when it was made, changed or refreshed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from aifactory import catalog
from aifactory.plan.model import RegionPlan
from aifactory.region.spec import AwsProvider, Region
from aifactory.sovereignty import planned
from aifactory.sovereignty.facts import Fact, Facts, Resource

ARN = re.compile(r"arn:(?P<partition>[a-z0-9-]+):(?P<service>[a-z0-9-]*):(?P<region>[a-z0-9-]*):(?P<account>[0-9]*):")
CUSTODY = {"AWS_KMS": "1", "EXTERNAL": "1", "AWS_CLOUDHSM": "2", "EXTERNAL_KEY_STORE": "3"}
"""KMS says where a key's material comes from; imported material is in the provider's hands once it is there.
Source: botocore 1.44.8, kms service model, OriginType."""

Outputs = Iterable[tuple[str, Mapping[str, Any]]]
"""(type, outputs) of every resource in the region's state."""


def facts(spec: Region, plan: RegionPlan, outputs: Outputs) -> Facts:
    """Planned facts with everything that was observed put over them. Regions of other providers have none."""
    before = planned.facts(spec, plan)
    if not isinstance(spec.provider, AwsProvider):
        return before
    card = catalog.clouds().get(spec.provider.partition)
    there = list(outputs)
    known = {kind: [o for k, o in there if k == f"aifactory:aws:{kind}"] for kind in ("Bucket", "Key", "NodePool")}
    resources = before.resources
    storage = {made.bucket: made.name for made in plan.aws.buckets} if plan.aws else {}
    for bucket in known["Bucket"]:
        name = storage.get(str(bucket.get("bucket")))
        where = Fact(card.country_of(str(bucket.get("location"))) if card else None, "observed")
        resources = tuple(replace(r, where=where) if (r.kind, r.name) == ("storage", name) else r for r in resources)
    for key in known["Key"]:
        custody = Fact(CUSTODY.get(str(key.get("origin"))), "observed")
        resources = tuple(replace(r, key=custody) if r.key.value == "1" else r for r in resources)
    for pool in known["NodePool"]:
        resources = tuple(_pool(r, pool, spec.provider.region, card) for r in resources)
    return replace(before, resources=resources, partition=_partition(before, spec.provider, card, there))


def _pool(resource: Resource, pool: Mapping[str, Any], region: str, card: catalog.Cloud | None) -> Resource:
    """Nodes stand where their zones are; one zone of another region makes the whole pool's place unknown."""
    hosts = [h for h in pool.get("hosts") or () if isinstance(h, Mapping) and h.get("pool") == resource.name]
    if resource.kind != "nodes" or not hosts:
        return resource
    inside = all(str(h.get("zone", "")).startswith(region) for h in hosts)
    return replace(resource, where=Fact(card.country_of(region) if card and inside else None, "observed"))


def _partition(before: Facts, cloud: AwsProvider, card: catalog.Cloud | None, there: Outputs) -> Fact:
    for kind, outputs in there:
        if not kind.startswith("aifactory:aws:"):
            continue
        for text in _texts(outputs):
            if (arn := ARN.match(text)) is None:
                continue
            if card and card.partition and arn["partition"] != card.partition:
                return Fact(f"{text} is of partition {arn['partition']}", "observed")
            if arn["account"] and arn["account"] != cloud.account:
                return Fact(f"{text} is of account {arn['account']}", "observed")
            if arn["region"] and arn["region"] != cloud.region:
                return Fact(f"{text} is in {arn['region']}", "observed")
    return before.partition if before.partition.value != "same" else Fact("same", "observed")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
