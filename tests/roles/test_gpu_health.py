"""The play `health` on simulated GPU nodes: each fault has its verdict and its place, and nothing is changed.

Real: ansible, ssh, systemd, apt and the driver's packages, the catalogue's rows. Simulated: the GPUs, the fabric cards,
nvidia-smi, the kernel log.
"""

# ruff: noqa: F811 (fixtures are imported)
from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from aifactory import catalog
from aifactory.components import role_vars
from aifactory.hosts import run as hosts_run
from aifactory.hosts.play import Play

from tests.roles.conftest import Node, Site
from tests.roles.gpu_nodes import GpuNodes, faults, gpu_nodes, platform, repositories  # noqa: F401 (fixtures)
from tests.roles.vendor_repo import Repositories

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

DRIVER = "580.178.04"
APT = "DEBIAN_FRONTEND=noninteractive apt-get -yq -o APT::Update::Error-Mode=any"
SHAPE = "hgx-h100"
PACKAGES = "nvidia-driver-cuda nvidia-kernel-open-dkms nvidia-persistenced nvidia-fabricmanager"
SERVICES = "nvidia-persistenced nvidia-fabricmanager"


def health(name: str, kind: str, **more: Any) -> dict[str, dict[str, Any]]:
    """The role's dict for a description of tests/roles/platforms, with the catalogue's rows as the plan hands them."""
    cards = [nic for nic in platform(name)["nics"] if nic["role"] == "compute"]
    return {
        "health": {
            "gpus_per_node": len(platform(name)["gpus"]),
            "vendor": catalog.gpus()[kind].vendor,
            "platform": role_vars.platform(catalog.gpus()[kind]),
            "nics": {"count": len(cards), "gbit_s": min((c["rate"] for c in cards), default=0), "kind": "infiniband"},
            "signals": [
                {"key": row.key, "vendor": row.vendor, "name": row.name, "limit": row.limit, "unit": row.unit,
                 "verdict": row.verdict, "fix": row.fix, "source": catalog.source("signals", row.key, "verdict").title}
                for row in catalog.signals().values()
            ],
            "xids": [
                {"number": int(row.key), "action": row.action, "name": row.name or "", "source": "catalogue"}
                for row in catalog.xids().values()
            ],
            "timeout_s": 5,
            **more,
        }
    }  # fmt: skip


def bdf(index: int) -> str:
    found: str = platform(SHAPE)["gpus"][index]["bdf"]
    return found


@pytest.fixture(scope="module")
def node(gpu_nodes: GpuNodes, repositories: Repositories) -> Node:
    """An HGX H100 with its driver, by plain apt: what is tried here is the judgement."""
    (node,) = gpu_nodes(SHAPE)
    node.sh(f"{repositories.nvidia.sources()}{APT} update", 180)
    node.sh(f"{APT} install linux-headers-amd64 nvidia-driver-pinning-{DRIVER}", 180)
    node.sh(f"{APT} install {PACKAGES}", 180)
    node.sh(f"modprobe nvidia; systemctl restart {SERVICES}")
    return node


@pytest.fixture
def well(node: Node) -> Iterator[Node]:
    yield node
    faults(node)


class Judged:
    def __init__(self, result: hosts_run.RunResult, name: str) -> None:
        self.outcome = result.hosts[name]
        self.line = next((n.partition(f"{name} ")[2] for n in result.notes if f"{name} " in n), "")
        self.verdict = self.line.partition(":")[0]


def judge(site: Site, *nodes: Node, **more: Any) -> list[Judged]:
    hosts = tuple(node.host for node in nodes)
    play = Play("health.yml", "health", hosts, ("health",), health(SHAPE, "h100-sxm", **more))
    result = hosts_run.run_play(play, site.ssh)
    return [Judged(result, node.host.name) for node in nodes]


STATE = (
    "find /etc /usr/lib/systemd /lib/modules -xdev -type f 2>/dev/null | sort | xargs -d '\\n' stat -c '%n %s %Y' |"
    " sha256sum;"
    " dpkg -l | sha256sum; systemctl list-units --state=running --no-legend --plain 'nvidia*' | cut -d' ' -f1"
)


def test_healthy_node_is_ok_and_untouched(site: Site, well: Node) -> None:
    judge(site, well)  # the first run of a kind leaves its marker
    before = well.sh(STATE)
    (found,) = judge(site, well)
    assert found.line == "ok: 8 GPUs, nothing found"
    assert (found.outcome.status, found.outcome.changed) == ("converged", 0)
    assert well.sh(STATE) == before


@pytest.mark.parametrize(
    ("fault", "verdict", "words"),
    [
        (f"gpu-missing {bdf(3)}", "replace", "PCI bus: GPUs on the bus differ from the shape, found 7 GPUs"),
        (f"gpu-revff {bdf(2)}", "replace", f"{bdf(2)}: GPU answers with ones only"),
        (f"gpu-half-width {bdf(1)}", "reseat", rf"\({bdf(1)}\): GPU has fewer PCIe lanes.*found x8 .wanted x16"),
        ("remap-pending 4", "reboot", rf"GPU 4 \({bdf(4)}\): Row remapping is pending"),
        ("remap-failed 5", "rma", rf"GPU 5 \({bdf(5)}\): Row remapping failed"),
        ("ecc 6 3", "(fail|reboot)", rf"GPU 6 \({bdf(6)}\): Uncorrected"),
        ("xid 3 79", "reboot", rf"GPU 3 \({bdf(3)}\): GPU has fallen off the bus, found Xid 79"),
        ("xid 0 48", "drain", rf"GPU 0 \({bdf(0)}\): Double-bit ECC error, found Xid 48"),
        ("fabric-stuck", "fail", "NVLink fabric is not ready.*found In Progress"),
        ("smi-hang", "fail", "nvidia-smi: The driver's tool.*found `nvidia-smi -q -x` did not answer within 5 s"),
        ("nic-down mlx5_4", "fail", "mlx5_4: Fabric port is not active"),
        ("nic-rate mlx5_5 200", "fail", "mlx5_5: Fabric port is slower than the shape, found 200 Gbit/s"),
        ("nic-half-width mlx5_3", "reseat", "mlx5_3: Fabric card has fewer PCIe lanes"),
        ("version-mismatch", "(reboot|fail)", "(Loaded driver is not the installed one|tool fails)"),
    ],
)  # fmt: skip
def test_fault_has_its_verdict_and_its_place(site: Site, well: Node, fault: str, verdict: str, words: str) -> None:
    faults(well, fault)
    (found,) = judge(site, well)
    assert re.fullmatch(verdict, found.verdict), found.line
    assert re.search(words, found.line), found.line
    assert found.outcome.changed == 0
    assert found.outcome.done, "an ill node is told, not failed"


def test_service_that_has_ended_is_named(site: Site, well: Node) -> None:
    well.sh("systemctl stop nvidia-persistenced")
    (found,) = judge(site, well)
    well.sh("systemctl start nvidia-persistenced")
    assert found.line.startswith("fail: nvidia-persistenced.service: Service of the GPUs is not running")


def test_worst_of_several_wins(site: Site, well: Node) -> None:
    faults(well, "remap-pending 1", f"gpu-half-width {bdf(1)}", "remap-failed 2")
    (found,) = judge(site, well)
    assert found.line.startswith(f"rma: GPU 2 ({bdf(2)})")
    assert re.search(r"; \d more\. Have the GPU replaced", found.line)


def test_gate_refuses_from_the_verdict_it_is_given(site: Site, well: Node) -> None:
    faults(well, "remap-pending 1")
    (stopped,) = judge(site, well, refuse_from="reboot")
    assert stopped.outcome.status == "failed"
    assert "reboot: GPU 1" in (stopped.outcome.message or "")
    (passed,) = judge(site, well, refuse_from="fail")
    assert passed.outcome.done


def test_node_that_does_not_answer_keeps_no_other_from_being_judged(site: Site, well: Node) -> None:
    gone = replace(well.host, name="gone", port=1, id="gone")
    faults(well, "remap-failed 0")
    play = Play("health.yml", "health", (gone, well.host), ("health",), health(SHAPE, "h100-sxm"))
    result = hosts_run.run_play(play, site.ssh)
    assert result.hosts["gone"].status == "unreachable"
    assert Judged(result, well.host.name).verdict == "rma"


def test_dcgm_is_installed_for_the_drivers_cuda_only_when_asked(site: Site, well: Node) -> None:
    listed = "dpkg-query -W -f '${Package}\\n' 'datacenter-gpu-manager*' 2>/dev/null || true"
    assert well.sh(listed) == ""
    (found,) = judge(site, well, install_dcgm=True)
    assert (found.outcome.failed_task, found.outcome.changed) == (None, 2)  # the packages, and the marker that says so
    assert well.sh(listed).split() == ["datacenter-gpu-manager-4-core", "datacenter-gpu-manager-4-cuda13"]
