"""What NVLink services a node is given, and when they start again. No service runs here."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from aifactory import paths

SPEC = importlib.util.spec_from_file_location("aifactory_nvlink", paths.PLAYBOOKS / "library" / "aifactory_nvlink.py")
assert SPEC is not None
assert SPEC.loader is not None
nvlink: Any = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(nvlink)

H100 = {"key": "h100-sxm", "name": "H100 SXM5", "needs_fabric_manager": True}
B200 = {"key": "b200-sxm", "name": "B200 SXM6", "needs_fabric_manager": True, "needs_nvlsm": True}
GB200 = {"key": "gb200-nvl72", "name": "GB200 NVL72", "needs_imex": True}
L40S = {"key": "l40s", "name": "L40S"}
SWITCHES = {"switches": [{"bdf": "0000:07:00.0"}, {"bdf": "0000:08:00.0"}], "bridges": [], "virtual": False}
BRIDGES = {"switches": [], "bridges": [{"bdf": "0000:05:00.0", "hca": "mlx5_0"}] * 4, "virtual": False}
NOTHING = {"switches": [], "bridges": [], "virtual": False}

# As the vendor's package has it (Fabric Manager user guide, "Default configuration"), shortened.
FM_CONFIG = "#\tDescription: mode\nLOG_LEVEL=4\nFABRIC_MODE=1\nFABRIC_MODE_RESTART=0\n"


@pytest.mark.parametrize(
    ("platform", "found", "imex", "services"),
    [
        (H100, SWITCHES, False, ["fabric_manager"]),
        (B200, BRIDGES, False, ["fabric_manager", "nvlsm"]),
        (GB200, NOTHING, True, ["imex"]),
        (GB200, NOTHING, False, []),
        (L40S, NOTHING, False, []),
    ],
)
def test_choose_platform_gets_its_services_and_no_other(
    platform: dict[str, Any], found: dict[str, Any], imex: bool, services: list[str]
) -> None:
    chosen, _notes, refusals = nvlink.choose(platform, found, imex)
    assert (list(chosen), refusals) == (services, [])


@pytest.mark.parametrize(
    ("platform", "found", "imex", "words"),
    [
        ({**L40S, "needs_fabric_manager": True}, NOTHING, False, ["NVLINK-FM", "L40S", "no NVSwitch"]),
        ({**B200}, SWITCHES, False, ["NVLINK-FM", "SW_MNG"]),
        ({**L40S, "needs_nvlsm": True}, NOTHING, False, ["NVLINK-NVLSM", "without Fabric Manager"]),
        (H100, SWITCHES, True, ["NVLINK-IMEX", "H100"]),
    ],
)
def test_choose_request_that_the_hardware_contradicts_is_refused(
    platform: dict[str, Any], found: dict[str, Any], imex: bool, words: list[str]
) -> None:
    text = " ".join(nvlink.choose(platform, found, imex)[2])
    assert [word for word in words if word not in text] == []


def test_choose_contradictions_are_told_at_once() -> None:
    assert len(nvlink.choose({**L40S, "needs_fabric_manager": True}, NOTHING, True)[2]) == 2


def test_choose_virtual_machine_without_switches_leaves_fabric_manager_to_its_host() -> None:
    services, notes, refusals = nvlink.choose(H100, {**NOTHING, "virtual": True}, False)
    assert (services, refusals) == ({}, [])
    assert "its host's" in notes[0]


@pytest.mark.parametrize(
    ("platform", "system", "names"),
    [
        (H100, "deb 580.178.04 x86_64", {"nvidia-fabricmanager", "libnvidia-nscq"}),
        (H100, "deb 570.172.08 x86_64", {"nvidia-fabricmanager-570", "libnvidia-nscq-570"}),
        (H100, "rpm 570.172.08 x86_64", {"nvidia-fabric-manager", "libnvidia-nscq-570"}),
        (H100, "rpm 595.91.07 x86_64", {"nvidia-fabricmanager", "libnvidia-nscq"}),
        (B200, "deb 580.178.04 x86_64", {"nvidia-fabricmanager", "nvlsm", "infiniband-diags", "libnvsdm"}),
        (B200, "deb 580.178.04 aarch64", {"nvidia-fabricmanager", "nvlsm", "infiniband-diags"}),
        (GB200, "deb 580.178.04 aarch64", {"nvidia-imex"}),
        (GB200, "rpm 570.172.08 aarch64", {"nvidia-imex-570"}),
        (L40S, "deb 580.178.04 x86_64", set()),
    ],
)
def test_packages_follow_system_and_driver(platform: dict[str, Any], system: str, names: set[str]) -> None:
    family, version, machine = system.split()
    found = BRIDGES if platform is B200 else SWITCHES if platform is H100 else NOTHING
    services = nvlink.choose(platform, found, bool(platform.get("needs_imex")))[0]
    packages = nvlink.wanted_packages(services, platform, family, version, machine)
    assert set(packages) == names
    assert {v for name, v in packages.items() if name not in ("nvlsm", "infiniband-diags")} <= {version}
    assert packages.get("nvlsm", "") == ""


def test_stale_package_is_that_of_the_other_name() -> None:
    wanted = {"nvidia-fabricmanager": "580.178.04", "libnvidia-nscq": "580.178.04"}
    have = ["nvidia-fabricmanager", "nvidia-fabricmanager-570", "nvidia-fabric-manager", "libnvidia-nscq-570",
            "nvidia-imex-570", "nvidia-driver-cuda", "nvidia-fabricmanager-dev"]  # fmt: skip
    assert [name for name in have if nvlink.is_stale(name, wanted)] == [
        "nvidia-fabricmanager-570", "nvidia-fabric-manager", "libnvidia-nscq-570",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["580.178.04", "580.178.04-1", "580.178.04-0ubuntu0.24.04.1", "3:580.178.04-1.el9"])
def test_upstream_version_is_the_drivers(text: str) -> None:
    assert nvlink.upstream(text) == "580.178.04"


def test_nodes_file_is_the_same_whatever_the_order() -> None:
    addresses = ["10.0.0.10", "10.0.0.9", "10.0.0.100", "10.0.0.9"]
    assert nvlink.nodes_file(addresses) == "10.0.0.9\n10.0.0.10\n10.0.0.100\n"
    assert nvlink.nodes_file(reversed(addresses)) == nvlink.nodes_file(addresses)


def test_known_nodes_are_addresses_and_not_examples() -> None:
    assert nvlink.known_nodes("# nodes\n0.0.0.0\n10.0.0.7\n\nfd00::1\n<address>\n") == ["10.0.0.7", "fd00::1"]


def test_with_keys_sets_in_place_and_appends_and_keeps_the_rest() -> None:
    text = nvlink.with_keys(FM_CONFIG, {"FABRIC_MODE": "0", "NEW": "1"})
    assert text == "#\tDescription: mode\nLOG_LEVEL=4\nFABRIC_MODE=0\nFABRIC_MODE_RESTART=0\nNEW=1\n"
    assert nvlink.with_keys(text, {"FABRIC_MODE": "0", "NEW": "1"}) == text


def test_without_cycle_takes_the_target_away_and_keeps_the_other_dependencies() -> None:
    unit = "[Unit]\nAfter=network-online.target multi-user.target\nAfter=multi-user.target\n[Service]\nType=forking\n"
    text = nvlink.without_cycle(unit)
    assert text.startswith("# Managed by aifactory")
    assert "After=network-online.target\n" in text
    assert "multi-user.target" not in text
    assert nvlink.without_cycle("[Unit]\nAfter=network-online.target\n[Install]\nWantedBy=multi-user.target\n") is None


NOW = {"invocation": "a", "driver": "580 7", "config": "c", "config_newer": False, "program_replaced": False}


@pytest.mark.parametrize(
    ("start", "changes", "words"),
    [
        (NOW, {}, ""),
        (None, {}, ""),
        (None, {"config_newer": True}, "newer than its start"),
        (NOW, {"config_newer": True}, ""),
        (NOW, {"driver": "580 9"}, "driver was loaded anew"),
        (NOW, {"config": "d"}, "configuration changed"),
        (NOW, {"program_replaced": True}, "program was replaced"),
        ({**NOW, "driver": "570 1"}, {"invocation": "b"}, ""),
    ],
)
def test_restart_reason(start: dict[str, Any] | None, changes: dict[str, Any], words: str) -> None:
    reason = nvlink.restart_reason(start, {**NOW, **changes})
    assert bool(reason) == bool(words)
    assert words in reason


def test_run_command_that_hangs_is_ended_and_has_no_code() -> None:
    started = time.monotonic()
    assert nvlink.run([sys.executable, "-c", "import time; time.sleep(60)"], 0.2)[0] is None
    assert time.monotonic() - started < 20
    assert nvlink.run([sys.executable, "-c", "print(1)"], 20)[:2] == (0, "1\n")


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("request failed with error:WARNING Nothing to do [NV_WARN_NOTHING_TO_DO]", "NVLSM"),
        ("fabric manager NVIDIA GPU driver interface version 580 does not match", "reboot"),
        ('Kernel module "ib_umad" has not been loaded, fabric manager cannot be started', "linux-modules-extra"),
    ],
)
def test_unit_hint_knows_the_last_words(log: str, words: str) -> None:
    assert words in nvlink.unit_hint(log)


def test_write_keeps_no_rest_and_replaces_whole(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.cfg"
    nvlink.write(str(path), "one\n")
    nvlink.write(str(path), "two\n")
    assert path.read_text() == "two\n"
    assert os.listdir(path.parent) == ["b.cfg"]  # noqa: PTH208
    nvlink.write(str(path), None)
    assert not path.exists()


def test_module_documentation_is_complete() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-doc", "-M", paths.PLAYBOOKS / "library", "aifactory_nvlink"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
