"""What must hold after every fault (I1 to I7), asked of the emulator from outside.

I1 as many nodes as wanted, by tag · I2 nothing in the cloud that state and journal do not name · I3 a second run
writes nothing · I4 no planted secret anywhere but its store · I5 the end says what happened, what is left and what to
do · I6 no lock outlives its holder by more than a minute · I7 no volume, bucket, key or file system is deleted unasked.
Source: performance-reliability facts, 2026-11-23, §4.1.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aifactory.provider.aws import tags

from tests.emulator import Emulator
from tests.faults.region import CLOUD_REGION, REGION

READS = ("Describe", "Get", "List", "Head", "Simulate")
DATA = ("DeleteVolume", "DeleteBucket", "DeleteObject", "DeleteObjects", "ScheduleKeyDeletion", "DeleteFileSystem")
LIVE = [{"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}]

# Objects of a whole region without its nodes, as region.resources() describes it.
WHOLE = {
    "ec2:vpc": 1, "ec2:subnet": 4, "ec2:internet-gateway": 1, "ec2:address": 1, "ec2:nat-gateway": 1,
    "ec2:route-table": 2, "ec2:vpc-endpoint": 1, "ec2:security-group": 2, "ec2:placement-group": 1,
    "ec2:launch-template": 1, "kms:key": 1, "kms:alias": 1, "s3:bucket": 1, "iam:role": 1, "iam:instance-profile": 1,
}  # fmt: skip
NODE = {"ec2:instance": 1, "ec2:volume": 2}


def writes(requests: Counter[str]) -> dict[str, int]:
    """Calls that may change something."""
    return {action: count for action, count in sorted(requests.items()) if not action.startswith(READS)}


def nodes(emulator: Emulator, region: str = CLOUD_REGION) -> list[dict[str, Any]]:
    """Instances that live and carry the region's tag, whoever made them."""
    pages = emulator.boto("ec2", region).get_paginator("describe_instances")
    filters = [*LIVE, *tags.filters({tags.REGION: REGION})]
    return [
        instance
        for page in pages.paginate(Filters=filters)
        for reservation in page["Reservations"]
        for instance in reservation["Instances"]
    ]


def expected(count: int, **more: int) -> dict[str, int]:
    found = {**WHOLE, **{kind: each * count for kind, each in NODE.items()}}
    found.update({kind.replace("__", ":").replace("_", "-"): number for kind, number in more.items()})
    return {kind: number for kind, number in found.items() if number}


def there(emulator: Emulator) -> dict[str, int]:
    """Objects by kind. Interfaces go with their owners and keys that end are no more ours: both are left out."""
    left_out = ("ec2:network-interface", "kms:key-ending")
    return {kind: len(names) for kind, names in emulator.inventory().items() if kind not in left_out}


def exactly(emulator: Emulator, count: int, **more: int) -> None:
    """I1 and I2: the region with `count` nodes and nothing beside it."""
    found, wanted = there(emulator), expected(count, **more)
    wrong = {
        kind: f"{found.get(kind, 0)} for {wanted.get(kind, 0)}"
        for kind in sorted({*found, *wanted})
        if found.get(kind, 0) != wanted.get(kind, 0)
    }
    assert not wrong, f"I1/I2: {wrong}"
    tagged = len(nodes(emulator))
    assert tagged == count, f"I1: {tagged} nodes carry the region's tag, {count} are wanted"


def known(emulator: Emulator, named: Iterable[str]) -> None:
    """I2: every live instance is among those that the state names, and the other way round."""
    living, stated = {instance["InstanceId"] for instance in nodes(emulator)}, set(named)
    assert living == stated, f"I2: unknown to the state {sorted(living - stated)}, gone {sorted(stated - living)}"


def quiet(before: Counter[str], after: Counter[str]) -> None:
    """I3: no call between the two counts may have changed anything."""
    found = writes(after - before)
    assert not found, f"I3: a second run wrote {found}"


def kept(requests: Counter[str]) -> None:
    """I7: no call deleted data."""
    found = {action: requests[action] for action in DATA if requests[action]}
    assert not found, f"I7: data was deleted: {found}"


def secrets(texts: Iterable[str], folders: Iterable[Path], more: Iterable[str] = ()) -> list[str]:
    """I4: places where one of the texts stands, among files below the folders and the given text."""
    wanted = [text.encode() for text in texts]
    found = [
        str(path)
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and any(text in path.read_bytes() for text in wanted)
    ]
    return found + ["what was said" for said in more if any(text.decode() in said for text in wanted)]


def hosts(state: dict[str, Any], name: str = "train") -> list[str]:
    """Instance ids that an engine's state names for a gang."""
    for each in state.get("resources", []):
        if each["urn"].endswith(f"::{name}") and not each.get("delete"):
            return [str(host["id"]) for host in json.loads(json.dumps(each.get("outputs", {}))).get("hosts", [])]
    return []
