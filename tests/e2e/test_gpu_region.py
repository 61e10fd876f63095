# ruff: noqa: F811 (a fixture is a parameter of the same name)
"""A region of GPU nodes from its file: two HGX H100 that are simulated, everything that is done to them is real."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.driver import LocalRegion
from tests.roles.conftest import Node, Site, site  # noqa: F401 (fixture)
from tests.roles.gpu_nodes import GpuNodes, faults, gpu_nodes, platform, repositories  # noqa: F401 (fixtures)
from tests.roles.vendor_repo import Repositories

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.containers, pytest.mark.timeout(900)]


OLD, NEW = "580.126.20", "580.178.04"
LOOK = """
set -e
place=$(mktemp -d /var/tmp/look.XXXXXX)
trap 'rm -rf $place' EXIT
ln -s usr/bin usr/lib usr/lib64 $place && mkdir $place/usr && chown -R {user} $place
runuser -l {user} -c "podman run --rm --network none --device nvidia.com/gpu=all --volume /usr:/usr:ro \\
  --rootfs $place sh -c 'ls /dev/nvidia[0-9] | wc -l; grep -o libcuda.so.[0-9.]* /proc/self/mounts'"
"""
"""A container with the node's own programs: how many GPUs it sees, and which driver's library."""


def region_file(name: str, key: Path, nodes: tuple[Node, ...], packages: Repositories, driver: str) -> str:
    hosts = "".join(
        f'      - {{name: {n.name}, address: {n.host.node_address}, host_key: "{n.host.host_key}"}}\n' for n in nodes
    )
    nvidia = packages.nvidia
    return (
        f"version: 1\nname: {name}\njurisdiction: {{country: NO}}\n"
        f'provider:\n  kind: static\n  ssh: {{user: ops, private_key: "{key}"}}\n'
        f"pools:\n  - name: train\n    shape: {nodes[0].host.shape}\n    hosts:\n{hosts}"
        f'software:\n  driver_version: "{driver}"\n'
        f'  repositories: {{nvidia: {{url: "{nvidia.url}", fingerprint: {nvidia.fingerprint}}}}}\n'
        "power: {cap_w_per_gpu: 600}\n"
    )


def driver_of(node: Node) -> str:
    return node.sh("cat /sys/module/nvidia/version")


def boots(node: Node) -> int:
    return int(node.sh("wc -l </var/log/simnode-boots"))


def test_region_of_gpu_nodes_comes_up_is_upgraded_and_says_which_node_is_ill(
    fresh: LocalRegion,
    site: Site,
    gpu_nodes: GpuNodes,
    repositories: Repositories,
) -> None:
    nodes = gpu_nodes("hgx-h100", 2)
    key = fresh.home / "operator"
    key.parent.mkdir(parents=True, exist_ok=True)
    key.write_text(site.private_key)
    key.chmod(0o600)
    file = fresh.regions / f"{fresh.name}.yaml"

    file.write_text(region_file(fresh.name, key, nodes, repositories, OLD))
    fresh.ok("up", "--yes")
    for node in nodes:
        assert driver_of(node) == OLD
        assert "NCCL_IB_HCA==" in node.sh("cat /etc/nccl.conf")
        assert node.sh("systemctl is-active nvidia-fabricmanager nvidia-persistenced").split() == ["active"] * 2

    # another driver, while a node has lost a GPU: it and the check are named, nothing is done to it, the other is whole
    before = [boots(node) for node in nodes]
    faults(nodes[1], f"gpu-missing {platform('hgx-h100')['gpus'][3]['bdf']}")
    file.write_text(region_file(fresh.name, key, nodes, repositories, NEW))
    broken = fresh.run("up", "--yes")
    assert broken.returncode == 4, broken.stdout + broken.stderr
    assert nodes[1].name in broken.stderr
    assert "GPU-COUNT" in broken.stderr
    assert [driver_of(node) for node in nodes] == [NEW, OLD]
    assert [boots(node) - earlier for node, earlier in zip(nodes, before, strict=True)] == [1, 0]

    # the GPU is back: the rest is done, with one restart a node, and containers have the new driver's library
    faults(nodes[1])
    fresh.ok("up", "--yes")
    assert [driver_of(node) for node in nodes] == [NEW, NEW]
    assert [boots(node) - earlier for node, earlier in zip(nodes, before, strict=True)] == [1, 1]
    for user in ("root", "ops"):
        assert [node.sh(LOOK.format(user=user)).split() for node in nodes] == [["8", f"libcuda.so.{NEW}"]] * 2
    assert set(fresh.json("up", "--yes")["changes"]) == {"same"}

    assert [n["verdict"] for n in fresh.json("health")["nodes"]] == ["ok", "ok"]
    faults(nodes[1], "remap-pending 2")
    ill = fresh.run("health")
    assert ill.returncode == 5, ill.stdout + ill.stderr
    assert "reboot" in ill.stdout
    fresh.ok("destroy", "--yes")
