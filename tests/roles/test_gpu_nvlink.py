"""NVLink services, the proof by CUDA contexts, power: the role `gpu` on simulated nodes.

Real: containers with systemd and sshd, apt on signed repositories, units, ssh, ansible, the role. Simulated: GPUs,
kernel modules, what nvidia-smi, Fabric Manager, NVLSM, IMEX and libcuda say (tests/roles/simnode).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aifactory import catalog, paths
from aifactory.hosts import run as hosts_run
from aifactory.hosts.play import Play

from tests.roles.conftest import Node, Site
from tests.roles.gpu_nodes import GpuNodes, boot_id, faults, gpu_nodes, platform, reboot, repositories  # noqa: F401 (fixtures)
from tests.roles.test_own_kernel import PRETEND
from tests.roles.vendor_repo import Repositories

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

NEW = "580.178.04"
CHECKS = {"check before": True, "first": False, "second": False, "check after": True}
Run = Callable[..., hosts_run.RunResult]


def gpu_vars(name: str, repositories: Repositories, **changes: Any) -> dict[str, Any]:  # noqa: F811
    """The role's dict as the plan writes it from the catalogue's row; `changes` by key, rows of `platform` merged."""
    description = platform(name)
    row = catalog.gpus()[description["kind"]]
    keys = ("key", "name", "architecture", "open_modules", "open_modules_required", "needs_fabric_manager",
            "needs_nvlsm", "needs_imex")  # fmt: skip
    given = {
        **{key: getattr(row, key) for key in keys}, "pci_ids": list(row.pci_ids),
        "nvlink_links": row.nvlink_links or 0, "nvlink_link_gb_s": float(row.nvlink_link_gb_s or 0),
        "nvlink_expected": bool(row.nvlink_links), "first_driver": row.first_driver or "",
        **changes.pop("platform", {}),
    }  # fmt: skip
    return {
        "gpus_per_node": len(description["gpus"]), "kind": row.key, "vendor": row.vendor, "platform": given,
        "driver": {"branch": "580", "version": NEW}, "imex": {"enabled": row.needs_imex},
        "repository": {"url": repositories.nvidia.url, "fingerprint": repositories.nvidia.fingerprint}, **changes,
    }  # fmt: skip


@pytest.fixture(scope="module")
def run(site: Site, repositories: Repositories) -> Run:  # noqa: F811
    """`run(nodes, "hgx-h100", power={"cap_w": 600})`: the layer gpu on the nodes."""

    def go(nodes: tuple[Node, ...], name: str, check: bool = False, **changes: Any) -> hosts_run.RunResult:
        variables = {"gpu": gpu_vars(name, repositories, **changes)}
        hosts = tuple(node.host for node in nodes)
        result = hosts_run.run_play(
            Play("site.yml", "configuration", hosts, ("gpu",), variables, check=check), site.ssh, key=b"t-key"
        )
        print(
            name, {host: (outcome.status, outcome.changed, outcome.message) for host, outcome in result.hosts.items()}
        )
        print(result.notes, round(result.seconds, 1))
        return result

    return go


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same playbooks with seconds instead of minutes for a fabric to train."""
    shutil.copytree(paths.PLAYBOOKS, tmp_path / "playbooks")
    (tmp_path / "templates").symlink_to(paths.PLAYBOOKS.parent / "templates")
    verify = tmp_path / "playbooks/roles/gpu/tasks/verify.yml"
    text = verify.read_text()
    assert "_gpu_fabric_timeout_s: 600" in text
    verify.write_text(text.replace("_gpu_fabric_timeout_s: 600", "_gpu_fabric_timeout_s: 4"))
    monkeypatch.setattr(paths, "PLAYBOOKS", tmp_path / "playbooks")


def reason(result: hosts_run.RunResult, node: Node) -> str:
    outcome = result.hosts[node.name]
    assert outcome.status == "failed", outcome
    return outcome.message or ""


def changed(result: hosts_run.RunResult) -> int:
    assert result.failed() == {}
    return sum(outcome.changed for outcome in result.hosts.values())


def since(node: Node, unit: str) -> str:
    return node.sh(f"systemctl show -p InvocationID --value {unit}")


# --- HGX H100: Fabric Manager ---


@pytest.fixture(scope="module")
def h100(gpu_nodes: GpuNodes) -> Node:  # noqa: F811
    (node,) = gpu_nodes("hgx-h100")
    return node


@pytest.fixture(scope="module")
def h100_runs(h100: Node, run: Run) -> dict[str, hosts_run.RunResult]:
    return {step: run((h100,), "hgx-h100", check, power={"cap_w": 600}) for step, check in CHECKS.items()}


def test_h100_every_run_reaches_the_end_and_the_second_changes_nothing(
    h100_runs: dict[str, hosts_run.RunResult],
) -> None:
    assert changed(h100_runs["check before"]) > 0
    assert changed(h100_runs["first"]) > 0
    assert changed(h100_runs["second"]) == 0
    assert changed(h100_runs["check after"]) == 0


def test_h100_has_fabric_manager_at_the_drivers_version_and_nothing_else(
    h100_runs: dict[str, hosts_run.RunResult], h100: Node
) -> None:
    packages = h100.sh(
        "dpkg-query -W -f '${Package} ${Version}\\n' 'nvidia-fabric*' 'nvidia-imex*' nvlsm 2>/dev/null; true"
    )
    assert packages == f"nvidia-fabricmanager {NEW}-1"
    assert h100.sh("systemctl is-active nvidia-fabricmanager; systemctl is-enabled nvidia-fabricmanager") == (
        "active\nenabled"
    )
    assert "nvidia-fabricmanager" in h100.sh("apt-mark showhold").split()


def test_h100_context_was_opened_on_every_gpu(h100_runs: dict[str, hosts_run.RunResult], h100: Node) -> None:
    opened = h100.sh("awk '{print $2}' /run/simnode/contexts | sort -u").split()
    assert opened == sorted(gpu["bdf"] for gpu in platform("hgx-h100")["gpus"])


def test_h100_power_limit_is_enforced_and_comes_back_after_a_boot(
    h100_runs: dict[str, hosts_run.RunResult], h100: Node, run: Run
) -> None:
    query = "nvidia-smi --query-gpu=enforced.power.limit --format=csv,noheader,nounits | sort -u"
    assert h100.sh(query) == "600.00"
    reboot(h100)
    assert h100.sh(query) == "600.00"
    assert changed(run((h100,), "hgx-h100", power={"cap_w": 600})) == 0


def test_h100_power_limit_that_is_held_lower_is_named_with_both_values(
    h100_runs: dict[str, hosts_run.RunResult], h100: Node, run: Run
) -> None:
    faults(h100, "power-held 3 450")
    assert "GPU 3 enforces 450.0 W, set was 600 W" in reason(run((h100,), "hgx-h100", power={"cap_w": 600}), h100)
    faults(h100)
    told = reason(run((h100,), "hgx-h100", power={"cap_w": 9000}), h100)
    assert "GPU 0 takes 200 to 700 W, power.cap_w is 9000" in told
    assert changed(run((h100,), "hgx-h100", power={"cap_w": 600})) == 0


def test_h100_driver_loaded_anew_has_fabric_manager_started_again(
    h100_runs: dict[str, hosts_run.RunResult], h100: Node, run: Run
) -> None:
    before = since(h100, "nvidia-fabricmanager")
    assert changed(run((h100,), "hgx-h100", power={"cap_w": 600})) == 0
    assert since(h100, "nvidia-fabricmanager") == before
    h100.sh("sed -i 's/^FABRIC_MODE=0/FABRIC_MODE=1/' /usr/share/nvidia/nvswitch/fabricmanager.cfg")
    assert changed(run((h100,), "hgx-h100", check=True, power={"cap_w": 600})) == 1
    assert changed(run((h100,), "hgx-h100", power={"cap_w": 600})) == 1
    h100.sh("""python3 - <<'EOF'
import json
path = "/run/aifactory/nvlink.json"
starts = json.load(open(path))
starts["nvidia-fabricmanager.service"]["driver"] = "570.172.08 1"
json.dump(starts, open(path, "w"))
EOF""")
    assert changed(run((h100,), "hgx-h100", power={"cap_w": 600})) == 1
    assert since(h100, "nvidia-fabricmanager") != before
    assert changed(run((h100,), "hgx-h100", power={"cap_w": 600})) == 0


def test_h100_unit_that_waits_for_the_target_that_wants_it_is_overridden_while_it_does(
    h100_runs: dict[str, hosts_run.RunResult], h100: Node, run: Run
) -> None:
    """As on arm64 images: such a cycle costs one of its two jobs at boot."""
    vendor, ours = (f"{folder}/systemd/system/nvidia-fabricmanager.service" for folder in ("/usr/lib", "/etc"))
    h100.sh(f"cp {vendor} /root/unit && sed -i 's/^After=.*/& multi-user.target/' {vendor} && systemctl daemon-reload")
    after = "systemctl show -p After --value nvidia-fabricmanager"
    assert "multi-user.target" in h100.sh(after).split()
    assert changed(run((h100,), "hgx-h100", power={"cap_w": 600})) == 1
    assert "multi-user.target" not in h100.sh(after).split()
    assert changed(run((h100,), "hgx-h100", power={"cap_w": 600})) == 0
    h100.sh(f"cp /root/unit {vendor}")
    assert changed(run((h100,), "hgx-h100", power={"cap_w": 600})) == 1
    assert h100.sh(f"ls {ours} 2>/dev/null; true") == ""


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("cuda-fails 999 5", ["CUDA-CONTEXT: GPU 5 (", "gives 999 CUDA_ERROR_UNKNOWN", "uvm_disable_hmm=1"]),
        ("cuda-fails 3", ["CUDA-CONTEXT: all GPUs: cuInit gives 3", "uvm_disable_hmm=1"]),
        ("nvlink-down 2 7", ["NVLINK-COUNT: GPU 2 (", "17 NVLinks active (inactive: 7), wanted: 18"]),
        ("smi-hang", ["SMI-HANG", "no answer in 60 s"]),
    ],
)
def test_h100_fault_is_named(
    h100_runs: dict[str, hosts_run.RunResult], h100: Node, run: Run, fault: str, words: list[str]
) -> None:
    faults(h100, fault)
    try:
        told = reason(run((h100,), "hgx-h100", power={"cap_w": 600} if fault != "smi-hang" else {}), h100)
        assert [word for word in words if word not in told] == []
    finally:
        faults(h100)
    h100.sh("systemctl stop aifactory-gpu-power; true")


def test_h100_stuck_fabric_is_named_and_the_other_node_finishes(
    gpu_nodes: GpuNodes,  # noqa: F811
    h100_runs: dict[str, hosts_run.RunResult],
    h100: Node,
    run: Run,
    quick: None,
) -> None:
    (other,) = gpu_nodes("hgx-h100")
    faults(other, "fabric-stuck")
    result = run((h100, other), "hgx-h100")
    told = reason(result, other)
    assert "FABRIC-STATE: GPU 0 (" in told
    assert "In Progress, no status, wanted: Completed, Success" in told
    assert "cuInit gives 802" in told
    assert result.hosts[h100.name].done
    faults(other)
    assert changed(run((h100, other), "hgx-h100")) == 1  # the marker of the node that had failed
    assert changed(run((h100, other), "hgx-h100")) == 0


def test_h100_upgrade_moves_fabric_manager_with_the_driver(gpu_nodes: GpuNodes, run: Run) -> None:  # noqa: F811
    """570 has another package name; the services start after the restart that the new module needs."""
    (node,) = gpu_nodes("hgx-h100")
    old = {"branch": "570", "version": "570.172.08"}
    assert changed(run((node,), "hgx-h100", driver=old)) > 0
    versions = "dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\\n' 'nvidia-fabric*' | grep ' installed'"
    assert node.sh(versions) == "nvidia-fabricmanager-570 570.172.08-1 installed"
    result = run((node,), "hgx-h100")
    assert result.failed() == {}
    assert any("the loaded driver is 570.172.08" in note and "after the reboot" in note for note in result.notes)
    assert node.sh(versions) == f"nvidia-fabricmanager {NEW}-1 installed"
    assert node.sh("systemctl is-active nvidia-fabricmanager; cat /sys/module/nvidia/version") == f"active\n{NEW}"
    assert changed(run((node,), "hgx-h100")) == 0


# --- HGX B200: Fabric Manager and NVLSM ---


@pytest.fixture(scope="module")
def b200(gpu_nodes: GpuNodes) -> Node:  # noqa: F811
    (node,) = gpu_nodes("hgx-b200")
    return node


@pytest.fixture(scope="module")
def b200_runs(b200: Node, run: Run) -> dict[str, hosts_run.RunResult]:
    power = {"cap_w": 900, "profile": "LLM_INFERENCE"}
    return {step: run((b200,), "hgx-b200", check, power=power) for step, check in CHECKS.items()}


def test_b200_every_run_reaches_the_end_and_the_second_changes_nothing(
    b200_runs: dict[str, hosts_run.RunResult],
) -> None:
    assert changed(b200_runs["first"]) > 0
    assert changed(b200_runs["check before"]) > 0
    assert [changed(b200_runs[step]) for step in ("second", "check after")] == [0, 0]


def test_b200_nvlsm_runs_with_its_modules_now_and_at_every_boot(
    b200_runs: dict[str, hosts_run.RunResult], b200: Node, run: Run
) -> None:
    assert b200.sh("dpkg-query -W -f '${Package}\\n' nvlsm libnvsdm infiniband-diags | sort").split() == [
        "infiniband-diags", "libnvsdm", "nvlsm",
    ]  # fmt: skip
    assert "nvlsm" in b200.sh("systemctl status nvidia-fabricmanager --no-pager")
    assert b200.sh("ls -d /sys/module/ib_umad /sys/module/mlx5_ib | wc -l") == "2"
    reboot(b200)
    assert b200.sh("ls -d /sys/module/ib_umad /sys/module/mlx5_ib | wc -l") == "2"
    power = {"cap_w": 900, "profile": "LLM_INFERENCE"}
    assert changed(run((b200,), "hgx-b200", power=power)) == 0


def test_b200_profile_is_requested_and_enforced(b200_runs: dict[str, hosts_run.RunResult], b200: Node) -> None:
    assert set(b200.sh("nvidia-smi power-profiles -ge").splitlines()) == {"6. LLM Inference"}


def test_b200_profile_held_by_another_is_named(b200_runs: dict[str, hosts_run.RunResult], b200: Node, run: Run) -> None:
    faults(b200, "profile-held")
    told = reason(run((b200,), "hgx-b200", power={"profile": "LLM_INFERENCE"}), b200)
    assert "POWER-PROFILE: LLM_INFERENCE was requested and Max-Q is enforced" in told
    faults(b200)


def test_b200_without_its_kernel_module_says_which_package_has_it(gpu_nodes: GpuNodes, run: Run) -> None:  # noqa: F811
    (node,) = gpu_nodes("hgx-b200")
    faults(node, "no-module ib_umad")
    told = reason(run((node,), "hgx-b200"), node)
    assert "NVLINK-MODULE: ib_umad could not be loaded" in told
    assert "linux-modules-extra-" in told


# --- GB200 NVL72: IMEX ---


@pytest.fixture(scope="module")
def rack(gpu_nodes: GpuNodes) -> tuple[Node, ...]:  # noqa: F811
    return gpu_nodes("gb200-nvl72", 3)


@pytest.fixture(scope="module")
def rack_runs(rack: tuple[Node, ...], run: Run) -> dict[str, hosts_run.RunResult]:
    return {step: run(rack, "gb200-nvl72", check) for step, check in CHECKS.items()}


def test_rack_every_run_reaches_the_end_and_the_second_changes_nothing(
    rack_runs: dict[str, hosts_run.RunResult],
) -> None:
    assert changed(rack_runs["first"]) > 0
    assert changed(rack_runs["check before"]) > 0
    assert [changed(rack_runs[step]) for step in ("second", "check after")] == [0, 0]


def test_rack_nodes_file_is_the_same_sorted_list_everywhere(
    rack_runs: dict[str, hosts_run.RunResult], rack: tuple[Node, ...]
) -> None:
    wanted = sorted((node.host.node_address for node in rack), key=lambda text: [int(part) for part in text.split(".")])
    for node in rack:
        assert node.sh("cat /etc/nvidia-imex/nodes_config.cfg").split() == wanted
        told = json.loads(node.sh("nvidia-imex-ctl -N -j"))
        assert (told["status"], len(told["nodes"])) == ("UP", 3)
        assert "nvidia-fabricmanager" not in node.sh("dpkg-query -W -f '${Package}\\n' 'nvidia-*'").split()


def test_rack_run_on_one_node_keeps_the_others_in_its_file(
    rack_runs: dict[str, hosts_run.RunResult], rack: tuple[Node, ...], run: Run
) -> None:
    assert changed(run(rack[:1], "gb200-nvl72")) == 0
    assert len(rack[0].sh("cat /etc/nvidia-imex/nodes_config.cfg").split()) == 3


def test_rack_node_with_another_file_is_named_and_the_others_finish(
    rack_runs: dict[str, hosts_run.RunResult], rack: tuple[Node, ...], run: Run
) -> None:
    odd = rack[1]
    odd.sh("echo 10.99.0.9 >> /etc/nvidia-imex/nodes_config.cfg")
    result = run(rack, "gb200-nvl72")
    told = reason(result, odd)
    assert f"IMEX-NODES: {odd.name}" in told
    assert "10.99.0.9" in told
    assert "which 2 of the rack's 3 nodes in this run do not have" in told
    assert [result.hosts[node.name].done for node in rack] == [True, False, True]
    odd.sh("sed -i /10.99.0.9/d /etc/nvidia-imex/nodes_config.cfg")
    assert run(rack, "gb200-nvl72").failed() == {}
    assert changed(run(rack, "gb200-nvl72")) == 0


def test_rack_node_whose_imex_is_not_ready_is_named(
    rack_runs: dict[str, hosts_run.RunResult], rack: tuple[Node, ...], run: Run, quick: None
) -> None:
    late = rack[2].host.node_address
    for node in rack:
        faults(node, f"imex-not-ready {late}")
    told = reason(run(rack, "gb200-nvl72"), rack[0])
    assert f"IMEX-STATE: IMEX of {late}: UNAVAILABLE, wanted: READY on 3 nodes" in told
    for node in rack:
        faults(node)


# --- L40S: none of them ---


@pytest.fixture(scope="module")
def l40s(gpu_nodes: GpuNodes) -> Node:  # noqa: F811
    (node,) = gpu_nodes("l40s")
    return node


def test_l40s_fabric_manager_is_refused_before_anything_changes(l40s: Node, run: Run) -> None:
    told = reason(run((l40s,), "l40s", platform={"needs_fabric_manager": True}, imex={"enabled": True}), l40s)
    assert "NVLINK-FM: Fabric Manager is asked for on L40S and no NVSwitch was found" in told
    assert "NVLINK-IMEX: IMEX is asked for on L40S" in told
    assert l40s.sh("dpkg-query -W -f '${Package}\\n' 'nvidia-fabric*' 2>/dev/null; true") == ""


def test_l40s_gets_none_of_them_and_one_that_was_there_is_switched_off(l40s: Node, run: Run) -> None:
    assert run((l40s,), "l40s").failed() == {}
    assert l40s.sh("dpkg-query -W -f '${Package}\\n' 'nvidia-fabric*' 'nvidia-imex*' nvlsm 2>/dev/null; true") == ""
    l40s.sh(f"apt-get install -y -q nvidia-fabricmanager={NEW}-1 && systemctl enable nvidia-fabricmanager")
    l40s.sh("systemctl start nvidia-fabricmanager; true")
    assert changed(run((l40s,), "l40s")) == 1
    assert l40s.sh("systemctl is-enabled nvidia-fabricmanager; systemctl is-failed nvidia-fabricmanager; true") == (
        "disabled\ninactive"
    )
    assert changed(run((l40s,), "l40s")) == 0


def test_l40s_kernel_line_is_written_and_in_force_after_one_restart(l40s: Node, run: Run) -> None:
    argument = {"argument": "iommu=pt", "reason": "GPUs reach each other without translation"}
    assert any("belong to the machine below" in note for note in run((l40s,), "l40s").notes)
    l40s.sh(PRETEND)
    l40s.sh("touch /etc/default/grub")  # every Debian has it
    boot = boot_id(l40s)
    changes: dict[str, Any] = {"platform": {"kernel_arguments": [argument]}}
    result = run((l40s,), "l40s", **changes)
    assert result.failed() == {}
    assert any("kernel argument iommu=pt is not in force yet" in note for note in result.notes)
    assert json.loads(l40s.sh("cat /etc/aifactory/reboot.d/gpu-kernel-line.json")) == [{"kind": "argument", **argument}]
    assert boot_id(l40s) != boot
    assert "iommu=pt" in l40s.sh("cat /proc/cmdline").split()
    result = run((l40s,), "l40s", **changes)
    assert changed(result) == 0
    assert not any("not in force" in note for note in result.notes)
