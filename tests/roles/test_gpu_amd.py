"""AMD Instinct nodes: driver, containers and health, on a simulated MI300X node.

Real: apt, the packages of a signed mirror, udev files, groups, podman and the CDI devices of a real container.
Simulated: GPUs, kernel module, DKMS, amd-smi, amd-ctk.
"""

# ruff: noqa: F811 (fixtures are imported)
from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from aifactory import catalog
from aifactory.components import role_vars
from aifactory.hosts import run as hosts_run
from aifactory.hosts.play import HostOutcome, Play

from tests.roles.conftest import Node, Site
from tests.roles.gpu_nodes import GpuNodes, faults, gpu_nodes, repositories  # noqa: F401 (fixtures)
from tests.roles.vendor_repo import ROCM, Repositories

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

LAYERS = ("gpu", "runtime")


@pytest.fixture(scope="module")
def node(gpu_nodes: GpuNodes) -> Node:
    (node,) = gpu_nodes("mi300x")
    return node


@pytest.fixture(scope="module")
def given(repositories: Repositories) -> dict[str, dict[str, Any]]:
    mirror = {"url": repositories.amd.url + "/{distro}/{arch}", "fingerprint": repositories.amd.fingerprint}
    platform = role_vars.platform(catalog.gpus()["mi300x"])
    return {
        "gpu": {
            "gpus_per_node": 8, "kind": "mi300x", "vendor": "amd", "platform": {**platform, "kernel_arguments": []},
            "driver": {"version": ROCM}, "repository": mirror,
        },
        "runtime": {"gpus_per_node": 8, "vendor": "amd", "repository": mirror},
    }  # fmt: skip


def run(site: Site, node: Node, given: dict[str, Any], *layers: str, check: bool = False) -> HostOutcome:
    play = Play("site.yml", "configuration", (node.host,), layers or LAYERS, given, check=check)
    (outcome,) = hosts_run.run_play(play, site.ssh).hosts.values()
    return outcome


# The tests follow one node through its life, in this order.


def test_check_mode_passes_on_the_fresh_node(site: Site, node: Node, given: dict[str, Any]) -> None:
    outcome = run(site, node, given, check=True)
    assert (outcome.failed_task, outcome.message) == (None, None)
    assert node.sh("dpkg-query -W -f '${Status}' amdgpu-dkms 2>/dev/null || true") == ""


def test_secure_boot_and_unknown_version_are_refused_together(site: Site, node: Node, given: dict[str, Any]) -> None:
    faults(node, "secure-boot")
    outcome = run(site, node, {**given, "gpu": {**given["gpu"], "driver": {"version": "latest"}}})
    faults(node)
    assert outcome.failed_task == "gpu : Have the AMD driver"
    assert "AMD-VERSION" in (outcome.message or "")
    assert "SECURE-BOOT" in (outcome.message or "")
    assert "Nothing was changed" in (outcome.message or "")


def test_driver_is_installed_built_loaded_held_and_proved(site: Site, node: Node, given: dict[str, Any]) -> None:
    outcome = run(site, node, given)
    assert (outcome.failed_task, outcome.message) == (None, None)
    assert "installed" in node.sh("dkms status amdgpu")
    assert node.sh("test -d /sys/module/amdgpu && amd-smi list --json | grep -c bdf") == "8"
    assert {"amdgpu-dkms", "rccl", "amd-smi-lib"} <= set(node.sh("apt-mark showhold").split())
    assert {"render", "video"} <= set(node.sh("id -nG ops").split())
    assert 'KERNEL=="kfd", GROUP="render"' in node.sh("cat /etc/udev/rules.d/70-aifactory-amdgpu.rules")


def test_containers_see_every_gpu(site: Site, node: Node) -> None:
    facts = json.loads(node.sh("cat /etc/ansible/facts.d/aifactory_runtime.fact"))
    assert (facts["containers"], facts["gpus"], facts["rootless"]) == (True, 8, True)
    assert facts["container_devices"] == ["amd.com/gpu=all"]
    assert facts["cdi"]["spec"] == "/etc/cdi/amd.json"


@pytest.mark.parametrize("check", [False, True])
def test_second_run_changes_nothing(site: Site, node: Node, given: dict[str, Any], check: bool) -> None:
    outcome = run(site, node, given, check=check)
    assert (outcome.status, outcome.changed, outcome.message) == ("converged", 0, None)


def test_interrupted_run_is_completed_by_the_next(site: Site, node: Node, given: dict[str, Any]) -> None:
    node.sh("apt-mark unhold rccl && apt-get -yq remove rccl")
    node.sh("rm /etc/udev/rules.d/70-aifactory-amdgpu.rules && modprobe -r amdgpu")
    outcome = run(site, node, given, "gpu")
    assert (outcome.status, outcome.message) == ("changed", None)
    assert "rccl" in node.sh("apt-mark showhold")
    assert node.sh("test -d /sys/module/amdgpu && ls /etc/udev/rules.d/70-aifactory-amdgpu.rules") != ""


def test_missing_gpu_is_named(site: Site, node: Node, given: dict[str, Any]) -> None:
    faults(node, "gpu-missing 0000:65:00.0")
    outcome = run(site, node, given, "gpu")
    faults(node)
    assert outcome.status == "failed"
    assert "GPU-COUNT" in (outcome.message or "")


def test_without_the_toolkit_containers_are_given_the_device_nodes(
    site: Site, node: Node, given: dict[str, Any]
) -> None:
    plain = {**given["runtime"], "repository": {}}
    outcome = run(site, node, {**given, "runtime": plain}, "runtime")
    assert outcome.message is None
    facts = json.loads(node.sh("cat /etc/ansible/facts.d/aifactory_runtime.fact"))
    assert facts["container_devices"][:2] == ["/dev/kfd", "/dev/dri/renderD128"]
    assert len(facts["container_devices"]) == 9


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (None, "ok: 8 GPUs, nothing found"),
        ("ecc 2 9", "fail: GPU 2 (0000:46:00.0): Uncorrected errors, found 9 (wanted 5)"),
        ("remap-pending 4", "fail: GPU 4 (0000:85:00.0): Bad memory pages wait for their retirement, found 1"),
        ("gpu-missing 0000:e5:00.0", "replace: PCI bus: GPUs on the bus differ from the shape, found 7 GPUs"),
    ],
)
def test_health_judges_amd_by_the_same_rows(
    site: Site, node: Node, given: dict[str, Any], fault: str | None, words: str
) -> None:
    rows = [
        {f: getattr(row, f) for f in ("key", "vendor", "name", "limit", "unit", "verdict", "fix")}
        for row in catalog.signals().values()
    ]
    health = {"gpus_per_node": 8, "vendor": "amd", "platform": given["gpu"]["platform"], "signals": rows}
    faults(node, *([fault] if fault else []))
    result = hosts_run.run_play(Play("health.yml", "health", (node.host,), ("health",), {"health": health}), site.ssh)
    faults(node)
    assert any(f"{node.host.name} {words}" in note for note in result.notes), result.notes


def test_play_is_the_same_for_both_makers(site: Site, node: Node, given: dict[str, Any]) -> None:
    """A region file that names AMD where the node has none of it stops at the hardware."""
    other = {**given["gpu"], "platform": role_vars.platform(catalog.gpus()["h100-sxm"]), "vendor": "nvidia"}
    host = replace(node.host, gpus=8)
    play = Play("gpu.yml", "configuration", (host,), ("gpu",), {"gpu": other})
    (outcome,) = hosts_run.run_play(play, site.ssh).hosts.values()
    assert outcome.failed_task == "gpu : Compare the node with its shape"
