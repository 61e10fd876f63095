"""EC2's calls about the instances of one pool. Answers are turned into `Instance` at once: an answer about a node with
32 interfaces is 50 KB, and a pool may have a thousand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from aifactory.naming import LABEL
from aifactory.provider.aws import tags
from aifactory.provider.aws.api import Api
from aifactory.provider.aws.failures import CloudError

LARGEST = 100
"""Instances in one call that makes or ends them, and in one page of a read."""
ALIVE = ("pending", "running", "stopping", "stopped")
ENDING = "shutting-down"

POOL = f"{LABEL}pool"
GENERATION = f"{LABEL}generation"
FIRST = f"{LABEL}first"
"""Place in the pool of the first node of a batch: the n-th one is `first` + its launch index."""
BATCH = f"{LABEL}batch"
"""Which RunInstances call made it."""
SPEC = f"{LABEL}spec"
"""What a node cannot change without being made again (pool_types.spec_digest)."""

_ID = re.compile(r"\bi-[0-9a-f]{8,17}\b")


@dataclass(frozen=True, slots=True)
class Instance:
    """What the pool needs to know of one instance. `launched` is ISO 8601, empty while EC2 has not said so."""

    id: str
    state: str
    batch: str = ""
    spec: str = ""
    first: int | None = None
    launch_index: int = 0
    address: str = ""
    zone: str = ""
    launched: str = ""
    reason: str = ""

    @property
    def alive(self) -> bool:
        return self.state in ALIVE


def look(api: Api, token: str) -> list[Instance]:
    """Everything that carries the token and has not ended: ceil(N / 100) requests."""
    asked = [*tags.filters({tags.TOKEN: token}), {"Name": "instance-state-name", "Values": [*ALIVE, ENDING]}]
    return list(_instances(api.pages("ec2", "DescribeInstances", "Reservations", Filters=asked, MaxResults=LARGEST)))


def by_id(api: Api, ids: Iterable[str]) -> dict[str, Instance]:
    """Those of the ids that EC2 knows, ended ones too (for about an hour), with the reason of their end."""
    found: dict[str, Instance] = {}
    for some in _some(sorted(ids)):
        asked = [{"Name": "instance-id", "Values": list(some)}]
        pages = api.pages("ec2", "DescribeInstances", "Reservations", Filters=asked, MaxResults=LARGEST)
        found |= {instance.id: instance for instance in _instances(pages)}
    return found


def run(api: Api, call: dict[str, Any]) -> list[Instance]:
    """The instances that the call makes, or made: it carries its client token, and may be repeated as it is."""
    answer = api.call("ec2", "RunInstances", **call)
    return sorted((_instance(raw) for raw in answer["Instances"]), key=lambda one: (one.launch_index, one.id))


def terminate(api: Api, ids: Iterable[str]) -> None:
    """Ends them, a hundred a call. Gone already is fine."""
    for some in _some(list(ids)):
        _every(api, "TerminateInstances", list(some))


def start(api: Api, ids: Iterable[str]) -> None:
    """Starts what is stopped."""
    for some in _some(list(ids)):
        _every(api, "StartInstances", list(some))


def console(api: Api, instance_id: str) -> str:
    """What the machine has written to its console so far; empty for some minutes after its start.

    Source: EC2 API reference, GetConsoleOutput: 64 KB at most; the latest ones on Nitro only.
    """
    try:
        answer = api.call("ec2", "GetConsoleOutput", just_made=True, InstanceId=instance_id, Latest=True)
    except CloudError as error:
        if error.code != "UnsupportedOperation":
            raise
        answer = api.call("ec2", "GetConsoleOutput", InstanceId=instance_id)
    return str(answer.get("Output") or "")


def _every(api: Api, action: str, ids: list[str]) -> None:
    """EC2 refuses the whole call where one id is unknown, and says which."""
    while ids:
        try:
            api.call("ec2", action, InstanceIds=ids)
            return
        except CloudError as error:
            gone = set(_ID.findall(error.message))
            if error.kind != "absent" or not gone & set(ids):
                raise
            ids = [one for one in ids if one not in gone]


def _some(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(ids), LARGEST):
        yield ids[at : at + LARGEST]


def _instances(reservations: Iterable[dict[str, Any]]) -> Iterator[Instance]:
    for reservation in reservations:
        for raw in reservation.get("Instances") or ():
            yield _instance(raw)


def _instance(raw: dict[str, Any]) -> Instance:
    found = tags.read(raw.get("Tags"))
    reason, launched = raw.get("StateReason") or {}, raw.get("LaunchTime")
    return Instance(
        id=str(raw["InstanceId"]),
        state=str(raw["State"]["Name"]),
        batch=found.get(BATCH, ""),
        spec=found.get(SPEC, ""),
        first=int(found[FIRST]) if found.get(FIRST, "").isdigit() else None,
        launch_index=int(raw.get("AmiLaunchIndex") or 0),
        address=str(raw.get("PrivateIpAddress") or ""),
        zone=str((raw.get("Placement") or {}).get("AvailabilityZone") or ""),
        launched=launched.isoformat(timespec="seconds") if launched else "",
        reason=": ".join(str(reason[part]) for part in ("Code", "Message") if reason.get(part)),
    )
