"""Power limit, profile, persistence, kernel line. Real: files below a folder; commands are answered here.

The answers of `nvidia-smi power-profiles` are those recorded in NVIDIA/k8s-test-infra (driver 580.65.06).
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aifactory import paths

SPEC = importlib.util.spec_from_file_location("aifactory_gpu_power", paths.PLAYBOOKS / "library/aifactory_gpu_power.py")
assert SPEC is not None
assert SPEC.loader is not None
power: Any = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(power)

PROFILES = ["0. Max-P", "1. Max-Q", "2. Compute", "5. Balanced", "6. LLM Inference", "7. LLM Training", "13. HPC"]
UNIT = f"etc/systemd/system/{power.UNIT}"
PERSISTENCED = (
    "[Service]\nType=forking\nExecStart=/usr/bin/nvidia-persistenced --user nvidia-persistenced {} --verbose\n"
)
NUMA = {"argument": "numa_balancing=disable", "reason": "pages must not move under a GPU"}
PARAMETERS = {
    "vendor": "nvidia", "cap_w": 0, "profile": "", "governor": "performance", "hugepages": 0,
    "kernel_arguments": [], "waits": "", "command_timeout_s": 60,
}  # fmt: skip


class Machine:
    """Two GPUs, systemd and a boot loader, as far as the module asks them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.limits, self.bounds = [700.0, 700.0], (200.0, 1000.0)
        self.requested: list[int] = []
        self.held: float | None = None
        self.enforced_profile: int | None = None
        self.container, self.hangs, self.loader = False, False, "grub"
        self.active: set[str] = set()
        self.enabled: set[str] = set()
        self.kernels = ["ro quiet", "ro single"]
        self.asked: list[str] = []
        self.put("usr/lib/systemd/system/nvidia-persistenced.service", PERSISTENCED.format("--no-persistence-mode"))
        self.put("proc/cmdline", "ro quiet\n")
        self.put("proc/sys/kernel/numa_balancing", "1\n")
        self.put("proc/sys/vm/nr_hugepages", "0\n")
        self.put("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "schedutil\n")
        (root / "run/systemd/system").mkdir(parents=True)
        (root / "boot/loader/entries").mkdir(parents=True)
        (root / "boot/grub").mkdir(parents=True)
        (root / "boot/grub/grub.cfg").write_text("\tlinux\t/vmlinuz root=/dev/sda1 ro quiet\n")

    def put(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def __call__(self, command: list[str], _timeout_s: float) -> tuple[int | None, str]:
        self.asked.append(" ".join(command))
        answer = getattr(self, Path(command[0]).name.replace("-", "_"))(*command[1:])
        return answer if isinstance(answer, tuple) else (0, answer or "")

    def systemd_detect_virt(self, *_words: str) -> tuple[int, str]:
        return (0 if self.container else 1), ""

    def nvidia_smi(self, *words: str) -> Any:
        if self.hangs:
            return None, ""
        if words[0].startswith("--query-gpu"):
            low, high = self.bounds
            rows = [f"{i}, 700.00, {self.held or w:.2f}, {low:.2f}, {high:.2f}" for i, w in enumerate(self.limits)]
            return "\n".join(rows) + "\n"
        if "-pl" in words:
            for index in [int(words[1])] if words[0] == "-i" else range(2):
                self.limits[index] = float(words[words.index("-pl") + 1])
            return ""
        return self.power_profiles(*words)

    def power_profiles(self, *words: str) -> str:
        if words[1] == "-l":
            return "\n".join(PROFILES * 2) + "\n"
        if words[1] == "-cr":
            self.requested.remove(int(words[2]))
            return "Successfully cleared the requested profiles.\n" * 2
        if words[1] == "-sr":
            self.requested.append(int(words[2]))
            return "Successfully set the requested profiles.\n" * 2
        ids = self.requested if words[1] == "-gr" or self.enforced_profile is None else [self.enforced_profile]
        names = [name for name in PROFILES if int(name.split(".")[0]) in ids]
        return "\n".join(names * 2) + "\n" if names else "No profiles are currently engaged.\n"

    def systemctl(self, verb: str, *words: str) -> Any:
        unit = words[-1] if words else ""
        if verb == "show":
            state = "active" if unit in self.active else "inactive"
            return (
                f"ActiveState={state}\nUnitFileState={'enabled' if unit in self.enabled else 'disabled'}\nMainPID=0\n"
            )
        if verb == "enable":
            self.enabled.add(unit)
        if verb == "disable":
            self.enabled.discard(unit)
            self.active.discard(unit)
        if verb == "restart":
            self.active.add(unit)
            if unit == power.UNIT:
                for line in re.findall(r"^ExecStart=(.+)$", (self.root / UNIT).read_text(), re.MULTILINE):
                    if "nvidia-smi" in line:
                        self.nvidia_smi(*line.split()[1:])
                    else:
                        self.put("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n")
        return ""

    def sysctl(self, *words: str) -> str:
        key, value = words[-1].split("=")
        self.put("proc/sys/" + key.replace(".", "/"), value + "\n")
        return ""

    def update_grub(self) -> str:
        more = (self.root / power.GRUB).read_text() if (self.root / power.GRUB).exists() else ""
        found = re.search(r"\$GRUB_CMDLINE_LINUX (.*)\"", more)
        (self.root / "boot/grub/grub.cfg").write_text(
            f"\tlinux\t/vmlinuz root=/dev/sda1 ro quiet {found.group(1) if found else ''}\n"
        )
        return "done"

    def grubby(self, *words: str) -> str:
        if words[0] == "--info=ALL":
            return "".join(f'index={i}\nkernel="/boot/v"\nargs="{words}"\n' for i, words in enumerate(self.kernels))
        kind, _equals, arguments = words[1].partition("=")
        for index, line in enumerate(self.kernels):
            rest = [word for word in line.split() if word not in arguments.split()]
            self.kernels[index] = " ".join(rest + (arguments.split() if kind == "--args" else []))
        return ""

    def journalctl(self, *_words: str) -> str:
        return "last words\n"


Converge = Callable[..., Any]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def converge(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Converge:
    """Runs the module's logic; answers the node, whose `error` is what it failed with."""

    def run(check: bool = False, **changes: Any) -> Any:
        there = {"nvidia-smi", "update-grub" if machine.loader == "grub" else machine.loader}
        monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name in there else None)
        node = power.Tuning({**PARAMETERS, **changes}, check, f"{machine.root}/", machine)
        node.error = ""
        try:
            node.converge()
        except power.PowerError as error:
            node.error = str(error)
        return node

    return run


def test_cap_is_set_at_every_boot_and_read_back(machine: Machine, converge: Converge) -> None:
    node = converge(cap_w=600)
    assert node.error == ""
    text = (machine.root / UNIT).read_text()
    assert "ExecStart=/usr/bin/nvidia-smi -pl 600\n" in text
    assert "After=nvidia-persistenced.service" in text
    assert power.UNIT in machine.enabled & machine.active
    assert [gpu["enforced"] for gpu in node.power["gpus"]] == [600, 600]


def test_second_run_changes_nothing(converge: Converge) -> None:
    wanted = {"cap_w": 600, "profile": "LLM_INFERENCE", "hugepages": 8, "kernel_arguments": [NUMA]}
    assert converge(**wanted).changes
    assert converge(**wanted).changes == []
    assert converge(check=True, **wanted).changes == []


def test_check_mode_says_what_would_change_and_changes_nothing(machine: Machine, converge: Converge) -> None:
    before = sorted(path for path in machine.root.rglob("*") if path.is_file())
    node = converge(check=True, cap_w=600, kernel_arguments=[NUMA])
    assert node.error == ""
    assert len(node.changes) >= 4
    assert sorted(path for path in machine.root.rglob("*") if path.is_file()) == before
    assert machine.limits == [700, 700]


def test_cap_that_the_driver_forgot_is_set_again(machine: Machine, converge: Converge) -> None:
    converge(cap_w=600)
    machine.limits = [700.0, 700.0]
    assert converge(cap_w=600).changes == [f"start {power.UNIT}"]
    assert machine.limits == [600, 600]


def test_cap_out_of_bounds_is_refused_before_anything_changes(machine: Machine, converge: Converge) -> None:
    node = converge(cap_w=1400, profile="Turbo")
    assert "POWER-CAP: GPU 0 takes 200 to 1000 W, power.cap_w is 1400" in node.error
    assert "GPU 1" in node.error
    assert "POWER-PROFILE: the GPUs do not have power profile Turbo; they have Balanced, Compute" in node.error
    assert node.changes == []
    assert machine.limits == [700, 700]


def test_cap_that_is_not_enforced_fails_with_both_values(machine: Machine, converge: Converge) -> None:
    machine.held = 500.0
    node = converge(cap_w=600)
    assert "GPU 0 enforces 500.0 W, set was 600 W" in node.error
    assert "GPU 1" in node.error


def test_cap_taken_away_goes_back_to_the_makers(machine: Machine, converge: Converge) -> None:
    converge(cap_w=600)
    assert converge().error == ""
    assert machine.limits == [700, 700]
    assert "-pl" not in (machine.root / UNIT).read_text()
    converge(governor="")
    assert not (machine.root / UNIT).exists()


@pytest.mark.parametrize("name", ["LLM_INFERENCE", "llm-inference", "LLM Inference"])
def test_profile_is_found_by_its_name_however_written(machine: Machine, converge: Converge, name: str) -> None:
    node = converge(profile=name)
    assert node.error == ""
    assert "power-profiles -sr 6\n" in (machine.root / UNIT).read_text()
    assert machine.requested == [6]


def test_profile_changed_takes_the_one_of_before_back(machine: Machine, converge: Converge) -> None:
    converge(profile="LLM_INFERENCE")
    assert converge(profile="HPC").error == ""
    assert machine.requested == [13]


def test_profile_that_is_not_enforced_is_named(machine: Machine, converge: Converge) -> None:
    machine.enforced_profile = 0
    node = converge(profile="BALANCED")
    assert "POWER-PROFILE: BALANCED was requested and Max-P is enforced on GPUs 0, 1" in node.error


def test_profile_of_a_gpu_without_profiles_is_refused() -> None:
    with pytest.raises(power.PowerError, match="they have none"):
        power.profile_number(
            "HPC", power.parse_profiles("Workload Power Profiles feature is not supported on this device.")
        )


def test_parse_profiles_details_are_no_profiles() -> None:
    text = "0. Max-P\n\tPriority: 10\n\tConflicts with:\n\t\t1. Max-Q\n1. Max-Q\n0. Max-P\n"
    assert power.parse_profiles(text) == [{0: "Max-P", 1: "Max-Q"}, {0: "Max-P"}]


def test_limits_of_a_gpu_without_a_limit_are_refused() -> None:
    limits = power.parse_limits("0, [N/A], [N/A], [N/A], [N/A]\n")
    assert "has no power limit" in power.cap_faults(limits, 100)[0]
    with pytest.raises(power.PowerError, match="names no GPU"):
        power.parse_limits("No devices were found\n")


def test_smi_that_hangs_is_named(machine: Machine, converge: Converge) -> None:
    machine.hangs = True
    assert "SMI-HANG: `nvidia-smi --query-gpu" in converge(cap_w=600).error


def test_persistence_daemon_runs_in_persistence_mode(machine: Machine, converge: Converge) -> None:
    converge()
    drop_in = (machine.root / f"etc/systemd/system/{power.PERSISTENCE}.d/90-aifactory.conf").read_text()
    assert "ExecStart=\nExecStart=/usr/bin/nvidia-persistenced --user nvidia-persistenced --verbose\n" in drop_in
    assert power.PERSISTENCE in machine.enabled & machine.active
    machine.put("usr/lib/systemd/system/nvidia-persistenced.service", PERSISTENCED.format(""))
    converge()
    assert not (machine.root / f"etc/systemd/system/{power.PERSISTENCE}.d/90-aifactory.conf").exists()


def test_persistence_daemon_that_is_not_installed_is_named(machine: Machine, converge: Converge) -> None:
    (machine.root / "usr/lib/systemd/system/nvidia-persistenced.service").unlink()
    assert "PERSISTENCE: nvidia-persistenced.service is not installed" in converge().error


def test_before_the_reboot_the_unit_is_set_up_and_not_started(machine: Machine, converge: Converge) -> None:
    node = converge(cap_w=600, waits="the loaded driver is 570")
    assert node.error == ""
    assert "the loaded driver is 570" in node.notes[0]
    assert power.UNIT in machine.enabled - machine.active
    assert "nvidia-smi --query-gpu" not in " ".join(machine.asked)


def test_before_the_reboot_a_profile_stays_in_the_unit(machine: Machine, converge: Converge) -> None:
    converge(profile="HPC")
    assert converge(profile="HPC", waits="the loaded driver is 570").changes == []


def test_governor_that_somebody_changed_is_set_again(machine: Machine, converge: Converge) -> None:
    converge()
    machine.put("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n")
    assert converge().changes == [f"start {power.UNIT}"]


def test_container_leaves_the_kernel_alone_and_says_so(machine: Machine, converge: Converge) -> None:
    machine.container = True
    node = converge(cap_w=600, hugepages=8, kernel_arguments=[NUMA])
    assert node.error == ""
    assert any("belong to the machine below" in note for note in node.notes)
    assert not (machine.root / power.SYSCTL).exists()
    assert not (machine.root / power.GRUB).exists()
    assert node.reasons == []
    assert "scaling_governor" not in (machine.root / UNIT).read_text()
    assert machine.limits == [600, 600]


def test_kernel_settings_are_in_force_at_once_and_after_a_boot(machine: Machine, converge: Converge) -> None:
    assert converge(hugepages=8, kernel_arguments=[NUMA]).error == ""
    assert (machine.root / "proc/sys/vm/nr_hugepages").read_text() == "8\n"
    assert (machine.root / "proc/sys/kernel/numa_balancing").read_text() == "0\n"
    assert "vm.nr_hugepages = 8\nkernel.numa_balancing = 0\n" in (machine.root / power.SYSCTL).read_text()
    assert (machine.root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text() == "performance\n"


def test_hugepages_that_are_not_there_are_named(
    machine: Machine, converge: Converge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "sysctl", lambda *_words: machine.put("proc/sys/vm/nr_hugepages", "5\n"))
    assert "SYSCTL: vm.nr_hugepages is 5, wanted: 8" in converge(hugepages=8).error


def test_kernel_line_grub_is_written_and_a_reason_for_a_reboot(machine: Machine, converge: Converge) -> None:
    node = converge(kernel_arguments=[NUMA])
    assert node.error == ""
    assert "numa_balancing=disable" in (machine.root / "boot/grub/grub.cfg").read_text()
    assert node.reasons == [
        "kernel argument numa_balancing=disable is not in force yet: pages must not move under a GPU"
    ]
    assert json.loads((machine.root / power.REBOOT).read_text()) == [{"kind": "argument", **NUMA}]
    machine.put("proc/cmdline", "ro quiet numa_balancing=disable\n")
    assert converge(kernel_arguments=[NUMA]).reasons == []
    converge()
    assert not (machine.root / power.REBOOT).exists()
    assert "numa_balancing" not in (machine.root / "boot/grub/grub.cfg").read_text()


def test_kernel_line_update_grub_interrupted_is_done_again(machine: Machine, converge: Converge) -> None:
    converge(kernel_arguments=[NUMA])
    (machine.root / "boot/grub/grub.cfg").write_text("\tlinux\t/vmlinuz ro quiet\n")
    assert converge(kernel_arguments=[NUMA]).changes == ["update-grub"]


def test_kernel_line_grub_that_does_not_take_it_is_named(
    machine: Machine, converge: Converge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "update_grub", lambda: (0, "ok"))
    assert "KERNEL-LINE: update-grub left /boot/grub/grub.cfg without numa_b" in converge(kernel_arguments=[NUMA]).error


def test_kernel_line_grubby_adds_and_takes_back_its_own(machine: Machine, converge: Converge) -> None:
    machine.loader = "grubby"
    assert converge(kernel_arguments=[NUMA]).error == ""
    assert machine.kernels == ["ro quiet numa_balancing=disable", "ro single numa_balancing=disable"]
    assert converge(kernel_arguments=[NUMA]).changes == []
    assert converge().error == ""
    assert machine.kernels == ["ro quiet", "ro single"]


def test_kernel_line_unknown_loader_is_named(machine: Machine, converge: Converge) -> None:
    machine.loader = "none"
    assert "KERNEL-LINE: the boot loader is neither" in converge(kernel_arguments=[NUMA]).error
    machine.put("proc/cmdline", "ro numa_balancing=disable\n")
    assert converge(kernel_arguments=[NUMA]).error == ""


def test_kernel_argument_that_would_break_the_file_is_refused(converge: Converge) -> None:
    node = converge(kernel_arguments=[{"argument": 'a="$(reboot)"', "reason": "x"}])
    assert "is no kernel argument" in node.error


def test_amd_gpu_takes_no_limit_from_this_module(converge: Converge) -> None:
    assert "POWER-VENDOR" in converge(vendor="amd", cap_w=600).error
    assert converge(vendor="amd", kernel_arguments=[NUMA]).error == ""
