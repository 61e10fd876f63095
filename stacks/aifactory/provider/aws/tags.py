"""Tags on everything that is made in a cloud: by them it is found, adopted and told apart.

The same words as the labels of local objects. A tag's value has 256 characters at most (EC2, S3, KMS, IAM, FSx and
ELB alike), a URN may have more: it is cut to its end, and told apart by the token. IAM, FSx and ELB take letters,
digits, spaces and `_.:/=+-@` only; a URN has a `$` before each parent's child. Source: botocore 1.44.8, tag values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from aifactory.naming import LABEL
from aifactory.provider.resource import Context

DEPLOYMENT = f"{LABEL}deployment"
REGION = f"{LABEL}region"
URN = f"{LABEL}urn"
TOKEN = f"{LABEL}token"
PART = f"{LABEL}part"
"""Which part of a resource an object is: `subnet/nodes-a`."""
LONGEST = 256
REFUSED = re.compile(r"[^\w\s.:/=+@-]")


def of(ctx: Context, region: str, token: str, part: str = "", **more: str) -> dict[str, str]:
    """What every object of one resource carries; `more` are further tags by name (`Name`)."""
    found = {DEPLOYMENT: ctx.deployment, REGION: region, URN: ctx.urn, TOKEN: token, **more}
    found |= {PART: part} if part else {}
    return {name: REFUSED.sub("/", text)[-LONGEST:] for name, text in found.items()}


def pairs(tags: Mapping[str, str], key: str = "Key", value: str = "Value") -> list[dict[str, str]]:
    """As most APIs take them; KMS says TagKey and TagValue."""
    return [{key: name, value: text} for name, text in sorted(tags.items())]


def specification(kind: str, tags: Mapping[str, str]) -> list[dict[str, Any]]:
    """EC2's TagSpecifications of one resource type (`vpc`)."""
    return [{"ResourceType": kind, "Tags": pairs(tags)}]


def read(found: Iterable[Mapping[str, str]] | None, key: str = "Key", value: str = "Value") -> dict[str, str]:
    """Tags of an answer, by name."""
    return {str(tag[key]): str(tag[value]) for tag in found or ()}


def filters(tags: Mapping[str, str]) -> list[dict[str, Any]]:
    """EC2's Filters for objects that carry all of these."""
    return [{"Name": f"tag:{name}", "Values": [text]} for name, text in sorted(tags.items())]


def holder(tags: Mapping[str, str]) -> str:
    """Who holds an object, in words."""
    if not tags.get(DEPLOYMENT):
        return "something that this toolkit did not make"
    return f"region {tags.get(REGION, '?')} of deployment {tags[DEPLOYMENT]}"
