"""The container toolkit: which version goes with which engine, and when a CDI specification is out of date.

Real: files, and the forms of the outputs (podman, docker, apt-cache madison, nvidia-smi -L, nvidia-ctk cdi list, the
YAML of `nvidia-ctk cdi generate`, the JSON of `amd-ctk cdi generate`). Not real: the commands, which a table answers.
"""

from __future__ import annotations

import grp
import importlib
import importlib.util
import os
import platform
import stat
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from aifactory import paths


def load(name: str, folder: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, paths.PLAYBOOKS / folder / f"{name.rpartition('.')[2]}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    parent = importlib.import_module(name.rpartition(".")[0]) if "." in name else None
    if parent is not None:
        setattr(parent, name.rpartition(".")[2], module)
    return module


vendor: Any = load("ansible.module_utils.aifactory_vendor", "module_utils")
toolkit: Any = load("aifactory_container_toolkit", "library")

SPEC = """\
---
cdiVersion: {version}
containerEdits:
  deviceNodes:
  - path: /dev/nvidiactl
  - major: 511
    path: /dev/nvidia-uvm
  - path: /dev/nvidia-uvm-tools
    major: {major}
  mounts:
  - containerPath: /usr/lib/x86_64-linux-gnu/libcuda.so.{driver}
    hostPath: /usr/lib/x86_64-linux-gnu/libcuda.so.{driver}
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: "0"
kind: nvidia.com/gpu
"""
SMI = "".join(f"GPU {n}: NVIDIA H100 80GB HBM3 (UUID: GPU-0000-{n})\n" for n in range(2))
MIG = (
    "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-0000-0)\n"
    "  MIG 3g.40gb     Device  0: (UUID: MIG-aaaa)\n"
    "  MIG 1g.10gb     Device  1: (UUID: MIG-bbbb)\n"
    "GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-0000-1)\n"
)
LISTED = "INFO[0000] Found 4 CDI devices\n" + "".join(f"nvidia.com/gpu={n}\n" for n in ("0", "1", "GPU-0000-0", "all"))
MADISON = "".join(
    f" nvidia-container-toolkit-base | {v}-1 | http://r.example debian13/x86_64/  Packages\n"
    for v in ("1.20.0", "1.19.1", "1.19.0", "1.18.2", "1.17.7", "1.17.6")
)


@pytest.mark.parametrize(
    ("engine", "told", "words"),
    [
        ("podman", "podman version 5.4.2", ""),
        ("podman", "podman version 4.3.1", ""),
        ("podman", "podman version 3.4.4", "podman 3.4.4 knows no CDI, 4.1.0 is the first"),
        ("docker", "Docker version 26.1.5+dfsg1, build a72d7cd", ""),
        ("docker", "Docker version 20.10.24+dfsg1, build 297e128", "docker 20.10.24 knows no CDI, 25.0.0"),
        ("podman", "", "podman is not installed"),
    ],
)
def test_engine_without_cdi_is_refused_by_name(engine: str, told: str, words: str) -> None:
    problem = toolkit.engine_problem(engine, toolkit.number(told))
    assert problem.startswith(words)
    assert bool(problem) is bool(words)


@pytest.mark.parametrize(
    ("version", "engine", "engine_version", "fits"),
    [
        ("1.18.2-1", "podman", (4, 9, 3), True),
        ("1.19.0-1", "podman", (4, 9, 3), True),
        ("1.19.1-1", "podman", (4, 9, 3), False),
        ("1.20.0-1", "podman", (4, 9, 3), False),
        ("1.20.0-1", "podman", (5, 4, 2), True),
        ("1.19.1-1", "docker", (26, 1, 5), True),
        ("1.17.7-1", "podman", (5, 4, 2), False),
        ("1.17.7-1", "docker", (26, 1, 5), False),
    ],
)
def test_version_against_the_engine(version: str, engine: str, engine_version: tuple[int, ...], fits: bool) -> None:
    problem = toolkit.version_problem(version, engine, engine_version)
    assert (problem == "") is fits
    if not fits:
        assert version.partition("-")[0] in problem


def fits_podman_4(text: str) -> str:
    problem: str = toolkit.version_problem(text, "podman", (4, 9, 3))
    return problem


OFFERED = ["1.20.0-1", "1.19.1-1", "1.19.0-1", "1.18.2-1"]


@pytest.mark.parametrize(
    ("wanted", "installed", "expected"),
    [
        ("", "", "1.19.0-1"),
        ("", "1.18.2-1", "1.18.2-1"),  # never newer by itself
        ("", "1.20.0-1", "1.19.0-1"),  # what cannot be read is replaced
        ("1.18.2", "1.19.0-1", "1.18.2-1"),
        ("1.18.2-1", "", "1.18.2-1"),
    ],
)
def test_chosen_version(wanted: str, installed: str, expected: str) -> None:
    assert toolkit.choose(wanted, installed, OFFERED, fits_podman_4) == expected


@pytest.mark.parametrize(
    ("wanted", "offered", "words"),
    [
        ("1.20.0", OFFERED, "which podman 4.9.3 cannot read"),
        ("1.18.0", OFFERED, "toolkit 1.18.0 is not in the repositories, which have 1.20.0-1"),
        ("", ["1.20.0-1"], "no version of the container toolkit fits: toolkit 1.20.0 writes CDI 0.7.0"),
        ("", [], "the repositories have none"),
    ],
)
def test_version_that_cannot_be_had_is_refused_with_the_reason(wanted: str, offered: list[str], words: str) -> None:
    with pytest.raises(vendor.Refused) as caught:
        toolkit.choose(wanted, "", offered, fits_podman_4)
    assert words in str(caught.value)


def test_names_of_gpus_and_of_mig_devices() -> None:
    assert toolkit.parse_gpus(SMI) == ["0", "1"]
    assert toolkit.parse_gpus(MIG) == ["0:0", "0:1", "1"]


def test_names_in_the_listing_are_those_of_the_kind() -> None:
    assert toolkit.parse_listed(LISTED, "nvidia.com/gpu") == ["0", "1", "GPU-0000-0", "all"]
    amd = "Found 1 AMD GPU device\namd.com/gpu=all\namd.com/gpu=0\n  /dev/dri/card1\n  /dev/dri/renderD128\n"
    assert toolkit.parse_listed(amd, "amd.com/gpu") == ["all", "0"]


def test_specification_in_yaml_and_json_is_read_alike() -> None:
    yaml = toolkit.parse_spec(SPEC.format(version="0.5.0", driver="580.126.20", major=507))
    assert (yaml["cdi_version"], yaml["driver"]) == ("0.5.0", "580.126.20")
    assert ("/dev/nvidia-uvm-tools", 507) in yaml["nodes"]
    assert ("/dev/nvidiactl", None) in yaml["nodes"]
    json = toolkit.parse_spec('{"cdiVersion": "0.6.0", "kind": "amd.com/gpu", "deviceNodes": [{"path": "/dev/kfd"}]}')
    assert (json["cdi_version"], json["driver"], json["nodes"]) == ("0.6.0", "", [("/dev/kfd", None)])


@pytest.mark.parametrize(
    ("driver", "wanted", "major", "words"),
    [
        ("580.126.20", ["0", "1"], 507, []),
        ("580.178.04", ["0", "1"], 507, ["it mounts libraries of driver 580.126.20, loaded is 580.178.04"]),
        ("580.126.20", ["0", "1", "2"], 507, ["it lacks 2"]),
        ("580.126.20", ["0:0", "0:1", "1"], 507, ["it lacks 0:0, 0:1", "it names 0, which the node has not"]),
        ("580.126.20", ["0", "1"], 236, ["it names /dev/nvidia-uvm-tools with major number 507, the node's is 236"]),
        ("580.126.20", ["0", "1"], None, ["it names /dev/nvidia-uvm-tools, which the node has not"]),
    ],
)
def test_specification_goes_stale_with_driver_gpus_mig_and_device_numbers(
    driver: str, wanted: list[str], major: int | None, words: list[str]
) -> None:
    spec = toolkit.parse_spec(SPEC.format(version="0.5.0", driver="580.126.20", major=507))
    listed = toolkit.parse_listed(LISTED, "nvidia.com/gpu")
    assert toolkit.staleness(spec, driver, wanted, listed, {"/dev/nvidia-uvm-tools": major}) == words
    assert toolkit.staleness(None, driver, wanted, [], {}) == ["there is none"]


def test_specification_from_before_a_module_was_loaded_is_stale() -> None:
    spec = toolkit.parse_spec(SPEC.format(version="0.5.0", driver="580.126.20", major=507))
    spec["nodes"] = [node for node in spec["nodes"] if node[0] != "/dev/nvidia-uvm"]
    listed = toolkit.parse_listed(LISTED, "nvidia.com/gpu")
    given: tuple[Any, ...] = (spec, "580.126.20", [], listed, {})
    told = toolkit.staleness(*given, exact=False, common=["/dev/nvidia-uvm"])
    assert told == ["it lacks /dev/nvidia-uvm"]
    assert toolkit.staleness(*given, exact=False) == []


class Machine:
    """A node of files under `root` and commands that are answered here."""

    def __init__(
        self, root: Path, *, unit: bool = False, podman: str = "5.4.2", check: bool = False, **params: object
    ) -> None:
        self.root, self.unit, self.podman, self.check = root, unit, podman, check
        self.installed, self.held, self.smi, self.listed, self.spec_version = "", False, SMI, LISTED, "0.5.0"
        self.driver = "580.126.20"
        self.ran: list[str] = []
        self.params = {
            "engine": "podman", "vendor": "nvidia", "gpus": 2, "version": "", "generate": True, "timeout_s": 5,
            "cdi": True, "rdma": False, "imex_channels": False, **params,
        }  # fmt: skip
        for node in ("nvidiactl", "nvidia-uvm", "nvidia1", "nvidia0", "infiniband/rdma_cm", "infiniband/uverbs0"):
            (root / "dev" / node).parent.mkdir(parents=True, exist_ok=True)
            (root / "dev" / node).touch()
            (root / "dev" / node).chmod(0o666)
        (root / "usr/bin").mkdir(parents=True)
        (root / "usr/bin/apt-get").touch()
        (root / "sys/module/nvidia").mkdir(parents=True)

    def converge(self) -> Any:
        (self.root / "sys/module/nvidia/version").write_text(self.driver + "\n")
        node = toolkit.Node(self.params, self.check, self.run, str(self.root))
        node.major = lambda path: 507 if path == "/dev/nvidia-uvm-tools" else 511
        node.converge()
        return node

    def write_spec(self, path: str) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(SPEC.format(version=self.spec_version, driver=self.driver, major=507))

    def run(self, command: list[str], _timeout_s: int) -> tuple[int, str, str]:
        line = " ".join(command)
        self.ran.append(line)
        answers = {
            "podman --version": f"podman version {self.podman}",
            "nvidia-smi -L": self.smi,
            "nvidia-ctk cdi list": self.listed,
            "apt-cache madison nvidia-container-toolkit-base": MADISON,
            "apt-mark showhold nvidia-container-toolkit-base": "nvidia-container-toolkit-base" if self.held else "",
            "systemctl list-unit-files --no-legend nvidia-cdi-refresh.service": (
                "nvidia-cdi-refresh.service enabled enabled" if self.unit else ""
            ),
        }
        if line in answers:
            return 0, answers[line], ""
        if command[0] == "dpkg-query":
            found = self.installed if command[-1] == "nvidia-container-toolkit-base" else ""
            return (0, f"installed {found}", "") if found else (1, "", "no packages found")
        if command[0] == "apt-get":
            self.installed = command[-1].partition("=")[2]
        elif command[:2] == ["apt-mark", "hold"]:
            self.held = True
        elif line == "systemctl restart nvidia-cdi-refresh.service":
            self.write_spec("/var/run/cdi/nvidia.yaml")
        elif command[:3] == ["nvidia-ctk", "cdi", "generate"]:
            self.write_spec(command[3].partition("=")[2])
        return 0, "", ""

    def changing(self) -> list[str]:
        return [
            line for line in self.ran if line.startswith(("apt-get", "systemctl restart", "nvidia-ctk cdi generate"))
        ]


def test_fresh_node_gets_package_hold_and_specification_and_then_rests(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    node = machine.converge()
    assert (node.changed, node.toolkit, machine.installed, machine.held) == (True, "1.20.0", "1.20.0-1", True)
    assert node.facts == {
        "toolkit": "1.20.0", "kind": "nvidia.com/gpu", "spec": "/etc/cdi/nvidia.yaml", "cdi_version": "0.5.0",
        "devices": ["0", "1"], "container_devices": ["nvidia.com/gpu=all"],
        "nodes": ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia0", "/dev/nvidia1"], "groups": [],
        "memlock": toolkit.may_lock(),
    }  # fmt: skip
    machine.ran.clear()
    again = machine.converge()
    assert (again.changed, again.stale, machine.changing()) == (False, [], [])
    assert not [line for line in machine.ran if line.startswith("apt-cache")], "a converged node needs no package lists"


def test_refresh_unit_writes_the_specification_where_there_is_one(tmp_path: Path) -> None:
    machine = Machine(tmp_path, unit=True)
    node = machine.converge()
    assert node.facts["spec"] == "/var/run/cdi/nvidia.yaml"
    assert "systemctl restart nvidia-cdi-refresh.service" in machine.ran
    assert not (tmp_path / "etc/cdi/nvidia.yaml").exists()


def test_driver_change_and_mig_change_are_followed(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.converge()
    machine.driver = "580.178.04"
    node = machine.converge()
    assert (node.changed, node.stale) == (True, ["it mounts libraries of driver 580.126.20, loaded is 580.178.04"])
    assert "580.178.04" in (tmp_path / "etc/cdi/nvidia.yaml").read_text()
    assert machine.converge().changed is False
    machine.smi = MIG
    with pytest.raises(vendor.Refused, match="does not describe the node after"):
        machine.converge()
    machine.listed = LISTED.replace("gpu=0\n", "gpu=0:0\nnvidia.com/gpu=0:1\n")
    assert machine.converge().facts["devices"] == ["0:0", "0:1", "1"]


def test_stale_specification_in_the_heavier_folder_is_the_one_that_is_written(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.write_spec("/var/run/cdi/nvidia.yaml")
    machine.driver = "580.178.04"
    machine.converge()
    assert "580.178.04" in (tmp_path / "var/run/cdi/nvidia.yaml").read_text()


def test_missing_gpu_is_refused_with_the_count(tmp_path: Path) -> None:
    with pytest.raises(vendor.Refused, match="names 2 GPUs, wanted 8"):
        Machine(tmp_path, gpus=8).converge()


def test_specification_newer_than_podman_is_refused(tmp_path: Path) -> None:
    machine = Machine(tmp_path, podman="4.9.3")
    machine.spec_version = "0.7.0"
    with pytest.raises(vendor.Refused, match=r"CDI 0\.7\.0, which podman 4\.9\.3 cannot read"):
        machine.converge()


def test_old_podman_gets_the_newest_version_that_it_can_read(tmp_path: Path) -> None:
    machine = Machine(tmp_path, podman="4.9.3")
    machine.converge()
    assert machine.installed == "1.19.0-1"


def test_check_mode_says_so_and_does_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path, check=True)
    node = machine.converge()
    assert (node.changed, node.toolkit, machine.changing(), machine.held) == (True, "", [], False)
    machine.installed, machine.held = "1.20.0-1", True
    node = machine.converge()
    assert (node.changed, node.stale, machine.changing()) == (True, ["there is none"], [])


def test_image_has_the_package_and_asks_no_driver(tmp_path: Path) -> None:
    machine = Machine(tmp_path, generate=False)
    node = machine.converge()
    assert (node.changed, machine.installed) == (True, "1.20.0-1")
    assert not [line for line in machine.ran if line.startswith("nvidia-")]
    assert machine.converge().changed is False


def test_more_devices_than_the_shape_promises_are_fine_on_amd(tmp_path: Path) -> None:
    """A GPU that is partitioned shows several."""
    spec = {"cdi_version": "0.6.0", "driver": "", "nodes": []}
    assert toolkit.staleness(spec, "", ["0"], ["all", "0", "1", "2"], {}, exact=False) == []


def test_container_is_given_rdma_devices_and_imex_channels_when_asked(tmp_path: Path) -> None:
    machine = Machine(tmp_path, rdma=True)
    facts = machine.converge().facts
    assert facts["container_devices"] == ["nvidia.com/gpu=all", "/dev/infiniband/uverbs0", "/dev/infiniband/rdma_cm"]
    assert facts["nodes"][-2:] == ["/dev/infiniband/uverbs0", "/dev/infiniband/rdma_cm"]
    machine.params.update(rdma=False, imex_channels=True)
    with pytest.raises(vendor.Refused, match="there is no IMEX channel"):
        machine.converge()
    channel = tmp_path / "dev/nvidia-caps-imex-channels/channel0"
    channel.parent.mkdir()
    channel.touch()
    assert machine.converge().facts["container_devices"][1:] == ["/dev/nvidia-caps-imex-channels/channel0"]


def test_rdma_without_devices_is_refused(tmp_path: Path) -> None:
    machine = Machine(tmp_path, rdma=True)
    (tmp_path / "dev/infiniband/uverbs0").unlink()
    (tmp_path / "dev/infiniband/rdma_cm").unlink()
    with pytest.raises(vendor.Refused, match=r"there is no /dev/infiniband/uverbs\*: run the layer fabric"):
        machine.converge()


def test_of_two_specifications_the_one_that_engines_take_counts(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.write_spec("/etc/cdi/nvidia.yaml")
    machine.write_spec("/var/run/cdi/nvidia.yaml")
    assert machine.converge().facts["spec"] == "/var/run/cdi/nvidia.yaml"


def test_gpu_without_a_device_node_is_refused(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (tmp_path / "dev/nvidia1").unlink()
    with pytest.raises(vendor.Refused, match=r"1 GPUs have a device node \(/dev/nvidia0\), wanted 2"):
        machine.converge()


@pytest.mark.parametrize(
    ("mode", "gid", "kept"),
    [(0o660, 44, True), (0o666, 44, False), (0o600, 44, False), (0o640, 44, False), (0o660, 0, False)],
)
def test_device_that_is_kept_for_a_group(mode: int, gid: int, kept: bool) -> None:
    assert toolkit.kept_for_group(stat.S_IFCHR | mode, gid) is kept


def test_groups_of_devices_are_told_by_name(tmp_path: Path) -> None:
    machine = Machine(tmp_path, rdma=True)
    assert machine.converge().facts["groups"] == []
    device, gid = tmp_path / "dev/infiniband/uverbs0", os.getegid() or 44
    os.chown(device, -1, gid)
    device.chmod(0o660)
    assert machine.converge().facts["groups"] == [grp.getgrgid(gid).gr_name]


def test_amd_without_the_toolkit_gives_the_device_nodes(tmp_path: Path) -> None:
    machine = Machine(tmp_path, vendor="amd", cdi=False)
    for node in ("kfd", "dri/renderD129", "dri/renderD128", "dri/card1"):
        (tmp_path / "dev" / node).parent.mkdir(exist_ok=True)
        (tmp_path / "dev" / node).touch()
    node = machine.converge()
    assert node.facts["container_devices"] == ["/dev/kfd", "/dev/dri/renderD128", "/dev/dri/renderD129"]
    assert (node.changed, machine.ran) == (False, [])


# The program that looks inside a container


probe: Any = load("aifactory_runtime_probe", "library")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the program is run: needs an x86_64 machine")
@pytest.mark.parametrize(
    ("inside", "code"),
    [
        ([], 0),
        (["/dev/null", "/dev/zero"], 0),
        (["/dev/null", "/nowhere", "/dev/zero"], 2),
        (["/nowhere"], 1),
        (["/dev/null"] * 99 + ["/nowhere"], 100),
    ],
)
def test_program_ends_with_the_first_path_that_it_may_not_use(tmp_path: Path, inside: list[str], code: int) -> None:
    file = tmp_path / "look"
    file.write_bytes(probe.tiny_program("x86_64", inside))
    file.chmod(0o755)
    assert subprocess.run([file], check=False).returncode == code


def test_program_for_aarch64_is_the_one_that_was_tried() -> None:
    """Run once in an emulator (unicorn 2): 0 with all paths there, 2 with the second missing."""
    words = struct.unpack("<13I", probe.code_aarch64([0x400ABC]))
    assert [f"{word:08x}" for word in words] == [
        "d2800608", "92800c60", "d2815781", "f2a00801", "d28000c2", "d4000001", "b4000080",
        "d2800020", "d2800ba8", "d4000001", "d2800000", "d2800ba8", "d4000001",
    ]  # fmt: skip
    assert probe.tiny_program("riscv64") is None


@pytest.mark.parametrize(
    ("code", "words", "expected"),
    [
        (0, "no message", ""),
        (2, "a warning of the engine", "/dev/b cannot be read and written inside a container"),
        (
            126,
            "Error: unresolvable CDI devices nvidia.com/gpu=all",
            "Error: unresolvable CDI devices nvidia.com/gpu=all",
        ),
        (124, "no message", "the container ended with 124"),
        (1, "Error: cannot re-exec process", "Error: cannot re-exec process"),
        (1, 'level=error msg="cannot set up namespace"', 'level=error msg="cannot set up namespace"'),
    ],
)
def test_end_of_the_container_is_put_in_words(code: int, words: str, expected: str) -> None:
    assert probe.verdict(code, words, ["/dev/a", "/dev/b"]) == expected
