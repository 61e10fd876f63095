"""The layer fabric on simulated nodes with fabric cards.

Real: containers with systemd and sshd, ssh, ansible, the role, apt (distribution's mirror, a signed repository of the
test), the plan's part of NCCL. Not real: cards, sysfs, modprobe, mlnx_qos (tests/roles/simnode).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aifactory import catalog, paths
from aifactory.hosts import run as hosts_run
from aifactory.hosts.play import Play
from aifactory.plan.nccl import nccl as plan_nccl

from tests.roles.conftest import Node, Site
from tests.roles.gpu_nodes import GpuNodes, faults, gpu_nodes, platform, repositories  # noqa: F401 (fixtures)
from tests.roles.vendor_repo import Repositories

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

KEY = b"t-key"
GOLDEN = Path(__file__).parents[1] / "golden" / "nccl"
IB, ROCE, EFA = "h200", "hgx-h100-spectrum", "p6-b200"
Runs = dict[str, hosts_run.RunResult]
STEPS = {"check before": True, "first": False, "second": False, "check after": True}


def role_dict(name: str, fabric: str, stack: str, **more: Any) -> dict[str, Any]:
    """The role's dict as the plan would make it for this node's shape."""
    found = platform(name)
    shape, gpu = catalog.shapes()[found["shape"]], catalog.gpus()[found["kind"]]
    nics = shape.efa_cards if fabric == "efa" else shape.nics
    cloud = "aws" if fabric == "efa" else "static"
    return {
        "kind": fabric, "nics_per_node": nics, "gbit_s": shape.nic_gbit_s, "stack": stack,
        "gpu_pci_ids": list(gpu.pci_ids), "needs_nvlsm": gpu.needs_nvlsm, **plan_nccl(gpu.key, fabric, cloud).role(),
        **more,
    }  # fmt: skip


def play_of(node: Node, fabric: dict[str, Any]) -> Play:
    return Play("site.yml", "configuration", (node.host,), ("fabric",), {"fabric": fabric})


def run(site: Site, play: Play, check: bool = False) -> hosts_run.HostOutcome:
    result = hosts_run.run_play(replace(play, check=check), site.ssh, key=KEY)
    return result.hosts[play.hosts[0].name]


def conf(node: Node) -> str:
    return node.sh("cat /etc/nccl.conf") + "\n"


def accepted(name: str, interface: str) -> str:
    """The golden file with the container's own interface in it."""
    lines = (GOLDEN / f"{name}.conf").read_text().splitlines()
    return "\n".join(f"NCCL_SOCKET_IFNAME=={interface}" if "SOCKET_IFNAME=" in line else line for line in lines) + "\n"


def fact(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(node.sh("cat /etc/ansible/facts.d/aifactory_fabric.fact"))
    return found


def converge(site: Site, play: Play) -> Runs:
    return {step: hosts_run.run_play(replace(play, check=check), site.ssh, key=KEY) for step, check in STEPS.items()}


# InfiniBand over the distribution's stack


@pytest.fixture(scope="module")
def ib(gpu_nodes: GpuNodes) -> Node:  # noqa: F811
    (node,) = gpu_nodes(IB)
    return node


@pytest.fixture(scope="module")
def ib_play(ib: Node) -> Play:
    return play_of(ib, role_dict(IB, "infiniband", "inbox"))


@pytest.fixture(scope="module")
def ib_runs(site: Site, ib_play: Play) -> Runs:
    return converge(site, ib_play)


def test_infiniband_node_converges_and_the_second_run_changes_nothing(ib_runs: Runs, ib: Node) -> None:
    assert {step: result.failed() for step, result in ib_runs.items()} == {step: {} for step in STEPS}
    changed = {step: result.hosts[ib.name].changed for step, result in ib_runs.items()}
    assert changed["check before"] >= 2
    assert changed["first"] >= 3
    assert (changed["second"], changed["check after"]) == (0, 0)


def test_library_file_is_the_accepted_one(ib_runs: Runs, ib: Node) -> None:
    assert conf(ib) == accepted(IB, "eth0")
    assert fact(ib)["socket"] == "eth0"
    assert [card["hca"] for card in fact(ib)["cards"]] == [
        n["hca"] for n in platform(IB)["nics"] if n["rail"] is not None
    ]


def test_memlock_is_in_force(ib_runs: Runs, ib: Node) -> None:
    assert ib.sh("systemctl show -p DefaultLimitMEMLOCK --value") == "infinity"
    may_raise = int(ib.sh("sed -n 's/^CapEff:\t//p' /proc/self/status"), 16) >> 24 & 1
    told = ["/etc/security/limits.d/91-aifactory-rdma.conf", "/etc/containers/containers.conf.d/91-aifactory-rdma.conf"]
    assert ib.sh(f"ls {' '.join(told)} 2>/dev/null || true").splitlines() == (told if may_raise else [])
    assert any("root may not raise limits" in note for note in fact(ib)["notes"]) == (not may_raise)
    for runtime in ("docker", "containerd", "podman"):
        dropin = ib.sh(f"cat /etc/systemd/system/{runtime}.service.d/91-aifactory-rdma.conf")
        assert dropin.endswith("[Service]\nLimitMEMLOCK=infinity")


def test_modules_are_loaded_now_and_at_boot(ib_runs: Runs, ib: Node) -> None:
    wanted = {"mlx5_ib", "ib_uverbs", "ib_umad", "rdma_ucm"}
    assert wanted <= set(ib.sh("ls /sys/module").split())
    assert wanted <= set(ib.sh("cat /etc/modules-load.d/91-aifactory-rdma.conf").splitlines())


def test_every_card_keeps_its_name_by_its_place(ib_runs: Runs, ib: Node) -> None:
    rules = ib.sh("cat /etc/udev/rules.d/60-rdma-persistent-naming.rules")
    for nic in platform(IB)["nics"]:
        assert f'KERNELS=="{nic["bdf"]}", PROGRAM="rdma_rename %k NAME_FIXED {nic["hca"]}"' in rules


def test_cards_that_are_not_as_promised_fail_the_node_all_by_name_and_leave_the_file(
    ib_runs: Runs, site: Site, ib: Node, ib_play: Play
) -> None:
    before = conf(ib)
    faults(ib, "nic-down mlx5_3", "nic-half-width mlx5_4", "nic-rate mlx5_5 200")
    try:
        outcome = run(site, ib_play)
    finally:
        faults(ib)
    assert (outcome.status, outcome.changed) == ("failed", 0)
    for words in (
        f"{ib.name}: NIC-COUNT cards: 6 up at their rate, wanted 8 at 400 Gbit/s",
        "NIC-DOWN mlx5_3: DOWN, wanted ACTIVE",
        "NIC-LINK mlx5_4: 32 GT/s x8, wanted 32 GT/s x16",
        "NIC-RATE mlx5_5: 200 Gbit/s, wanted 400 Gbit/s",
    ):
        assert words in (outcome.message or "")
    assert conf(ib) == before
    assert run(site, ib_play, check=True).changed == 0


def test_what_somebody_took_out_or_changed_is_put_back(ib_runs: Runs, site: Site, ib: Node, ib_play: Play) -> None:
    ib.sh("rmmod ib_umad; sed -i 's/NCCL_NET=IB/NCCL_NET=Socket/' /etc/nccl.conf; rm /etc/modules-load.d/91-*")
    would = run(site, ib_play, check=True)
    assert would.changed >= 1
    assert "ib_umad" not in ib.sh("ls /sys/module").split()
    assert run(site, ib_play).status == "changed"
    assert "ib_umad" in ib.sh("ls /sys/module").split()
    assert conf(ib) == accepted(IB, "eth0")
    assert run(site, ib_play, check=True).changed == 0


# RoCE over DOCA


@pytest.fixture(scope="module")
def roce(gpu_nodes: GpuNodes) -> Node:  # noqa: F811
    (node,) = gpu_nodes(ROCE)
    return node


@pytest.fixture(scope="module")
def roce_play(roce: Node, repositories: Repositories) -> Play:  # noqa: F811
    doca = repositories.doca
    repository = {"url": doca.url, "fingerprint": doca.fingerprint, "key_file": doca.key_file}
    return play_of(roce, role_dict(ROCE, "roce", "doca", repository=repository))


@pytest.fixture(scope="module")
def roce_runs(site: Site, roce_play: Play) -> Runs:
    return converge(site, roce_play)


def rail_netdevs() -> list[str]:
    return [str(nic["netdev"]) for nic in platform(ROCE)["nics"] if nic["rail"] is not None]


def test_roce_node_converges_over_doca(roce_runs: Runs, roce: Node) -> None:
    assert {step: result.failed() for step, result in roce_runs.items()} == {step: {} for step in STEPS}
    changed = {step: result.hosts[roce.name].changed for step, result in roce_runs.items()}
    assert (changed["second"], changed["check after"]) == (0, 0)
    assert conf(roce) == accepted(ROCE, "eth0")
    assert fact(roce)["gid_index"] == 3
    assert "doca-ofed" in roce.sh("dpkg-query --show --showformat '${Package} ' doca-ofed")


def test_roce_classes_are_in_the_cards(roce_runs: Runs, roce: Node) -> None:
    for netdev in rail_netdevs():
        told = roce.sh(f"mlnx_qos -i {netdev}")
        assert "Priority trust state: dscp" in told
        assert "enabled     0   0   0   1   0   0   0   0" in told
        assert (
            roce.sh(f"cat /sys/class/net/{netdev}/ecn/roce_np/enable/3 /sys/class/net/{netdev}/ecn/roce_rp/enable/3")
            == "1\n1"
        )
    assert roce.sh("systemctl is-enabled aifactory-roce.service") == "enabled"


def test_roce_values_that_somebody_changed_are_put_back(
    roce_runs: Runs, site: Site, roce: Node, roce_play: Play
) -> None:
    first, second = rail_netdevs()[1:3]
    before = [roce.sh(f"mlnx_qos -i {netdev}") for netdev in (first, second)]
    roce.sh(f"mlnx_qos -i {first} --trust pcp; mlnx_qos -i {second} --pfc 1,0,0,0,0,0,0,0")
    assert [roce.sh(f"mlnx_qos -i {netdev}") for netdev in (first, second)] != before
    assert run(site, roce_play, check=True).changed == 1
    assert run(site, roce_play).status == "changed"
    assert [roce.sh(f"mlnx_qos -i {netdev}") for netdev in (first, second)] == before
    assert run(site, roce_play, check=True).changed == 0


# What is refused


def test_efa_stack_without_a_hash_is_not_run(gpu_nodes: GpuNodes, site: Site) -> None:  # noqa: F811
    (node,) = gpu_nodes(EFA)
    stack = {"repository": {"url": "https://efa-installer.amazonaws.com"}, "stack_version": "1.48.0"}
    outcome = run(site, play_of(node, role_dict(EFA, "efa", "efa", **stack)))
    assert outcome.status == "failed"
    assert "EFA-HASH aws-efa-installer-1.48.0.tar.gz: no SHA-256 is known, so it is not run" in (outcome.message or "")
    assert node.sh("ls /opt/amazon 2>/dev/null || true") == ""
    node.sh("mkdir -p /opt/amazon; echo '# EFA installer version: 1.48.0' > /opt/amazon/efa_installed_packages")
    outcome = run(site, play_of(node, role_dict(EFA, "efa", "efa", **stack)))
    assert outcome.failed_task is None, outcome.message
    assert conf(node) == accepted(EFA, "eth0")


def test_stack_that_does_not_fit_the_fabric_is_refused_before_anything_changes(
    nodes: Callable[..., tuple[Node, ...]], site: Site
) -> None:
    (node,) = nodes("nostack")
    for kind, stack in (("roce", "none"), ("infiniband", "efa"), ("efa", "doca")):
        outcome = run(site, play_of(node, {"kind": kind, "nics_per_node": 8, "stack": stack}))
        assert (outcome.status, outcome.changed) == ("failed", 0)
        assert f"fabric.stack is {stack}" in (outcome.message or "")


def test_role_is_eight_tasks() -> None:
    files = sorted((paths.PLAYBOOKS / "roles" / "fabric" / "tasks").glob("*.yml"))
    names = [line for file in files if file.name != "main.yml" for line in file.read_text().splitlines()]
    assert sum(line.startswith("- name:") for line in names) <= 8
