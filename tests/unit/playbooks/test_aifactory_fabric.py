"""Stack, cards and files of the fabric. Real: the module's functions, files, tar archives, SHA-256, a web server.

Not real: mlnx_qos and modprobe, which are played by functions that keep a state.
"""

from __future__ import annotations

import hashlib
import http.server
import importlib
import importlib.util
import io
import re
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from aifactory import paths

ROCE = {
    "dscp": 26, "priority": 3, "cnp_dscp": 48, "traffic_class": 104, "rp_filter": 2, "arp_ignore": 2, "arp_announce": 1,
}  # fmt: skip
CARDS = [
    {"hca": "mlx5_0", "bdf": "0000:18:00.0", "netdev": "rail0", "vendor": "0x15b3"},
    {"hca": "mlx5_1", "bdf": "0000:3a:00.0", "netdev": "rail-1", "vendor": "0x15b3"},
]
RAIL = "proc/sys/net/ipv4/conf"


def load(name: str, folder: str = "library") -> ModuleType:
    """A file of playbooks/ under the name that modules import it by on a node."""
    spec = importlib.util.spec_from_file_location(name, paths.PLAYBOOKS / folder / f"{name.rpartition('.')[2]}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    if "." in name:
        setattr(importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2], module)
    return module


load("ansible.module_utils.aifactory_vendor", "module_utils")
load("ansible.module_utils.aifactory_restart", "module_utils")
module: Any = load("aifactory_fabric")


class Machine:
    """A root folder with two RoCE cards, and tools that work on a state of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.trust = {card["netdev"]: "pcp" for card in CARDS}
        self.pfc = {card["netdev"]: "0,0,0,0,0,0,0,0" for card in CARDS}
        self.map = {card["netdev"]: {dscp: dscp // 8 for dscp in range(64)} for card in CARDS}
        self.commands: list[list[str]] = []
        self.deaf: set[str] = set()
        """Options that mlnx_qos takes without doing anything."""
        for card in CARDS:
            ecn = f"sys/class/net/{card['netdev']}/ecn"
            for file, value in ((f"{ecn}/roce_np/enable/3", "0"), (f"{ecn}/roce_rp/enable/3", "0")):
                self.write(file, value)
            self.write(f"{ecn}/roce_np/cnp_dscp", "48")
            self.write(f"sys/class/infiniband/{card['hca']}/tc/1/traffic_class", "Global tclass=0")
            for key, value in (("rp_filter", "1"), ("arp_ignore", "0"), ("arp_announce", "0")):
                self.write(f"{RAIL}/{card['netdev']}/{key}", value)

    def write(self, file: str, text: str) -> None:
        (self.root / file).parent.mkdir(parents=True, exist_ok=True)
        (self.root / file).write_text(text + "\n")

    def run(self, command: list[str], timeout_s: int = 0) -> tuple[int, str]:
        self.commands.append(command)
        if command[0] == "modprobe":
            (self.root / "sys/module" / command[1]).mkdir(parents=True)
            return 0, ""
        assert command[:2] == ["mlnx_qos", "-i"]
        netdev, *rest = command[2:]
        if rest and rest[0] not in self.deaf:
            if rest[0] == "--trust":
                self.trust[netdev] = rest[1]
            elif rest[0] == "--pfc":
                self.pfc[netdev] = rest[1]
            else:
                _, dscp, priority = rest[1].split(",")
                self.map[netdev][int(dscp)] = int(priority)
        return 0, self.told(netdev)

    def told(self, netdev: str) -> str:
        """In the words of mlnx_qos, which shows the mapping only where DSCP is trusted."""
        lines = ["DCBX mode: OS controlled", f"Priority trust state: {self.trust[netdev]}"]
        if self.trust[netdev] == "dscp":
            lines.append("dscp2prio mapping:")
            for priority in range(8):
                classes = [d for d in sorted(self.map[netdev], reverse=True) if self.map[netdev][d] == priority]
                for start in range(0, len(classes), 8):
                    lines.append(f"\tprio:{priority} dscp:" + "".join(f"{d:02},".lstrip() for d in classes[start:][:8]))
        lines += ["Receive buffer size (bytes): 130944,130944,0,0,0,0,0,0,max_buffer_size=262016", "Cable len: 7"]
        lines += ["PFC configuration:", "\tpriority    0   1   2   3   4   5   6   7"]
        lines += ["\tenabled     " + "   ".join(self.pfc[netdev].split(",")) + "   "]
        lines += ["\tbuffer      0   0   0   1   0   0   0   0   ", "tc: 0 ratelimit: unlimited, tsa: ets, bw: 50%"]
        return "\n".join(lines) + "\n"

    def node(self, check: bool = False) -> Any:
        return module.Node(str(self.root), self.run, check)

    def set(self, check: bool = False) -> Any:
        node = self.node(check)
        module.set_roce(node, CARDS, ROCE)
        module.set_rails(node, CARDS, ROCE)
        return node


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# RoCE


def test_cards_are_set_read_back_and_left_alone_the_second_time(machine: Machine) -> None:
    first = machine.set()
    assert first.problems == []
    assert "rail0 trust: pcp -> dscp" in first.changes
    assert "rail-1 pfc: 0,0,0,0,0,0,0,0 -> 0,0,0,1,0,0,0,0" in first.changes
    assert "mlx5_0 traffic_class: 0 -> 104" in first.changes
    assert "rail0 rp_filter: 1 -> 2" in first.changes
    machine.write("sys/class/infiniband/mlx5_0/tc/1/traffic_class", "Global tclass=104")  # as the driver shows it
    assert machine.set().changes == []


def test_check_mode_says_what_would_change_and_changes_nothing(machine: Machine) -> None:
    would = machine.set(check=True).changes
    assert machine.trust["rail0"] == "pcp"
    assert not [c for c in machine.commands if len(c) > 3]
    assert (machine.root / RAIL / "rail0/rp_filter").read_text() == "1\n"
    assert would == machine.set().changes
    machine.map["rail0"][26] = 5
    assert machine.set(check=True).changes == ["rail0 dscp 26: 5 -> 3"]


@pytest.mark.parametrize(
    ("spoil", "change"),
    [
        (lambda m: m.trust.update({"rail-1": "pcp"}), "rail-1 trust: pcp -> dscp"),
        (lambda m: m.pfc.update(rail0="1,1,1,1,1,1,1,1"), "rail0 pfc: 1,1,1,1,1,1,1,1 -> 0,0,0,1,0,0,0,0"),
        (lambda m: m.map["rail0"].update({26: 0}), "rail0 dscp 26: 0 -> 3"),
        (lambda m: m.map["rail0"].update({48: 0}), "rail0 dscp 48: 0 -> 6"),
        (lambda m: m.write("sys/class/net/rail0/ecn/roce_np/enable/3", "0"), "rail0 ecn receive: 0 -> 1"),
        (lambda m: m.write("sys/class/net/rail0/ecn/roce_rp/enable/3", "0"), "rail0 ecn send: 0 -> 1"),
        (lambda m: m.write("sys/class/net/rail0/ecn/roce_np/cnp_dscp", "0"), "rail0 cnp_dscp: 0 -> 48"),
        (lambda m: m.write(f"{RAIL}/rail-1/arp_announce", "0"), "rail-1 arp_announce: 0 -> 1"),
    ],
)
def test_value_that_somebody_changed_is_put_back(machine: Machine, spoil: Any, change: str) -> None:
    machine.set()
    spoil(machine)
    again = machine.set()
    assert again.changes == [change]
    assert again.problems == []
    assert machine.set().changes == []


@pytest.mark.parametrize("option", ["--trust", "--pfc"])
def test_value_that_does_not_take_is_a_problem_with_both_values(machine: Machine, option: str) -> None:
    machine.deaf.add(option)
    problems = machine.set().problems
    assert len([p for p in problems if p.startswith("ROCE-READBACK rail0")]) >= 1
    assert {"--trust": "pcp after setting dscp", "--pfc": "after setting 0,0,0,1,0,0,0,0"}[option] in problems[0]


def test_missing_tool_is_said_once_and_says_where_it_comes_from(tmp_path: Path) -> None:
    node = module.Node(str(tmp_path), module.run_tool, False)
    module.set_roce(node, [{**card, "netdev": f"no-{card['netdev']}"} for card in CARDS], ROCE)
    assert len(node.problems) == 1
    assert "mlnx-tools" in node.problems[0]


def test_tool_that_hangs_is_ended_and_named() -> None:
    code, told = module.run_tool(["sleep", "30"], timeout_s=1)
    assert code == 124
    assert told == "`sleep 30` did not answer within 1 s"


def test_card_of_another_maker_is_noted_not_guessed(machine: Machine) -> None:
    node = machine.node()
    module.set_roce(node, [{**CARDS[0], "vendor": "0x14e4"}], ROCE)
    assert machine.commands == []
    assert "mlx5_0: not a ConnectX card" in node.notes[0]


def test_driver_without_ecn_switches_is_noted(machine: Machine) -> None:
    for file in (machine.root / "sys/class/net/rail0/ecn").rglob("*"):
        if file.is_file():
            file.unlink()
    assert any("rail0: this driver shows no ECN switches" in note for note in machine.set().notes)


def test_one_rail_keeps_the_rules_of_the_distribution(machine: Machine) -> None:
    node = machine.node()
    module.set_rails(node, CARDS[:1], ROCE)
    assert node.changes == []


@pytest.mark.parametrize(
    ("roce", "words"),
    [
        ({}, "must hold"),
        ({**ROCE, "dscp": "26"}, "whole numbers"),
        ({**ROCE, "dscp": 64}, "0 to 63"),
        ({**ROCE, "priority": 8}, "0 to 7"),
        ({**ROCE, "traffic_class": 41}, "traffic class 41 does not carry DSCP 26"),
        ({**ROCE, "traffic_class": 107}, ""),
        (ROCE, ""),
    ],
)
def test_values_are_checked_before_anything_is_set(roce: dict[str, int], words: str) -> None:
    found = module.roce_problem("roce", roce)
    assert words in found if words else found == ""
    assert module.roce_problem("infiniband", {}) == ""


# Modules that DKMS builds

RUNNING, BOOTS = "6.12.41-amd64", "6.12.48-amd64"
OFED = ["mlnx-ofed-kernel", "mlnx-ofa_kernel"]


class Builder:
    """A node with two kernels, apt, and a DKMS that builds where there are headers."""

    def __init__(self, root: Path) -> None:
        self.root, self.commands = root, []  # type: ignore[var-annotated]
        self.known = "mlnx-ofed-kernel/25.10.OFED.25.10.1.7.1"
        self.built = {RUNNING}
        self.served = True
        self.lists_are_old = False
        for kernel in (RUNNING, BOOTS):
            (root / "lib/modules" / kernel).mkdir(parents=True)
            (root / "boot").mkdir(exist_ok=True)
            (root / "boot" / f"vmlinuz-{kernel}").touch()

    def run(self, command: list[str], _timeout_s: int = 0) -> tuple[int, str]:
        self.commands.append(command)
        if command[0] == "uname":
            return 0, f"{RUNNING}\n"
        if command[0] == "grubby":
            return 127, ""
        if command == ["dkms", "status"]:
            lines = [f"{self.known}, {kernel}, x86_64: installed" for kernel in sorted(self.built)]
            return 0, "\n".join(
                [f"nvidia/580.126.20, {BOOTS}, x86_64: installed", *(lines or [f"{self.known}: added"])]
            )
        if command[:2] == ["dkms", "autoinstall"]:
            if (self.root / "lib/modules" / command[3] / "build").exists():
                self.built.add(command[3])
            return 0, ""
        assert command[0] == "apt-get"
        if command[-1] == "update":
            self.lists_are_old = False
        elif not self.served or self.lists_are_old:
            return 100, f"E: Unable to locate package {command[-1]}"
        else:
            (self.root / "lib/modules" / command[-1].removeprefix("linux-headers-") / "build").mkdir()
        return 0, ""

    def node(self, check: bool = False) -> Any:
        return module.Node(str(self.root), self.run, check)

    def changed(self) -> list[list[str]]:
        return [c for c in self.commands if c[0] == "apt-get" or c[:2] == ["dkms", "autoinstall"]]


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builder:
    monkeypatch.setattr(module.shutil, "which", lambda name: f"/usr/bin/{name}" if name == "apt-get" else None)
    return Builder(tmp_path)


@pytest.mark.parametrize("old", [False, True])
def test_modules_are_built_for_the_kernel_that_boots_with_its_headers_and_once(builder: Builder, old: bool) -> None:
    builder.lists_are_old = old
    node = builder.node()
    module.build_modules(node, OFED)
    assert node.problems == []
    assert node.changes == [f"mlnx-ofed-kernel built for kernel {BOOTS}"]
    assert builder.built == {RUNNING, BOOTS}
    assert builder.changed()[0][-2:] == ["install", f"linux-headers-{BOOTS}"]
    builder.commands.clear()
    again = builder.node()
    module.build_modules(again, OFED)
    assert (again.changes, builder.changed()) == ([], [])


def test_modules_in_check_mode_are_told_and_not_built(builder: Builder) -> None:
    node = builder.node(check=True)
    module.build_modules(node, OFED)
    assert (node.changes, builder.changed()) == ([f"mlnx-ofed-kernel built for kernel {BOOTS}"], [])


def test_modules_that_cannot_be_built_are_a_problem_with_its_reason(builder: Builder) -> None:
    builder.served = False
    node = builder.node()
    module.build_modules(node, OFED)
    (problem,) = node.problems
    assert f"mlnx-ofed-kernel: not built for kernel {BOOTS}" in problem
    assert f"Unable to locate package linux-headers-{BOOTS}" in problem


def test_modules_that_came_built_and_a_node_without_dkms_are_left_alone(builder: Builder) -> None:
    builder.known = "iser/25.10"
    node = builder.node()
    module.build_modules(node, OFED)
    module.build_modules(node, [])
    builder.run = lambda command, _timeout_s=0: (127, "`dkms`: no such file")  # type: ignore[method-assign]
    module.build_modules(builder.node(), OFED)
    assert (node.changes, node.problems, builder.changed()) == ([], [], [])


def test_modules_added_and_built_for_no_kernel_are_lacking(builder: Builder) -> None:
    builder.built = set()
    assert module.dkms_states(builder.node(), OFED, BOOTS) == {"mlnx-ofed-kernel": "none"}


# Kernel modules


def test_modules_are_loaded_once(machine: Machine) -> None:
    first = machine.node()
    module.load_modules(first, "infiniband")
    assert [c[1] for c in machine.commands] == list(module.MODULES["infiniband"])
    second = machine.node()
    module.load_modules(second, "infiniband")
    assert (second.changes, second.problems) == ([], [])


def test_module_of_the_kernel_itself_is_not_loaded_again(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    release = module.os.uname().release
    machine.write(
        f"lib/modules/{release}/modules.builtin", "kernel/drivers/infiniband/core/ib_uverbs.ko\nkernel/x/rdma-ucm.ko"
    )
    node = machine.node()
    module.load_modules(node, "roce")
    assert (node.changes, machine.commands) == ([], [])


def test_module_that_cannot_be_loaded_is_named_with_the_package(machine: Machine) -> None:
    node = module.Node(str(machine.root), lambda *_: (1, "modprobe: FATAL: Module ib_umad not found"), False)
    module.load_modules(node, "infiniband")
    assert any(p.startswith("MODULE ib_umad: ") and "linux-modules-extra" in p for p in node.problems)
    assert len(node.problems) == 4


def test_check_mode_loads_nothing(machine: Machine) -> None:
    node = machine.node(check=True)
    module.load_modules(node, "efa")
    assert node.changes == ["module efa loaded", "module ib_uverbs loaded"]
    assert machine.commands == []


# EFA installer


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[tuple[str, str, str]]:
    """(address of the folder, SHA-256, version) of an installer served over HTTP."""
    script = '#!/bin/sh\n[ "$*" = -y ] || exit 3\nmkdir -p ../root\ntouch ran\n'
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        info = tarfile.TarInfo("aws-efa-installer/efa_installer.sh")
        info.size, info.mode = len(script), 0o755
        tar.addfile(info, io.BytesIO(script.encode()))
        info = tarfile.TarInfo("../outside")
        tar.addfile(info, io.BytesIO())

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/efa/aws-efa-installer-1.48.0.tar.gz" else 404)
            self.end_headers()
            self.wfile.write(out.getvalue())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/efa/", hashlib.sha256(out.getvalue()).hexdigest(), "1.48.0"
    server.shutdown()


def efa_node(root: Path, version: str | None = "1.48.0", check: bool = False) -> Any:
    """A node on which the installer leaves its list, as the real one does; None = it leaves none."""
    (root / "var/tmp").mkdir(parents=True, exist_ok=True)

    def run(command: list[str], timeout_s: int) -> tuple[int, str]:
        code, told = module.run_tool(command, timeout_s)
        if code == 0 and version:
            file = root / module.EFA_VERSION_FILE.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"# EFA installer version: {version}\n# Debug packages installed: no\n")
        return code, str(told)

    return module.Node(str(root), run, check)


def wanted(archive: tuple[str, str, str], **changes: str) -> dict[str, str]:
    return {"url": archive[0], "sha256": archive[1], "version": archive[2], **changes}


def test_installer_runs_once_from_the_archive_that_was_pinned(tmp_path: Path, archive: tuple[str, str, str]) -> None:
    for changes in (["EFA stack: none -> 1.48.0"], []):
        node = efa_node(tmp_path)
        module.install_efa(node, wanted(archive), module.download)
        assert (node.changes, node.problems) == (changes, [])
    assert list((tmp_path / "var/tmp").iterdir()) == []
    assert not (tmp_path / "var/outside").exists()


def test_other_version_is_brought_to_the_one_wanted(tmp_path: Path, archive: tuple[str, str, str]) -> None:
    (tmp_path / "opt/amazon").mkdir(parents=True)
    (tmp_path / module.EFA_VERSION_FILE.lstrip("/")).write_text("# EFA installer version: 1.30.0\n")
    node = efa_node(tmp_path)
    module.install_efa(node, wanted(archive), module.download)
    assert node.changes == ["EFA stack: 1.30.0 -> 1.48.0"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sha256": ""}, "no SHA-256 is known, so it is not run"),
        ({"sha256": "0" * 64}, "nothing was run"),
        ({"version": "latest"}, "EFA-VERSION latest"),
        ({"version": "1.47.0"}, "HTTP Error 404|Not Found"),
        ({"url": "file:///etc"}, "EFA-URL"),
    ],
)
def test_archive_that_is_not_the_pinned_one_is_never_run(
    tmp_path: Path, archive: tuple[str, str, str], changes: dict[str, str], words: str
) -> None:
    ran: list[Any] = []

    def run(*command: Any) -> tuple[int, str]:
        ran.append(command)
        return 0, ""

    node = efa_node(tmp_path)
    node.run = run
    module.install_efa(node, wanted(archive, **changes), module.download)
    assert len(node.problems) == 1
    assert re.search(words, node.problems[0])
    assert ran == []


def test_missing_hash_says_how_to_get_one(tmp_path: Path, archive: tuple[str, str, str]) -> None:
    node = efa_node(tmp_path)
    module.install_efa(node, wanted(archive, sha256=""), module.download)
    assert "sha256sum" in node.problems[0]
    assert "fabric.stack_sha256" in node.problems[0]


def test_installer_that_ends_well_and_left_nothing_is_a_problem(tmp_path: Path, archive: tuple[str, str, str]) -> None:
    node = efa_node(tmp_path, version=None)
    module.install_efa(node, wanted(archive), module.download)
    assert "does not say 1.48.0" in node.problems[0]


def test_check_mode_fetches_nothing(tmp_path: Path, archive: tuple[str, str, str]) -> None:
    def refuse(*_: str) -> str:
        raise AssertionError

    node = efa_node(tmp_path, check=True)
    module.install_efa(node, wanted(archive), refuse)
    assert node.changes == ["EFA stack: none -> 1.48.0"]


# Files


def entries(kind: str, may_raise: bool = True, **changes: Any) -> dict[str, dict[str, Any]]:
    asked = {"kind": kind, "cards": CARDS, "names": {c["hca"]: c["bdf"] for c in CARDS}, "roce": ROCE, **changes}
    return {one["dest"]: one for one in module.files(asked, may_raise)}


@pytest.mark.parametrize("kind", ["infiniband", "roce", "efa"])
def test_memlock_is_unlimited_for_logins_systemd_and_runtimes(kind: str) -> None:
    found = entries(kind)
    assert (
        "* - memlock unlimited\nroot - memlock unlimited\n"
        in found["/etc/security/limits.d/91-aifactory-rdma.conf"]["content"]
    )
    for which in ("system", "user"):
        content = found[f"/etc/systemd/{which}.conf.d/91-aifactory-rdma.conf"]["content"]
        assert content.endswith("[Manager]\nDefaultLimitMEMLOCK=infinity\n")
    for runtime in ("docker", "containerd", "podman"):
        content = found[f"/etc/systemd/system/{runtime}.service.d/91-aifactory-rdma.conf"]["content"]
        assert content.endswith("[Service]\nLimitMEMLOCK=infinity\n")
    assert "memlock=-1:-1" in found["/etc/containers/containers.conf.d/91-aifactory-rdma.conf"]["content"]
    assert all(one["content"].startswith(module.MANAGED) for one in found.values() if one.get("state") != "absent")


@pytest.mark.parametrize(("capabilities", "may"), [("000001ffffffffff", True), ("00000000800405fb", False)])
def test_limits_are_told_only_where_root_may_raise_them(machine: Machine, capabilities: str, may: bool) -> None:
    machine.write("proc/self/status", f"Name:\tpython3\nCapEff:\t{capabilities}\nCapBnd:\t000001ffffffffff")
    node = machine.node()
    assert module.may_raise_limits(node) is may
    assert len(node.notes) == (0 if may else 1)
    found = entries("infiniband", may_raise=may)
    for dest in (
        "/etc/security/limits.d/91-aifactory-rdma.conf",
        "/etc/containers/containers.conf.d/91-aifactory-rdma.conf",
    ):
        assert (found[dest].get("state") == "absent") is not may
    assert found["/etc/systemd/system.conf.d/91-aifactory-rdma.conf"].get("state") != "absent"


def test_what_another_fabric_left_is_taken_away() -> None:
    roce, ib = entries("roce"), entries("infiniband", roce={})
    assert roce.keys() == ib.keys()
    for dest in ("/etc/sysctl.d/91-aifactory-rails.conf", "/etc/systemd/system/aifactory-roce.service"):
        assert roce[dest].get("state") != "absent"
        assert ib[dest]["state"] == "absent"
    assert entries("roce", cards=CARDS[:1])["/etc/sysctl.d/91-aifactory-rails.conf"]["state"] == "absent"


def test_tcp_needs_none_of_it() -> None:
    assert {one.get("state") for one in entries("tcp", cards=[], names={}, roce={}).values()} == {"absent"}


def test_names_stay_by_place_for_every_device() -> None:
    content = entries("infiniband")["/etc/udev/rules.d/60-rdma-persistent-naming.rules"]["content"]
    rules = [line for line in content.splitlines() if not line.startswith("#")]
    assert rules == [
        f'ACTION=="add", SUBSYSTEM=="infiniband", KERNELS=="{c["bdf"]}", PROGRAM="rdma_rename %k NAME_FIXED {c["hca"]}"'
        for c in CARDS
    ]
    assert entries("efa", names={})["/etc/udev/rules.d/60-rdma-persistent-naming.rules"]["state"] == "absent"


def test_boot_unit_does_what_the_module_does(machine: Machine) -> None:
    """Its commands, run against the machine, leave nothing for the module to change."""
    text = entries("roce")["/etc/systemd/system/aifactory-roce.service"]["content"]
    for line in re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE):
        if "mlnx_qos" in line:
            machine.run(line.removeprefix("/usr/bin/env ").split())
        else:
            match = re.fullmatch(r"/bin/sh -c 'test ! -e (\S+) \|\| echo (\d+) > (\S+)'", line)
            assert match is not None
            assert match[1] == match[3]
            shown = f"Global tclass={match[2]}" if "traffic_class" in match[1] else match[2]
            machine.write(match[1].lstrip("/"), shown)
    node = machine.node()
    module.set_roce(node, CARDS, ROCE)
    assert (node.changes, node.problems) == ([], [])
    assert "After=sys-subsystem-net-devices-rail\\x2d1.device" in text


def test_classes_of_a_site_of_its_own_are_set_and_come_back_at_boot(machine: Machine) -> None:
    site = {**ROCE, "dscp": 10, "priority": 5, "cnp_dscp": 24, "traffic_class": 41}
    for card in CARDS:
        for which in ("np", "rp"):
            machine.write(f"sys/class/net/{card['netdev']}/ecn/roce_{which}/enable/5", "0")
    node = machine.node()
    module.set_roce(node, CARDS, site)
    assert "mlx5_0 traffic_class: 0 -> 41" in node.changes
    assert machine.pfc["rail0"] == "0,0,0,0,0,1,0,0"
    assert (machine.map["rail0"][10], machine.map["rail0"][24]) == (5, 3)
    text = entries("roce", roce=site)["/etc/systemd/system/aifactory-roce.service"]["content"]
    assert "--dscp2prio set,10,5\n" in text
    assert "echo 41 > /sys/class/infiniband/mlx5_0/tc/1/traffic_class" in text


def test_rail_file_says_what_is_set_live(machine: Machine) -> None:
    content = entries("roce")["/etc/sysctl.d/91-aifactory-rails.conf"]["content"]
    assert "net/ipv4/conf/rail-1/rp_filter = 2\n" in content
    assert len([line for line in content.splitlines() if " = " in line]) == 6


def test_daemon_with_a_finite_limit_is_noted(machine: Machine) -> None:
    machine.write("proc/77/comm", "dockerd")
    machine.write(
        "proc/77/limits",
        "Limit                     Soft Limit\nMax locked memory         8388608              8388608    bytes",
    )
    machine.write("proc/78/comm", "containerd")
    machine.write("proc/78/limits", "Max locked memory         unlimited            unlimited            bytes")
    node = machine.node()
    module.check_daemons(node)
    assert node.notes == ["dockerd runs with 8388608 bytes of locked memory: restart it once it is drained"]
