"""The driver module's decisions. Real: its functions, files, and a node whose apt, dpkg and kernel are written down.

Golden files hold the plan and the commands of each distribution. Nothing is installed here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from aifactory import paths

from tests.unit.playbooks.test_aifactory_repository import load, vendor

driver: Any = load("ansible.module_utils.aifactory_driver", "module_utils")
restart: Any = load("ansible.module_utils.aifactory_restart", "module_utils")
module: Any = load("aifactory_gpu_driver", "library")

GOLDEN = paths.PLAYBOOKS.parent / "tests/golden/driver_plans"
DISTRIBUTIONS = {
    "debian12": ('ID=debian\nVERSION_ID="12"\n', "6.1.0-41-amd64"),
    "debian13": ('ID=debian\nVERSION_ID="13"\n', "6.12.57+deb13-amd64"),
    "ubuntu2204": ('ID=ubuntu\nVERSION_ID="22.04"\n', "6.8.0-85-generic"),
    "ubuntu2404": ('ID=ubuntu\nVERSION_ID="24.04"\n', "6.8.0-85-generic"),
    "rhel9": ('ID="rocky"\nVERSION_ID="9.6"\n', "5.14.0-570.58.1.el9_6.x86_64"),
    "rhel10": ('ID="rhel"\nVERSION_ID="10.1"\n', "6.12.0-124.8.1.el10_1.x86_64"),
    "amzn2023": ('ID="amzn"\nVERSION_ID="2023"\n', "6.12.55-74.119.amzn2023.x86_64"),
}
H100 = {"name": "H100 SXM5", "first_driver": "525.47.07", "open_modules": True, "open_modules_required": False}
B200 = {
    "name": "B200", "first_driver": "570.133.20", "open_modules": True, "open_modules_required": True,
    "needs_nvlsm": True,
}  # fmt: skip
B300 = {**B200, "name": "B300", "first_driver": "580.82.07"}
CASES = {
    "h100-580-open": (H100, {"branch": "580", "version": "580.178.04", "modules": "open"}),
    "h100-580-proprietary": (H100, {"branch": "580", "version": "580.178.04", "modules": "proprietary"}),
    "h100-570-open": (H100, {"branch": "570", "version": "570.172.08", "modules": "open"}),
    "h100-595-newest": (H100, {"branch": "595", "version": "", "modules": "open"}),
    "b200-580-open": (B200, {"branch": "580", "version": "580.178.04", "modules": "open"}),
}


def distribution(name: str, machine: str = "x86_64") -> Any:
    return vendor.Distribution(DISTRIBUTIONS[name][0], machine)


def shown(name: str, machine: str) -> str:
    """Plan and commands of every case, as text."""
    parts = []
    for case, (platform, wanted) in CASES.items():
        kernel = DISTRIBUTIONS[name][1].replace("x86_64", machine)
        planned = driver.plan(distribution(name, machine), kernel, wanted, platform)
        apt = planned["family"] == "apt"
        steps = driver.apt_steps(planned, planned["specs"], planned["pinning"][0]) if apt else driver.dnf_steps(planned)
        commands = "".join(
            f"{step}: {'apt-get' if apt else 'dnf'} {' '.join(words)}\n" for step, words in steps.items()
        )
        parts.append(f"## {case}\n{json.dumps(planned, indent=1)}\n{commands}")
    return "\n".join(parts)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_plan_of_each_distribution(name: str, machine: str) -> None:
    file = GOLDEN / f"{name}-{machine}.txt"
    text = shown(name, machine)
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert text == file.read_text(), f"UPDATE_GOLDEN=1 rewrites {file.name}"


@pytest.mark.parametrize(
    ("platform", "wanted", "words"),
    [
        (B300, {"branch": "570", "version": "570.172.08"}, ["needs driver 580.82.07 or later, asked for is 570.172"]),
        (B300, {"branch": "570", "version": ""}, ["asked for is 570"]),
        (B200, {"branch": "570", "version": "570.124.06"}, ["B200 needs driver 570.133.20"]),
        (B200, {"branch": "580", "version": "580.178.04", "modules": "proprietary"}, ["open kernel modules only"]),
        (B300, {"branch": "570", "version": "570.172.08", "modules": "proprietary"}, ["needs driver", "modules only"]),
        (H100, {"branch": "580", "version": "570.172.08"}, ["is not of branch 580"]),
        (H100, {"branch": "latest", "version": ""}, ["no driver branch"]),
        (H100, {"branch": "580", "version": "580"}, ["no full driver version"]),
        ({"open_modules": False}, {"branch": "580", "version": "", "modules": "open"}, ["not driven by the open"]),
    ],
)  # fmt: skip
def test_driver_that_cannot_be_is_refused_with_every_reason(
    platform: dict[str, Any], wanted: dict[str, Any], words: list[str]
) -> None:
    found = driver.refusals(wanted, platform)
    assert len(found) == len(words)
    for sentence, word in zip(found, words, strict=True):
        assert word in sentence


@pytest.mark.parametrize(
    ("platform", "wanted"),
    [(B200, {"branch": "570", "version": ""}), *CASES.values(), ({}, {"branch": "580", "version": "580.95.05"})],
)
def test_driver_that_fits_is_not_refused(platform: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert driver.refusals(wanted, platform) == []


def test_branch_past_its_end_is_a_warning_with_the_date() -> None:
    old = {"branch": "570", "end_of_life": "2026-02-28"}
    assert "ended on 2026-02-28" in driver.expired(old, "2026-03-01")[0]
    assert driver.expired(old, "2026-02-28") == []
    assert driver.expired({"branch": "575", "end_of_life": ""}, "2026-03-01") == []


def test_modprobe_file_gives_each_line_its_reason() -> None:
    assert driver.modprobe_text(
        {"options nvidia NVreg_CoherentGPUMemoryMode=driver": "containers\nsee it as a device"}
    ) == (
        "# aifactory: written by the playbooks; changes are undone.\n"
        "# nouveau keeps NVIDIA's driver from the GPUs\nblacklist nouveau\noptions nouveau modeset=0\n"
        "# containers see it as a device\noptions nvidia NVreg_CoherentGPUMemoryMode=driver\n"
    )


def test_options_become_checks_of_the_loaded_module() -> None:
    options = driver.checks(['options nvidia NVreg_A=1 NVreg_B="x"', "softdep nvidia pre: ib_umad"])[3:]
    assert [(check["name"], check["value"]) for check in options] == [("NVreg_A", "1"), ("NVreg_B", "x")]


@pytest.mark.parametrize(
    ("line", "state"),
    [
        ("nvidia/580.178.04, 6.8.0-85-generic, x86_64: installed", "installed"),
        ("nvidia/580.178.04, 6.8.0-85-generic, x86_64: installed (original_module exists)", "installed"),
        ("nvidia, 580.178.04, 6.8.0-85-generic, x86_64: built", "built"),
        ("nvidia/580.178.04: added", "added"),
        ("nvidia/580.178.04, 6.8.0-79-generic, x86_64: installed", ""),
        ("nvidia/580.126.20, 6.8.0-85-generic, x86_64: installed", ""),
        ("mlnx-ofed-kernel/25.10, 6.8.0-85-generic, x86_64: installed", ""),
    ],
)
def test_dkms_state_is_that_of_the_kernel_that_boots(line: str, state: str) -> None:
    assert driver.dkms_state(line + "\n", "580.178.04", "6.8.0-85-generic") == state


def test_family_is_the_driver_and_nothing_beside_it() -> None:
    names = {
        "libcuda1": "580.178.04-1", "nvidia-kernel-open-dkms": "580.178.04-1", "libnvidia-ml1": "3:580.178.04-1ubuntu1",
        "nvidia-firmware-580-580.178.04": "580.178.04-1ubuntu1", "firmware-nvidia-gsp": "580.178.04-1",
        "nvidia-fabricmanager": "580.178.04-1", "nvidia-fabricmanager-570": "570.172.08-1", "libnvsdm": "580.178.04-1",
        "nvidia-container-toolkit": "1.18.2-1", "nvidia-kernel-common": "20240109+1",
        "nvidia-driver-pinning-580": "580-1",
        "linux-modules-nvidia-580-server-open-generic": "6.8.0-85.85", "cuda-toolkit-13-0": "13.0.2-1",
    }  # fmt: skip
    pins = driver.plan(distribution("debian13"), "6.12", CASES["h100-580-open"][1], H100)["pins"]
    found = driver.family({name: (version, True) for name, version in names.items()}, pins)
    assert set(found) == {
        "libcuda1",
        "nvidia-kernel-open-dkms",
        "libnvidia-ml1",
        "nvidia-firmware-580-580.178.04",
        "firmware-nvidia-gsp",
    }
    assert set(found.values()) == {"580.178.04"}


# ---- reasons for a restart


class Machine:
    """A folder that stands for a node's files, and what its programs print."""

    def __init__(self, root: Path) -> None:
        self.root, self.disk, self.kernel, self.license = root, "580.178.04", "6.8.0-85-generic", "Dual MIT/GPL"
        self.calls: list[list[str]] = []

    def write(self, path: str, text: str) -> Machine:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)
        return self

    def run(self, command: Sequence[str], _timeout_s: float) -> tuple[int, str, str]:
        self.calls.append(list(command))
        if command[0] == "modinfo":
            value = {"version": self.disk, "license": self.license, "srcversion": "NEW"}[command[2]]
            return (0, value + "\n", "") if value else (1, "", "modinfo: ERROR: Module nvidia not found.")
        if command[0] == "uname":
            return 0, self.kernel + "\n", ""
        return 127, "", "no such program"

    def reasons(self, *checks: dict[str, str]) -> list[str]:
        found: list[str] = restart.reasons(list(checks), self.run, str(self.root))
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path).write("sys/module/nvidia/version", "580.178.04\n")


NVIDIA = {"kind": "nvidia"}


def test_driver_that_runs_as_installed_needs_no_restart(machine: Machine) -> None:
    machine.write("usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.178.04", "")
    machine.write("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.178.04")
    assert machine.reasons(NVIDIA) == []


def test_module_on_disk_that_is_not_the_loaded_one_needs_a_restart(machine: Machine) -> None:
    machine.disk = "580.126.20"
    assert machine.reasons(NVIDIA) == ["driver 580.178.04 is loaded, 580.126.20 is installed"]


def test_library_that_is_not_the_loaded_module_needs_a_restart(machine: Machine) -> None:
    machine.write("usr/lib64/libnvidia-ml.so.580.95.05", "").write("usr/lib64/libnvidia-ml.so.1", "")
    assert machine.reasons(NVIDIA) == [
        "driver 580.178.04 is loaded, its libraries are 580.95.05 (Driver/library version mismatch)"
    ]


def test_loaded_flavour_that_is_not_the_installed_one_needs_a_restart(machine: Machine) -> None:
    machine.write("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.178.04")
    assert machine.reasons(NVIDIA) == ["the proprietary kernel modules are loaded, the open ones are installed"]


def test_no_module_needs_no_restart(tmp_path: Path) -> None:
    assert Machine(tmp_path).reasons(NVIDIA) == []


@pytest.mark.parametrize(
    ("name", "value", "needed"),
    [
        ("NVreg_CreateImexChannel0", "1", True),
        ("NVreg_CreateImexChannel0", "0", False),
        ("NVreg_CoherentGPUMemoryMode", "driver", False),
        ("NVreg_CoherentGPUMemoryMode", "numa", True),
        ("NVreg_NotListed", "1", False),
    ],
)
def test_option_that_the_module_was_not_loaded_with(machine: Machine, name: str, value: str, needed: bool) -> None:
    machine.write("proc/driver/nvidia/params", 'CreateImexChannel0: 0\nCoherentGPUMemoryMode: "driver"\n')
    found = machine.reasons({"kind": "option", "module": "nvidia", "name": name, "value": value})
    assert bool(found) == needed


def test_option_of_another_module_is_read_from_sysfs(machine: Machine) -> None:
    machine.write("sys/module/nvidia_uvm/parameters/uvm_disable_hmm", "N\n")
    check = {"kind": "option", "module": "nvidia_uvm", "name": "uvm_disable_hmm"}
    assert machine.reasons({**check, "value": "0"}) == []
    assert len(machine.reasons({**check, "value": "1"})) == 1


def test_argument_that_the_kernel_was_started_without(machine: Machine) -> None:
    machine.write("proc/cmdline", "BOOT_IMAGE=/x ro iommu=pt quiet\n")
    assert machine.reasons({"kind": "argument", "argument": "iommu=pt", "reason": "r"}) == []
    found = machine.reasons({"kind": "argument", "argument": "pci=realloc=off", "reason": "BARs stay"})
    assert found == ["the kernel was started without pci=realloc=off (BARs stay)"]


def test_module_that_must_not_be_there_and_module_of_another_build(machine: Machine) -> None:
    machine.write("sys/module/nouveau/refcnt", "0").write("sys/module/mlx5_core/srcversion", "OLD")
    assert machine.reasons({"kind": "absent", "name": "nouveau", "reason": "r"}) == ["module nouveau is loaded: r"]
    assert machine.reasons({"kind": "module", "name": "mlx5_core"}) == [
        "module mlx5_core: srcversion OLD is loaded, NEW is on disk"
    ]
    assert machine.reasons({"kind": "module", "name": "amdgpu"}) == []


def test_kernel_that_boots_next_is_not_the_one_that_runs(machine: Machine) -> None:
    assert machine.reasons({"kind": "kernel"}) == []  # no kernel in /boot: a container
    machine.write("boot/vmlinuz-6.8.0-85-generic", "").write("boot/vmlinuz-6.8.0-9-generic", "")
    assert machine.reasons({"kind": "kernel"}) == []
    machine.write("boot/vmlinuz-6.8.0-110-generic", "")
    assert machine.reasons({"kind": "kernel"}) == ["kernel 6.8.0-85-generic runs, 6.8.0-110-generic boots next"]
    machine.write("etc/default/grub", 'GRUB_DEFAULT="1>2"\n')
    assert machine.reasons({"kind": "kernel"}) == []  # somebody chose it by hand


def test_checks_of_every_layer_are_read_and_a_broken_file_is_named(machine: Machine) -> None:
    machine.write("etc/aifactory/reboot.d/gpu.json", '[{"kind": "nvidia"}]').write(
        "etc/aifactory/reboot.d/a.json", "[]"
    )
    assert restart.declared(str(machine.root)) == {"a": [], "gpu": [NVIDIA]}
    machine.write("etc/aifactory/reboot.d/gpu.json", "[")
    with pytest.raises(ValueError, match=r"gpu\.json is not a list of checks"):
        restart.declared(str(machine.root))
    with pytest.raises(ValueError, match="not known"):
        machine.reasons({"kind": "moon"})


# ---- the module on a node that is written down


class AptNode(Machine):
    """A Debian node: packages, what the repository serves, what is held. Installs like apt, when it is told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.packages: dict[str, tuple[str, str, str]] = {}
        self.serves = ["570.172.08", "580.126.20", "580.178.04"]
        self.held: set[str] = set()
        self.down = self.refuses = False
        self.pinning = True
        self.disk = ""
        self.write("etc/os-release", DISTRIBUTIONS["debian13"][0])
        self.write("etc/apt/sources.list.d/x", "").write("var/lib/dpkg/updates/x", "")
        self.write("run/systemd/system/x", "")

    @property
    def names(self) -> list[str]:
        return ["nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-persistenced", "libcuda1"]

    def run(self, command: Sequence[str], timeout_s: float) -> tuple[int, str, str]:
        answer = {
            "dpkg-query": self._query, "apt-cache": self._madison, "apt-mark": self._mark, "apt-get": self._apt,
            "dpkg": self._configure, "modprobe": self._modprobe,
        }.get(command[0])  # fmt: skip
        return answer(list(command)) if answer else super().run(command, timeout_s)

    def _query(self, _command: list[str]) -> tuple[int, str, str]:
        rows = (f"{name}\t{version}\t{status}\t{flag}" for name, (version, status, flag) in self.packages.items())
        return 0, "\n".join(rows) + "\n", ""

    def _madison(self, command: list[str]) -> tuple[int, str, str]:
        known = {name: [f"{v}-1" for v in reversed(self.serves)] for name in self.names}
        if self.pinning:
            known.update({f"nvidia-driver-pinning-{v}": [f"{v}-1"] for v in self.serves})
            known.update({f"nvidia-driver-pinning-{v[:3]}": [f"{v[:3]}-1"] for v in self.serves})
        rows = (f" {name} | {v} | http://x Packages" for name in command[2:] for v in known.get(name, []))
        return 0, "\n".join(rows) + "\n", ""

    def _mark(self, command: list[str]) -> tuple[int, str, str]:
        if command[1] == "hold":
            self.held |= set(command[2:])
        return 0, "\n".join(sorted(self.held)), ""

    def _configure(self, command: list[str]) -> tuple[int, str, str]:
        self.calls.append(command)
        self.packages = {name: (v, "installed", "ok") for name, (v, _s, _f) in self.packages.items()}
        return 0, "", ""

    def _modprobe(self, command: list[str]) -> tuple[int, str, str]:
        self.calls.append(command)
        if self.refuses:
            return 1, "", "modprobe: ERROR: could not insert 'nvidia': Key was rejected by service"
        self.write("sys/module/nvidia/version", self.disk + "\n")
        return 0, "", ""

    def _apt(self, command: list[str]) -> tuple[int, str, str]:
        words = [word for word in command if word not in vendor.APT]
        dry = bool({"--simulate", "--download-only"} & set(words))
        self.calls.append(command if dry else ["apt-get", *(word for word in words if not word.startswith("-"))])
        if self.down:
            return 100, "", "E: Failed to fetch http://x"
        packages = words[words.index("install") + 1 :] if "install" in words and not dry else []
        for word in packages:
            name, _equals, version = word.partition("=")
            if name.endswith("-"):
                self.packages.pop(name[:-1], None)
            else:
                self.packages[name] = (version or "1", "installed", "ok")
            if name == "nvidia-driver-cuda":
                self.packages["libcuda1"] = (version, "installed", "ok")
            if name == "nvidia-kernel-open-dkms":
                self.disk = driver.upstream(version)
        if "update" in words:
            self.write("var/lib/apt/lists/x_debian13_x86%5f64_InRelease", "")
        return 0, "", ""

    def converge(self, version: str = "580.178.04", check: bool = False, **more: Any) -> Any:
        params = {
            "driver": {"branch": version[:3], "version": version if "." in version else "", "modules": "open"},
            "platform": H100, "secure_boot": "disabled", "imex_channel0": False,
            "repository": {"url": "http://x", "fingerprint": "A" * 40}, **more,
        }  # fmt: skip
        node = module.Node(params, check, self.run, str(self.root))
        node.repository._key_here = lambda _root: b"key"
        node.converge()
        return node

    def tree(self) -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in self.root.rglob("*") if p.is_file()}

    def state(self) -> tuple[Any, ...]:
        return self.tree(), dict(self.packages), set(self.held)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AptNode:
    monkeypatch.setattr(module.shutil, "which", lambda _name: None)
    monkeypatch.setattr(vendor, "primary_fingerprints", lambda _key: ["A" * 40])
    return AptNode(tmp_path)


def versions(node: AptNode) -> set[str]:
    return {node.packages[name][0] for name in node.names}


def test_fresh_node_gets_pinning_before_the_driver_and_everything_held(node: AptNode) -> None:
    done = node.converge()
    installs = [call[1:] for call in node.calls if call[0] == "apt-get" and call[1] == "install"]
    assert installs[0] == ["install", "nvidia-driver-pinning-580.178.04"]
    assert installs[1][:2] == ["install", f"linux-headers-{node.kernel}"]
    assert versions(node) == {"580.178.04-1"}
    assert set(node.names) | {f"linux-headers-{node.kernel}"} <= node.held
    assert "nvidia-driver-pinning-580.178.04" in node.packages
    assert "modprobe nvidia" in done.actions
    assert done.reboot() == []


def test_everything_is_asked_for_and_downloaded_before_the_first_change(node: AptNode) -> None:
    node.converge()
    order = [next(word for word in ("--simulate", "--download-only", "install") if word in call)
             for call in node.calls if call[0] == "apt-get" and "install" in call]  # fmt: skip
    assert order == ["--simulate", "--download-only", "install", "install"]


def test_second_run_changes_nothing(node: AptNode) -> None:
    node.converge()
    before, node.down = node.state(), True
    for check in (False, True):
        assert node.converge(check=check).actions == []
    assert node.state() == before


@pytest.mark.parametrize("start", ["", "570.172.08"])
def test_check_mode_says_what_the_run_does_and_does_nothing(node: AptNode, start: str) -> None:
    if start:
        node.converge(start)
    before, node.down = node.state(), True
    preview = node.converge(check=True)
    assert node.state() == before
    node.down = False
    done = node.converge()
    said = {
        action for action in preview.actions if action.startswith(("install nvidia", "remove", "write", "modprobe"))
    }
    did = {action for action in done.actions if action.startswith(("install nvidia", "remove", "write", "modprobe"))}
    assert said == did


def test_upgrade_and_back_move_the_whole_driver_and_ask_for_a_restart(node: AptNode) -> None:
    node.converge("570.172.08")
    for version in ("580.126.20", "580.178.04", "580.126.20", "570.172.08"):
        node.converge(version)
        assert versions(node) == {f"{version}-1"}
        assert [name for name in node.packages if "pinning" in name] == [f"nvidia-driver-pinning-{version}"]
    done = node.converge("580.178.04")
    assert done.reboot() == ["driver 570.172.08 is loaded, 580.178.04 is installed"]
    assert ["modprobe", "nvidia"] in node.calls
    assert len([call for call in node.calls if call[0] == "modprobe"]) == 1


def test_without_a_version_the_newest_of_the_branch_is_installed_once(node: AptNode) -> None:
    node.serves = ["580.126.20"]
    assert node.converge("580").version == "580.126.20"
    node.serves = ["580.126.20", "580.178.04"]
    assert node.converge("580").version == "580.126.20"
    assert versions(node) == {"580.126.20-1"}


def test_mirror_without_pinning_packages_will_do(node: AptNode) -> None:
    node.pinning = False
    node.converge()
    assert versions(node) == {"580.178.04-1"}
    assert node.converge().actions == []


def test_repository_with_another_version_is_told_with_what_it_has(node: AptNode) -> None:
    node.serves = ["570.172.08", "580.126.20"]
    with pytest.raises(vendor.Refused) as refused:
        node.converge()
    assert "has no nvidia-driver-cuda 580.178.04" in str(refused.value)
    assert "it serves 570.172.08, 580.126.20" in str(refused.value)
    assert (node.packages, node.held) == ({}, set())


def test_repository_that_is_down_leaves_the_driver_that_was_there(node: AptNode) -> None:
    node.converge("570.172.08")
    packages, node.down = dict(node.packages), True
    with pytest.raises(vendor.Refused, match="Failed to fetch"):
        node.converge()
    assert node.packages == packages


def test_package_run_that_was_killed_is_completed(node: AptNode) -> None:
    node.converge()
    node.packages["nvidia-kernel-open-dkms"] = ("580.178.04-1", "half-configured", "ok")
    assert "complete an interrupted package run" in node.converge(check=True).actions[0]
    done = node.converge()
    assert done.actions == ["complete an interrupted package run (dpkg --configure -a)"]
    assert all(status == "installed" for _version, status, _flag in node.packages.values())


def test_everything_that_speaks_against_it_is_told_before_anything_changes(node: AptNode) -> None:
    before = node.state()
    with pytest.raises(vendor.Refused) as refused:
        node.converge(
            "570.172.08", platform=B300, secure_boot="enabled", repository={"url": "x", "fingerprint": "3BF863CC"}
        )
    for words in ("B300 needs driver 580.82.07", "Secure Boot is on", "mokutil", "no http", "full fingerprint"):
        assert words in str(refused.value)
    assert node.state() == before


def test_secure_boot_with_an_enrolled_key_is_fine(node: AptNode) -> None:
    node.write("var/lib/dkms/mok.pub", "key")
    run = node.run
    node.run = lambda words, s: (0, "is already enrolled", "") if words[0] == "mokutil" else run(words, s)  # type: ignore[method-assign]
    node.converge(secure_boot="enabled")
    assert versions(node) == {"580.178.04-1"}


def test_module_that_the_kernel_rejects_is_told_with_what_to_do(node: AptNode) -> None:
    node.refuses = True
    with pytest.raises(vendor.Refused, match=r"Key was rejected by service.*turn Secure Boot off"):
        node.converge()


def test_nouveau_in_the_way_is_a_reason_and_not_an_attempt(node: AptNode) -> None:
    node.write("sys/module/nouveau/refcnt", "1")
    done = node.converge()
    assert ["modprobe", "nvidia"] not in node.calls
    assert done.reboot() == ["module nouveau is loaded: nouveau keeps NVIDIA's driver from the GPUs"]


def test_image_that_is_built_gets_the_driver_and_loads_nothing(node: AptNode) -> None:
    (node.root / "run/systemd/system/x").unlink()
    (node.root / "run/systemd/system").rmdir()
    node.converge()
    assert versions(node) == {"580.178.04-1"}
    assert ["modprobe", "nvidia"] not in node.calls


def test_distribution_with_its_own_key_uses_that_one(node: AptNode) -> None:
    params = {
        "driver": {"branch": "580"}, "platform": H100, "secure_boot": "unknown", "imex_channel0": True,
        "repository": {"url": "http://x", "fingerprint": "A" * 40, "fingerprints": {"debian13": "B" * 40}},
    }  # fmt: skip
    made = module.Node(params, True, node.run, str(node.root))
    assert made.repository.fingerprint == "B" * 40
    assert "options nvidia NVreg_CreateImexChannel0=1" in made.modprobe


class DnfNode(Machine):
    """A RHEL 9 node that remembers what dnf was told."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.rpms: dict[str, str] = {}
        self.kernel = DISTRIBUTIONS["rhel9"][1]
        self.write("etc/os-release", DISTRIBUTIONS["rhel9"][0])

    def run(self, command: Sequence[str], timeout_s: float) -> tuple[int, str, str]:
        if command[0] == "rpm":
            return 1, "".join(f"{name} {v} 1.el9.noarch\n" for name, v in self.rpms.items()), ""
        if command[0] != "dnf":
            return (0, "", "") if command[0] == "modprobe" else super().run(command, timeout_s)
        words = [word for word in command if word not in vendor.DNF]
        self.calls.append(words)
        if "--downloadonly" in words or "makecache" in words:
            return 0, "", ""
        if words[:2] == ["versionlock", "add"]:
            lock = self.root / "etc/dnf/plugins/versionlock.list"
            old = lock.read_text() if lock.exists() else ""
            self.write("etc/dnf/plugins/versionlock.list", old + "".join(f"{word}-3:x\n" for word in words[2:]))
        if words[:2] == ["versionlock", "delete"]:
            self.write("etc/dnf/plugins/versionlock.list", "kernel-core-0:5.14\n")
        if words[:2] == ["module", "enable"]:
            stream = words[2].partition(":")[2]
            self.write("etc/dnf/modules.d/nvidia-driver.module", f"[nvidia-driver]\nstream={stream}\nstate=enabled\n")
        for verb in ("install", "downgrade"):
            for word in words[words.index(verb) + 1 :] if verb in words else []:
                name, _dash, version = word.rpartition("-") if word.startswith(("nvidia", "kmod")) else (word, "", "1")
                self.rpms[name] = version
                if word.startswith("kernel-devel"):
                    self.rpms["kernel-devel"] = "5"
        return 0, "", ""

    converge = AptNode.converge


@pytest.fixture
def rhel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DnfNode:
    monkeypatch.setattr(module.shutil, "which", lambda _name: None)
    monkeypatch.setattr(vendor, "primary_fingerprints", lambda _key: ["A" * 40])
    return DnfNode(tmp_path)


def steps(node: DnfNode) -> list[str]:
    return [" ".join(word for word in call if not word.startswith("-")) for call in node.calls if call[0] != "modinfo"]


def test_rhel_node_changes_its_stream_before_the_driver_and_locks_it(rhel: DnfNode) -> None:
    rhel.write("etc/dnf/modules.d/nvidia-driver.module", "[nvidia-driver]\nstream=570-open\nstate=enabled\n")
    rhel.converge()
    told = [step for step in steps(rhel) if not step.startswith(("uname", "grubby", "makecache"))]
    wanted = "nvidia-driver-cuda-580.178.04 kmod-nvidia-open-dkms-580.178.04"
    assert told == [
        f"install kernel-devel-{rhel.kernel} dkms python3-dnf-plugin-versionlock",
        "module reset nvidia-driver",
        "module enable nvidia-driver:580-open",
        "versionlock add *nvidia*580.178.04* *nvsdm*580.178.04*",
        f"install {wanted}",
        f"install {wanted}",
        "versionlock add kernel-core",
    ]


def test_rhel_node_goes_back_with_downgrade(rhel: DnfNode) -> None:
    rhel.converge()
    rhel.calls.clear()
    rhel.converge("580.126.20")
    assert "versionlock delete *nvidia* *nvsdm*" in steps(rhel)
    assert any(step.startswith("downgrade nvidia-driver-cuda-580.126.20") for step in steps(rhel))
