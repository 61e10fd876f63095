"""What goes wrong in the emulator on purpose, and what it remembers of the calls it got."""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

KINDS = ("error", "drop-before", "drop-after", "hang", "hang-after", "hang-drop")
FRESH_ID = re.compile(rb"\b(?:vpc|subnet|i|sg|rtb|igw|nat|eipalloc|vpce|lt|pg|vol|eni|fl|sgr)-[0-9a-f]{8,17}\b")

# action → the tag of an item's own id, and the code by which EC2 says that such an id is not there.
# Source: EC2 API reference, error codes; botocore 1.44.8, ec2/2016-11-15.
OWN_ID = {
    "DescribeVpcs": ("vpcId", "InvalidVpcID.NotFound"),
    "DescribeSubnets": ("subnetId", "InvalidSubnetID.NotFound"),
    "DescribeInstances": ("instanceId", "InvalidInstanceID.NotFound"),
    "DescribeSecurityGroups": ("groupId", "InvalidGroup.NotFound"),
    "DescribeRouteTables": ("routeTableId", "InvalidRouteTableID.NotFound"),
    "DescribeInternetGateways": ("internetGatewayId", "InvalidInternetGatewayID.NotFound"),
    "DescribeNatGateways": ("natGatewayId", "NatGatewayNotFound"),
    "DescribeAddresses": ("allocationId", "InvalidAllocationID.NotFound"),
    "DescribeVpcEndpoints": ("vpcEndpointId", "InvalidVpcEndpointId.NotFound"),
    "DescribeVolumes": ("volumeId", "InvalidVolume.NotFound"),
    "DescribeLaunchTemplates": ("launchTemplateId", "InvalidLaunchTemplateId.NotFound"),
    "DescribePlacementGroups": ("groupId", "InvalidPlacementGroup.Unknown"),
    "DescribeNetworkInterfaces": ("networkInterfaceId", "InvalidNetworkInterfaceID.NotFound"),
    "DescribeFlowLogs": ("flowLogId", "InvalidFlowLogId.NotFound"),
    "DescribeTags": ("resourceId", ""),
}


class Bucket:
    """A token bucket as EC2 keeps one an action: `size` requests, `refill` a second."""

    def __init__(self, size: float, refill: float) -> None:
        self.size, self.refill = size, refill
        self.tokens, self.at = size, time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self.tokens = min(self.size, self.tokens + (now - self.at) * self.refill)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass
class Fault:
    """`skip` matching calls pass, `count` are hit (below 0: all that come), those whose body has `contains`.

    Below 1, `chance` is that of each call to be hit; the same seed gives the same row of hits.
    """

    action: str
    kind: str
    skip: int = 0
    count: int = 1
    status: int = 503
    code: str = "ServiceUnavailable"
    message: str = "injected"
    seconds: float = 0.0
    contains: str = ""
    chance: float = 1.0

    def __post_init__(self) -> None:
        self.dice = random.Random(f"{self.action} {self.kind}")
        if self.kind not in KINDS:
            raise ValueError(f"a fault is one of {', '.join(KINDS)}, not {self.kind}")

    def hits(self, action: str, body: bytes) -> bool:
        if self.action not in (action, "*") or (self.contains and self.contains.encode() not in body):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.count == 0 or (self.chance < 1 and self.dice.random() >= self.chance):
            return False
        self.count -= 1
        return True


@dataclass
class Hidden:
    """A read that does not see what was made a moment ago, for `reads` calls and `seconds`."""

    reads: int
    seconds: float
    seen: dict[bytes, int] = field(default_factory=dict)

    def hides(self, fresh: dict[bytes, float], found: bytes) -> bool:
        made = fresh.get(found)
        if made is None:
            return False
        return self.seen.get(found, 0) < self.reads or time.monotonic() - made < self.seconds


class Faults:
    """Everything that a test set, and the counts. One mutex; no call is held while it is taken."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.released = threading.Event()
        self.requests: Counter[str] = Counter()
        self.throttled: Counter[str] = Counter()
        self.clear()

    def clear(self) -> None:
        """No faults; calls that hang go on."""
        with self.mutex:
            self.released.set()
            self.released = threading.Event()
            self.rules: list[Fault] = []
            self.buckets: dict[str, Bucket] = {}
            self.latency_s = 0.0
            self.denied: dict[str, str] = {}
            self.hidden: dict[str, Hidden] = {}
            self.fresh: dict[bytes, float] = {}
            self.stale: dict[str, float] = {}
            self.remembered: dict[tuple[str, bytes], tuple[float, Any]] = {}

    def arrived(self, action: str) -> bool:
        """Counts a call. False: there are too many of them."""
        with self.mutex:
            self.requests[action] += 1
            bucket = self.buckets.get(action)
            if bucket is None and action.startswith("Describe"):
                bucket = self.buckets.get("Describe*")
            if bucket is None or bucket.take():
                return True
            self.throttled[action] += 1
            return False

    def next(self, action: str, body: bytes) -> Fault | None:
        with self.mutex:
            return next((rule for rule in self.rules if rule.hits(action, body)), None)

    def answered(self, action: str, answer: bytes) -> None:
        """Remembers what a call made, where some read is not to see it yet."""
        if not self.hidden or not action.startswith(("Create", "Run", "Allocate")):
            return
        with self.mutex:
            for found in FRESH_ID.findall(answer):
                self.fresh.setdefault(found, time.monotonic())

    def unseen(self, action: str, body: bytes, answer: bytes) -> tuple[bytes, str]:
        """The answer without what is hidden, and the error code instead where the call named a hidden id."""
        rule = self.hidden.get(action)
        if rule is None:
            return answer, ""
        own, code = OWN_ID[action]
        with self.mutex:
            present = {found for found in FRESH_ID.findall(answer) if rule.hides(self.fresh, found)}
            for found in present:
                rule.seen[found] = rule.seen.get(found, 0) + 1
        if not present:
            return answer, ""
        if code and any(re.search(rb"Id\.\d+=" + found, body) for found in present):
            return answer, code
        return _without(answer, own, {found.decode() for found in present}), ""


def _without(answer: bytes, own: str, ids: set[str]) -> bytes:
    root = ElementTree.fromstring(answer)  # noqa: S314 (our own server's text)
    space = root.tag[: root.tag.index("}") + 1] if root.tag.startswith("{") else ""
    for parent in list(root.iter()):
        for item in list(parent):
            if item.tag == f"{space}item" and item.findtext(f"{space}{own}") in ids:
                parent.remove(item)
    ElementTree.register_namespace("", space.strip("{}"))
    return bytes(ElementTree.tostring(root, encoding="utf-8"))
