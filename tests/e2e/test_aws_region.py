# ruff: noqa: F811 (a fixture is a parameter of the same name)
"""A region in a cloud from its file: made, configured, unchanged, taken down, nothing left.

Real: command, engine, plugin, program, SSH, Ansible, roles, the containers that stand for the instances. Emulated: the
cloud's API. What a real account alone can show: docs/aws.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.driver import LocalRegion
from tests.e2e.machines import Machines
from tests.emulator import ACCOUNT, ENV_PREFIX, IMAGE, SERVICES, Emulator, emulator, emulator_process  # noqa: F401
from tests.roles.conftest import Site, site  # noqa: F401 (fixture)

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.containers, pytest.mark.timeout(900)]

ZONE = "eusc-de-east-1a"
READS = ("Describe", "Get", "List", "Head")
MOST_READS = 40
"""Of an unchanged region of two nodes, its preflight included."""
STORAGE = (
    "storage:\n"
    "  - {name: scratch, kind: lustre, capacity_gib: 1200, bucket: artifacts, delete_data: true}\n"
    "  - {name: artifacts, kind: object}\n"
)


class CloudRegion(LocalRegion):
    """A small copy of the example `eu-sovereign`: two nodes, its storage, its rules about what passes."""

    url = ""
    ssh_from = "10.0.0.0/8"

    def write(self, *, nodes: int = 2, replicas: int = 2, more: str = "") -> None:
        endpoints = ", ".join(f'{service}: "{self.url}"' for service in SERVICES)
        (self.regions / f"{self.name}.yaml").write_text(
            f"version: 1\nname: {self.name}\njurisdiction: {{country: DE}}\n"
            "provider:\n  kind: aws\n  partition: aws-eusc\n  region: eusc-de-east-1\n"
            f'  account: "{ACCOUNT}"\n  zones: [{ZONE}]\n  credentials: {{env_prefix: {ENV_PREFIX}}}\n'
            f"  endpoints: {{{endpoints}}}\n  ssh: {{source: [{self.ssh_from}]}}\n"
            'network: {cidr: 10.20.0.0/16, egress: ["192.0.2.10:443"]}\n'
            f"pools:\n  - {{name: serve, shape: c7i.large, nodes: {nodes}, image: {IMAGE}, placement: cluster,"
            f" data_volume_gib: 20}}\n{STORAGE}{more}"
        )


@pytest.fixture
def region(emulator: Emulator, site: Site, tmp_path_factory: pytest.TempPathFactory) -> CloudRegion:
    CloudRegion.url, CloudRegion.ssh_from = emulator.url, f"{site.prefix}.0/24"
    return CloudRegion(tmp_path_factory.mktemp("cloud"), 0)


@pytest.fixture
def machines(emulator: Emulator, site: Site) -> Iterator[Machines]:
    with Machines(emulator, site) as following:
        yield following


SERVES = (
    "services:\n  - {{name: chat, model: golden-tiny, pool: serve, replicas: 2}}\n"
    "front_door: {{hostname: localhost, port: {port}, nodes: 1}}\n"
)


def left(emulator: Emulator) -> dict[str, list[str]]:
    """What is there by service, without keys whose deletion is scheduled: nobody can delete one at once."""
    return {kind: names for kind, names in emulator.inventory().items() if names and kind != "kms:key-ending"}


def test_region_comes_up_is_configured_stays_as_it_is_and_leaves_nothing(
    region: CloudRegion, machines: Machines, emulator: Emulator
) -> None:
    up = region.json("up", "--yes")
    hosts = up["outputs"]["fleet"]["hosts"]
    assert [h["name"] for h in hosts] == [region.node(0), region.node(1)]
    assert {h["id"] for h in hosts} == set(machines.running)
    assert up["outputs"]["storage"]["artifacts"]["bucket"] == f"{region.name}-artifacts-{ACCOUNT}"
    for host in hosts:
        assert machines.sh(host["name"], "ls /var/lib/aifactory/*.json"), "the layers ran on it"
        assert host["zone"] == ZONE
    assert {"ec2:vpc", "kms:key", "iam:role", "s3:bucket", "fsx:file-system", "ec2:placement-group",
            "ec2:launch-template", "ec2:instance"} <= set(emulator.inventory())  # fmt: skip

    logins = region.ssh_logins(region.node(0))
    with machines.still():
        emulator.forget_counts()
        assert set(region.json("up", "--yes")["changes"]) == {"same"}
        asked = emulator.requests()
    assert {action for action in asked if not action.startswith(READS)} == {"SimulatePrincipalPolicy"}
    assert sum(asked.values()) <= MOST_READS, asked
    assert region.ssh_logins(region.node(0)) == logins, "an unchanged region opens no SSH"

    region.ok("destroy", "--yes")
    assert left(emulator) == {}


def test_region_serves_through_a_front_door_behind_a_balancer(
    region: CloudRegion, machines: Machines, emulator: Emulator
) -> None:
    """The test's own port leads to the front node, as the balancer would; the emulator's passes no traffic."""
    front = region.node(0, "front")
    machines.publish[front] = ((region.port, 443),)
    region.write(more=SERVES.format(port=region.port))
    up = region.json("up", "--yes")
    assert up["outputs"]["endpoint"] == f"https://localhost:{region.port}"
    verdicts = region.json("verify")["verdicts"]
    assert {v["check"] for v in verdicts} >= {"host.units", "door.key", "service.stream"}
    assert [v for v in verdicts if v["verdict"] != "pass"] == []
    assert "test model" in region.ok("ask", "Who are you?")
    (balancer,) = emulator.boto("elbv2").describe_target_groups()["TargetGroups"]
    health = emulator.boto("elbv2").describe_target_health(TargetGroupArn=balancer["TargetGroupArn"])
    ids = {name: id for id, name in machines.running.items()}
    assert [t["Target"]["Id"] for t in health["TargetHealthDescriptions"]] == [ids[front]]
    assert set(region.json("up", "--yes")["changes"]) == {"same"}
    region.ok("destroy", "--yes")
    assert left(emulator) == {}
