"""A cloud of the AWS family on this machine: moto in a process of its own, spoken to over HTTP, with faults.

    from tests.emulator import Emulator, emulator  # the fixture: one server a session, a fresh account a test

Beyond moto 5.2 it has: placement groups, capacity reservations, interfaces, zone, profile and metadata options of a
launch template, interface type and network card of each interface, MinCount to MaxCount or nothing as capacity allows,
zone offerings enforced, client tokens (EC2, FSx), dry runs, permissions, console output, EC2's quotas, FSx life cycles
and data repositories, key deletion by ARN, and what is in use cannot be deleted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

ACCOUNT = "123456789012"
ENV_PREFIX = "AIFACTORY_TEST_"
SERVICES = ("ec2", "iam", "kms", "s3", "sts", "fsx", "elbv2", "service-quotas", "ssm", "dynamodb")
IMAGE = "ami-0123456789abcdef0"
"""An x86_64 image that every fresh account has in the regions below."""
IMAGE_ARM = "ami-0123456789abcdefa"
PLANTED_IN = ("eusc-de-east-1", "us-east-1", "eu-west-1")
EC2_BUCKETS = {
    "RunInstances": (5, 2), "TerminateInstances": (100, 5), "Describe*": (100, 20), "CreateTags": (100, 10),
    "CreateVolume": (50, 5), "AttachVolume": (50, 5), "DetachVolume": (50, 5), "DeleteVolume": (50, 5),
}  # fmt: skip
"""EC2's published token buckets. Source: Amazon EC2 Developer Guide, ec2-api-throttling, 2026-11-23."""


class Emulator:
    """One server. It ends with `stop`, or with the `with` block."""

    def __init__(self) -> None:
        server = Path(__file__).with_name("server.py")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the process)
        self._process = subprocess.Popen(
            [sys.executable, str(server), "0"], stdout=subprocess.PIPE, stderr=self._log, text=True, env=clean
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline().split()
        if said[:1] != ["ready"]:
            raise RuntimeError(f"the emulator did not start: {self.log()[-2000:]}")
        self.url = f"http://127.0.0.1:{said[1]}"
        self.plant_images()

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)

    def __enter__(self) -> Emulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def log(self) -> str:
        """What the server wrote on stderr: tracebacks of calls that moto has no answer to."""
        return os.pread(self._log.fileno(), 1 << 20, 0).decode("utf-8", "replace")

    # -- how to reach it

    def cloud(self, partition: str = "aws-eusc", region: str = "eusc-de-east-1", **more: Any) -> dict[str, Any]:
        """Keyword arguments of CloudInput."""
        return {
            "key": partition, "region": region, "account": ACCOUNT, "env_prefix": ENV_PREFIX,
            "endpoints": dict.fromkeys(SERVICES, self.url), **more,
        }  # fmt: skip

    def boto(self, service: str, region: str = "eusc-de-east-1") -> Any:
        """A plain client to look behind the product's back; it repeats nothing."""
        from botocore.config import Config
        from botocore.session import Session

        session = Session()
        session.set_credentials("looking", "behind")
        config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, read_timeout=60)
        return session.create_client(service, region_name=region, endpoint_url=self.url, config=config)

    # -- what it got, what it has

    def requests(self) -> Counter[str]:
        """Calls since the last reset, by the API's name; the test's own through `boto` are among them."""
        return Counter(self._ask("stats")["requests"])

    def throttled(self) -> Counter[str]:
        return Counter(self._ask("stats")["throttled"])

    def cpu_s(self) -> float:
        """CPU seconds of the server so far."""
        return float(self._ask("stats")["cpu_s"])

    def forget_counts(self) -> None:
        self._ask("forget_counts")

    def inventory(self) -> dict[str, list[str]]:
        """Every object of the account by `service:kind`, without what a fresh account has and what has ended."""
        return dict(self._ask("inventory"))

    def reset(self) -> None:
        """A fresh account: no objects, no faults, no counts. Calls that hang are let go."""
        self._ask("reset")
        self.plant_images()

    # -- what goes wrong

    def fault(self, action: str, kind: str = "error", **rule: Any) -> None:
        """`action`: the API's name, or `*`. `kind`: error; drop-before, drop-after (before or after it has its effect);
        hang, hang-after (for `seconds`, before or after its effect), hang-drop (and then none).
        Also skip=0, count=1 (below 0: for ever), status=503, code, message, contains (text of the request's body),
        chance (of each call, below 1)."""
        self._ask("fault", action=action, kind=kind, **rule)

    def no_faults(self) -> None:
        """No faults, limits, latency, hidden or stale reads, missing permissions. Calls that hang go on."""
        self._ask("no_faults")

    def limits(self, buckets: Mapping[str, tuple[float, float]] | None = None) -> None:
        """Token buckets by action: (size, refill a second); EC2's published ones by default."""
        self._ask("limits", buckets=dict(EC2_BUCKETS if buckets is None else buckets))

    def latency(self, ms: float) -> None:
        self._ask("latency", ms=ms)

    def invisible(self, action: str, reads: int = 3, seconds: float = 0.0) -> None:
        """What is made from now on is not seen by its first `reads` reads of this action, nor for `seconds`."""
        self._ask("invisible", action=action, reads=reads, seconds=seconds)

    def stale(self, action: str, seconds: float) -> None:
        """Each read of this action is answered again as the first time from now, for `seconds`."""
        self._ask("stale", action=action, seconds=seconds)

    def deny(self, **actions: str) -> None:
        """Permissions that are missing: `deny(RunInstances="ec2:RunInstances")`. None given: all are there."""
        self._ask("deny", actions=actions)

    # -- how the world is

    def capacity(self, where: str, number: int) -> None:
        """`zone`, `type` or `zone/type`: beyond that many running instances a launch is refused."""
        self._ask("set", capacity={where: number})

    def pending(self, seconds: float) -> None:
        """How long a new instance is pending and a new file system CREATING."""
        self._ask("set", pending_s=seconds)

    def quota(self, code: str, value: float) -> None:
        self._ask("set", quotas={code: value})

    def console(self, text: str) -> None:
        """Console output of every instance that has none of its own; `{id}` becomes the instance's id."""
        self._ask("set", console=text)

    def instance(self, instance_id: str, *, address: str | None = None, console: str | None = None) -> None:
        self._ask("set", instance=instance_id, address=address, console=console)

    def reservation(self, name: str, instance_type: str, zone: str, total: int, **more: Any) -> None:
        """A capacity reservation; `more`: AvailableInstanceCount, State, ReservationType `capacity-block`, EndDate."""
        values = {
            "CapacityReservationId": name, "InstanceType": instance_type, "AvailabilityZone": zone, "State": "active",
            "TotalInstanceCount": total, "OwnerId": ACCOUNT, "InstanceMatchCriteria": "targeted",
            "ReservationType": "default", "Tenancy": "default", **more,
        }  # fmt: skip
        self._ask("plant", kind="reservation", region=zone.rstrip("abcdef"), **values)

    def image(self, name: str, region: str = "eusc-de-east-1", architecture: str = "x86_64") -> None:
        values = {
            "ami_id": name,
            "name": f"image-{name}",
            "architecture": architecture,
            "root_device_name": "/dev/sda1",
        }
        self._ask("plant", kind="image", region=region, **values)

    def plant_images(self) -> None:
        for region in PLANTED_IN:
            self.image(IMAGE, region)
            self.image(IMAGE_ARM, region, "arm64")

    def _ask(self, verb: str, **values: Any) -> Any:
        request = urllib.request.Request(f"{self.url}/__emulator__/{verb}", json.dumps(values).encode(), method="POST")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise ValueError(f"emulator: {verb}: {error.read().decode()}") from None


@pytest.fixture(scope="session")
def emulator_process() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture
def emulator(emulator_process: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """A fresh account, and the keys to it in this process's environment."""
    for name, value in credentials().items():
        monkeypatch.setenv(name, value)
    emulator_process.reset()
    return emulator_process


def credentials() -> dict[str, str]:
    """Environment variables that hold the keys."""
    return {f"{ENV_PREFIX}ACCESS_KEY_ID": "AKIATESTTESTTESTTEST", f"{ENV_PREFIX}SECRET_ACCESS_KEY": "no-secret-at-all"}
