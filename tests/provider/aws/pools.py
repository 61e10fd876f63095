"""What the tests of pools of a cloud share: a subnet and a launch template in the emulator, and looks behind it."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from aifactory.provider.aws import tags
from aifactory.provider.aws.limiter import Limiter
from aifactory.provider.aws.node_pool import NodePool
from aifactory.provider.host.key_material import ssh_key_pair
from aifactory.provider.journal import Journal

from tests.emulator import IMAGE, Emulator
from tests.provider.contract import first_token
from tests.provider.harness import Engine

REGION, POOL, ZONE, TYPE = "t-eu", "train", "eusc-de-east-1c", "p6-b200.48xlarge"
ENDED = ("shutting-down", "terminated")
HOST_KEY = ssh_key_pair()[1]


def console(key: str = HOST_KEY, name: str = "ip-10-0-0-4") -> str:
    """What cloud-init writes there at the end of the first boot, as seen on an Ubuntu 22.04 instance."""
    return (
        "<14>Jan  6 15:27:32 cloud-init: 256 SHA256:BOyEUuM4iXqSIlaoCcp+wOsLB3w+ZBZLPxxNdEY7WkQ root@vm1 (ED25519)\r\n"
        "<14>Jan  6 15:27:32 cloud-init: -----END SSH HOST KEY FINGERPRINTS-----\r\n"
        f"-----BEGIN SSH HOST KEY KEYS-----\r\n{key} root@{name}\r\n-----END SSH HOST KEY KEYS-----\r\n"
        "[   31.197933] cloud-init[1278]: Cloud-init v. 21.4 running 'modules:final'\r\n"
    )


class Ground:
    """A subnet and a template, made with a plain client, and the values of a pool on them."""

    def __init__(self, emulator: Emulator, **template: Any) -> None:
        self.emulator, self.ec2 = emulator, _ec2(emulator)
        vpc = self.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = self.ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/20", AvailabilityZone=ZONE)
        self.subnet = subnet["Subnet"]["SubnetId"]
        made = self.ec2.create_launch_template(
            LaunchTemplateName="t-eu-train",
            LaunchTemplateData={
                "ImageId": IMAGE,
                "InstanceType": TYPE,
                "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": self.subnet}],
                **template,
            },
        )
        self.template = made["LaunchTemplate"]["LaunchTemplateId"]

    def values(self, nodes: int = 2, **more: Any) -> dict[str, Any]:
        return {
            "region": REGION,
            "cloud": self.emulator.cloud(),
            "pool": POOL,
            "shape": TYPE,
            "user": "ops",
            "template_id": self.template,
            "template_version": 1,
            "subnet_id": self.subnet,
            "zone": ZONE,
            "nodes": [{"name": name(i), "rank": i, "gpus": 8, "labels": {"rack": f"r{i}"}} for i in range(nodes)],
            "host_keys": "none",
            **more,
        }

    def engine(self) -> Engine:
        return Engine(NodePool())

    def journal(self) -> Journal:
        return Journal(REGION, first_token(NodePool()))

    # -- looking behind

    def instances(self) -> list[dict[str, Any]]:
        """All that have not ended, of whatever tags."""
        answer = self.ec2.describe_instances()
        found = [one for reservation in answer["Reservations"] for one in reservation["Instances"]]
        return [one for one in found if one["State"]["Name"] not in ENDED]

    def ids(self) -> dict[str, str]:
        """Name → id, as tags and launch indexes have it; fails where two are one node."""
        found: dict[str, str] = {}
        for one in self.instances():
            marks = tags.read(one.get("Tags"))
            which = name(int(marks["aifactory.first"]) + one["AmiLaunchIndex"])
            assert which not in found, f"{which} is there twice"
            found[which] = one["InstanceId"]
        return dict(sorted(found.items()))

    def kill(self, *ids: str) -> None:
        self.ec2.terminate_instances(InstanceIds=list(ids))

    def plant(self, count: int = 1, **marks: str) -> list[str]:
        """Instances that some other run, or person, has made with these tags."""
        made = self.ec2.run_instances(
            LaunchTemplate={"LaunchTemplateId": self.template},
            MinCount=count,
            MaxCount=count,
            TagSpecifications=tags.specification("instance", marks),
        )
        return [str(one["InstanceId"]) for one in made["Instances"]]


@functools.cache
def _ec2(emulator: Emulator) -> Any:
    """A plain client; EC2's model takes a third of a second to read."""
    return emulator.boto("ec2")


def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are not paced: one process's tests make more pools a minute than an account could."""
    monkeypatch.setattr(Limiter, "take", lambda *_: 0.0)


def name(index: int) -> str:
    return f"{REGION}-{POOL}-{index:03d}"
