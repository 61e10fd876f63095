"""What gpu_platform reads of a node and how it judges it.

Real: the module's functions, files and links as in sysfs. Not real: lspci and the other programs answer from the
descriptions in tests/roles/platforms; nothing here saw a GPU (tests/gpu does).
"""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aifactory import catalog, paths
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.roles import platforms_tree

from .gpu_platform_node import Node, expected, gpu_platform

MEMORY = Path("/dev/shm")
H100, H100_GPU, H100_NIC = "hgx-h100", "0000:43:00.0", "0000:40:00.0"


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where the machine has such a folder: a node is a thousand files, slow on a disk."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder)


# ---------------------------------------------------------------- descriptions


@pytest.mark.parametrize("name", platforms_tree.names())
def test_description_is_what_its_shape_promises(name: str) -> None:
    platform = platforms_tree.load(name)
    shape, gpu = catalog.shapes()[platform["shape"]], catalog.gpus()[platform["kind"]]
    rows = [*platform["gpus"], *platform["nvswitches"], *platform["nics"]]
    assert shape.gpu == gpu.key
    assert len(platform["gpus"]) == shape.gpus
    assert {row["id"] for row in platform["gpus"]} <= set(gpu.pci_ids)
    assert len({row["bdf"] for row in rows}) == len(rows)
    hcas = [nic["hca"] for nic in platform["nics"] if nic["hca"]]
    assert len(set(hcas)) == len(hcas)
    assert not {row["bdf"] for row in rows} & set(platforms_tree.bridges(platform))
    assert platform["source"]
    assert all(nic["vpd_sw_mng"] == (nic["role"] == "bridge") for nic in platform["nics"])
    assert (any(nic["vpd_sw_mng"] for nic in platform["nics"])) == gpu.needs_nvlsm


def test_there_are_fourteen_descriptions() -> None:
    assert len(platforms_tree.names()) >= 14


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize("name", platforms_tree.names())
def test_sound_node_is_read_whole_and_has_no_mismatch(tmp_path: Path, name: str) -> None:
    node = Node(tmp_path, name)
    found = node.read()
    described = node.platform
    assert found["kind"] == described["kind"]
    assert [gpu["bdf"] for gpu in found["gpus"]] == sorted(gpu["bdf"] for gpu in described["gpus"])
    assert [(s["bdf"], s["pci_id"]) for s in found["switches"]] == [
        (s["bdf"], s["id"]) for s in described["nvswitches"]
    ]
    carriers = {nic["bdf"]: nic for nic in described["nics"] if nic["role"] == "compute"}
    assert {nic["bdf"] for nic in found["nics"] if nic["compute"]} == set(carriers)
    for nic in found["nics"]:
        if nic["bdf"] in carriers:
            told = carriers[nic["bdf"]]
            assert (nic["hca"], nic["netdev"], nic["rate_gbit_s"]) == (told["hca"], told["netdev"] or "", told["rate"])
            assert (nic["link_layer"], nic["state"], nic["numa"]) == (told["link_layer"], "ACTIVE", told["numa"])
    assert (found["kernel"], found["arch"]) == (described["kernel"], described["arch"])
    assert (found["virtual"], found["secure_boot"]) == (described["virtual"], "disabled")
    assert node.judge() == []


@pytest.mark.parametrize("name", ["hgx-b200", "hgx-b300", "p6-b200"])
def test_nvlink_bridges_are_known_by_their_vpd_and_are_no_nics(tmp_path: Path, name: str) -> None:
    node = Node(tmp_path, name)
    found = node.read()
    assert [bridge["hca"] for bridge in found["bridges"]] == ["mlx5_0", "mlx5_1", "mlx5_2", "mlx5_3"]
    assert not {bridge["hca"] for bridge in found["bridges"]} & {nic["hca"] for nic in found["nics"] if nic["compute"]}
    without = Node(tmp_path, name, ["nic-missing mlx5_9"] if name != "p6-b200" else ["nic-missing rdmap80s0"])
    assert [check for check, _ in without.checks()] == ["NIC-COUNT"]


def test_nvlink_bridges_do_not_stand_in_for_a_missing_card(tmp_path: Path) -> None:
    """Where no PCIe switch tells them apart: the same model, link layer and rate."""
    assert Node(tmp_path, "hgx-b200", virtual=True).judge() == []
    assert Node(tmp_path, "hgx-b200", ["nic-missing mlx5_9"], virtual=True).checks() == [("NIC-COUNT", "node")]


def test_vpd_that_cannot_be_read_makes_no_bridge(tmp_path: Path) -> None:
    node = Node(tmp_path, "hgx-b200")
    for function in range(4):
        vpd = tmp_path / f"sys/bus/pci/devices/0000:05:00.{function}/vpd"
        vpd.unlink()
        if function:
            vpd.mkdir()  # open works, read does not
    assert node.read()["bridges"] == []


def test_vpd_is_left_alone_where_the_row_has_no_such_switches(tmp_path: Path) -> None:
    node = Node(tmp_path, "hgx-b200")
    promised = expected(node.platform)
    promised["platform"]["needs_nvlsm"] = False
    assert node.read(promised)["bridges"] == []


def test_nic_knows_the_gpus_below_its_switch(tmp_path: Path) -> None:
    near = {nic["hca"]: nic["near"] for nic in Node(tmp_path, "a100-sxm").read()["nics"]}
    assert near["mlx5_0"] == near["mlx5_1"] == ["0000:07:00.0", "0000:0f:00.0"]
    assert near["mlx5_4"] == near["mlx5_10"] == []
    near = {nic["hca"]: nic["near"] for nic in Node(tmp_path, H100).read()["nics"]}
    assert near["mlx5_0"] == ["0000:1b:00.0"]
    assert near["mlx5_1"] == []


def test_cards_are_told_before_their_driver_is_there(tmp_path: Path) -> None:
    node = Node(tmp_path, H100)
    for hca in list((tmp_path / "sys/class/infiniband").iterdir()):
        hca.rename(tmp_path / hca.name)
    found = node.read()
    carriers = [nic for nic in found["nics"] if nic["compute"]]
    assert len(carriers) == 8
    assert {(nic["hca"], nic["rate_gbit_s"], nic["state"]) for nic in carriers} == {("", 0.0, "")}
    assert node.judge() == []


def test_virtual_functions_are_no_cards(tmp_path: Path) -> None:
    node = Node(tmp_path, H100)
    function = tmp_path / f"sys/bus/pci/devices/{H100_NIC}"
    (function / "physfn").mkdir()
    assert H100_NIC not in {nic["bdf"] for nic in node.read()["nics"]}


def test_node_without_lspci_is_read_from_sysfs(tmp_path: Path) -> None:
    node = Node(tmp_path, H100, [f"gpu-revff {H100_GPU}"])
    with_lspci = node.read()
    node.absent = {"lspci"}
    without = node.read()
    assert without == with_lspci
    assert ("GPU-REVFF", H100_GPU) in node.checks()


@pytest.mark.parametrize(
    ("mokutil", "variable", "told"),
    [
        ((0, "SecureBoot enabled\n"), None, "enabled"),
        ((0, "SecureBoot disabled\n"), b"\6\0\0\0\1", "disabled"),
        ((0, "SecureBoot enabled\nSecureBoot validation is disabled in shim\n"), None, "disabled"),
        ((255, "EFI variables are not supported on this system\n"), None, "unknown"),
        ((None, ""), b"\6\0\0\0\1", "enabled"),
        ((None, ""), b"\6\0\0\0\0", "disabled"),
        ((None, ""), b"\6\0", "unknown"),
    ],
)
def test_secure_boot_is_told_by_mokutil_or_the_firmware_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mokutil: tuple[int | None, str], variable: bytes | None, told: str
) -> None:
    monkeypatch.setattr(gpu_platform, "run", lambda command: mokutil)
    if variable is not None:
        (tmp_path / platforms_tree.SECURE_BOOT).parent.mkdir(parents=True)
        (tmp_path / platforms_tree.SECURE_BOOT).write_bytes(variable)
    assert gpu_platform.secure_boot(str(tmp_path)) == told


@pytest.mark.parametrize(
    ("code", "flags", "virtual"),
    [(0, "", True), (1, "hypervisor", False), (None, "fpu hypervisor", True), (None, "fpu", False)],
)
def test_virtual_is_told_by_systemd_or_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None, flags: str, virtual: bool
) -> None:
    monkeypatch.setattr(gpu_platform, "run", lambda command: (code, ""))
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"flags\t\t: {flags}\n")
    assert gpu_platform.is_virtual(str(tmp_path)) is virtual


# ---------------------------------------------------------------- every fault, named


@pytest.mark.parametrize(
    ("name", "fault", "wanted"),
    [
        (H100, f"gpu-missing {H100_GPU}", ("GPU-COUNT", "node", "7 GPUs", "8 GPUs")),
        (H100, f"gpu-half-width {H100_GPU}", ("GPU-LINK", H100_GPU, "x8", "x16")),
        (H100, f"gpu-revff {H100_GPU}", ("GPU-REVFF", H100_GPU, "rev ff", "answers")),
        (H100, "unknown-gpu", ("GPU-UNKNOWN", "0000:1b:00.0", "10de:ffff", "catalogue")),
        (H100, "nic-missing mlx5_3", ("NIC-COUNT", "node", "7 infiniband cards beside GPUs", "8")),
        (H100, "nic-down mlx5_3", ("NIC-DOWN", f"{H100_NIC} (mlx5_3)", "DOWN", "ACTIVE")),
        (H100, "nic-half-width mlx5_3", ("NIC-LINK", f"{H100_NIC} (mlx5_3)", "x8 at 32 GT/s", "x16 at 32 GT/s")),
        (H100, "nic-rate mlx5_3 200", ("NIC-RATE", f"{H100_NIC} (mlx5_3)", "200 Gbit/s", "400 Gbit/s")),
        ("hgx-h100-roce", "nic-down mlx5_4", ("NIC-DOWN", "0000:40:00.1 (mlx5_4)", "DOWN", "ACTIVE")),
        ("p5", "nic-missing rdmap79s0", ("NIC-COUNT", "node", "31 efa cards", "32")),
        ("p5", "nic-down rdmap79s0", ("NIC-DOWN", "0000:50:00.0 (rdmap79s0)", "DOWN", "ACTIVE")),
        ("p5", "gpu-missing 0000:60:00.0", ("GPU-COUNT", "node", "7 GPUs", "8 GPUs")),
        ("gb200-nvl72", "gpu-half-width 0019:01:00.0", ("GPU-LINK", "0019:01:00.0", "x8", "x16")),
        ("gb200-nvl72", "nic-missing mlx5_4", ("NIC-COUNT", "node", "3 infiniband cards", "4")),
        ("mi300x", "gpu-half-width 0000:26:00.0", ("GPU-LINK", "0000:26:00.0", "x8", "x16")),
        ("mi300x", "unknown-gpu", ("GPU-UNKNOWN", "0000:05:00.0", "1002:ffff", "catalogue")),
    ],
)
def test_fault_is_the_only_mismatch_and_is_named(
    tmp_path: Path, name: str, fault: str, wanted: tuple[str, str, str, str]
) -> None:
    told = Node(tmp_path, name, [fault]).judge()
    assert [(entry["check"], entry["place"]) for entry in told] == [wanted[:2]]
    assert wanted[2] in told[0]["found"]
    assert wanted[3] in told[0]["wanted"]
    assert told[0]["fix"].endswith((".", ")"))


def test_every_mismatch_is_told_at_once(tmp_path: Path) -> None:
    faults = [f"gpu-missing {H100_GPU}", "gpu-half-width 0000:52:00.0", "gpu-revff 0000:61:00.0", "nic-down mlx5_0",
              "nic-half-width mlx5_4", "nic-rate mlx5_5 100", "nic-missing mlx5_6"]  # fmt: skip
    told = Node(tmp_path, H100, faults).judge()
    assert [entry["check"] for entry in told] == [
        "GPU-COUNT", "GPU-LINK", "GPU-REVFF", "NIC-COUNT", "NIC-DOWN", "NIC-LINK", "NIC-RATE",
    ]  # fmt: skip
    lines = list(map(gpu_platform.line, told))
    assert all("\n" not in line and "None" not in line for line in lines)
    assert lines[1].startswith("GPU-LINK 0000:52:00.0: found PCIe x8, wanted x16. ")


def test_another_gpu_than_promised_is_named_with_both(tmp_path: Path) -> None:
    node = Node(tmp_path, "h200")
    promised = expected(platforms_tree.load(H100))
    told = node.judge(promised)
    assert [entry["check"] for entry in told] == ["GPU-OTHER"]
    assert "H200" in told[0]["found"]
    assert "H100" in told[0]["wanted"]
    assert told[0]["place"].count("0000:") == 8


def test_mixed_gpus_are_told_with_the_odd_one(tmp_path: Path) -> None:
    platform = platforms_tree.load(H100)
    platform["gpus"][3]["id"] = "10de:2335"
    node = Node(tmp_path, H100, gpus=platform["gpus"])
    assert node.checks() == [("GPU-OTHER", "0000:61:00.0"), ("GPU-MIXED", "node")]
    assert node.read()["kind"] == ""


@pytest.mark.parametrize(("gib", "found"), [(0, "no BAR with an address"), (4, "4096 MiB"), (0.25, "256 MiB")])
def test_bar_too_small_for_gpudirect(tmp_path: Path, gib: float, found: str) -> None:
    platform = platforms_tree.load(H100)
    for gpu in platform["gpus"][:1]:
        gpu["bar_gib"] = 1
    node = Node(tmp_path, H100, gpus=platform["gpus"])
    size = int(gib * (1 << 30))
    resource = tmp_path / "sys/bus/pci/devices/0000:1b:00.0/resource"
    resource.write_text(platforms_tree._resource((0 if gib == 0 else 16 << 20, size)))
    told = node.judge()
    assert [(entry["check"], entry["place"]) for entry in told] == [("GPU-BAR", "0000:1b:00.0")]
    assert found in told[0]["found"]


def test_bar_is_not_judged_where_memory_is_reached_over_c2c(tmp_path: Path) -> None:
    platform = platforms_tree.load("gb200-nvl72")
    for gpu in platform["gpus"]:
        gpu["bar_gib"] = 1
    assert Node(tmp_path, "gb200-nvl72", gpus=platform["gpus"]).judge() == []


def test_slow_slot_is_told_and_an_idle_gpu_is_not(tmp_path: Path) -> None:
    platform = platforms_tree.load(H100)
    platform["gpus"][0]["current_speed"] = "2.5 GT/s PCIe"
    assert Node(tmp_path, H100, gpus=platform["gpus"]).judge() == []
    platform["gpus"][1]["slot_speed"] = "16.0 GT/s PCIe"
    told = Node(tmp_path, H100, gpus=platform["gpus"]).judge()
    assert [(entry["check"], entry["place"]) for entry in told] == [("GPU-LINK", H100_GPU)]
    assert "at most 16 GT/s" in told[0]["found"]


def test_slow_nic_link_is_told(tmp_path: Path) -> None:
    platform = platforms_tree.load(H100)
    platform["nics"][3]["current_speed"] = "16.0 GT/s PCIe"
    told = Node(tmp_path, H100, nics=platform["nics"]).judge()
    assert [(entry["check"], entry["found"]) for entry in told] == [("NIC-LINK", "PCIe x16 at 16 GT/s")]


def test_links_of_a_virtual_machine_are_not_judged(tmp_path: Path) -> None:
    faults = ["gpu-half-width 0000:4f:00.0", "nic-half-width rdmap79s0"]
    assert Node(tmp_path, "p5", faults).judge() == []


def test_spare_port_of_a_card_may_be_down(tmp_path: Path) -> None:
    """One port of each card carries all that was promised; the other has no cable."""
    platform = platforms_tree.load("hgx-h100-roce")
    for nic in platform["nics"]:
        if nic["role"] == "compute":
            nic.update({"rate": 400} if nic["bdf"].endswith(".0") else {"state": "DOWN"})
    assert Node(tmp_path, "hgx-h100-roce", nics=platform["nics"]).judge() == []


def test_storage_cards_are_not_judged(tmp_path: Path) -> None:
    assert Node(tmp_path, H100, ["nic-down mlx5_1", "nic-half-width mlx5_7", "nic-missing mlx5_8"]).judge() == []


def test_storage_cards_do_not_stand_in_for_a_missing_one(tmp_path: Path) -> None:
    """Same make, same link layer, same rate: their place in the PCIe tree tells."""
    platform = platforms_tree.load(H100)
    for nic in platform["nics"]:
        if nic["role"] != "compute":
            nic.update(id="15b3:1021", link_layer="InfiniBand", rate=400)
    assert Node(tmp_path, H100, nics=platform["nics"]).judge() == []
    missing = [nic for nic in platform["nics"] if nic["hca"] != "mlx5_3"]
    assert Node(tmp_path, H100, nics=missing).checks() == [("NIC-COUNT", "node")]


def test_card_that_its_driver_gave_up_is_told(tmp_path: Path) -> None:
    node = Node(tmp_path, H100)
    (tmp_path / "sys/class/infiniband/mlx5_3").rename(tmp_path / "gone")
    assert node.checks() == [("NIC-DOWN", H100_NIC)]


def test_rate_of_efa_is_not_judged(tmp_path: Path) -> None:
    """Older drivers say 100 Gbit/s of every card."""
    platform = platforms_tree.load("p5en")
    for nic in platform["nics"]:
        nic["rate"] = 100
    assert Node(tmp_path, "p5en", nics=platform["nics"]).judge() == []


@pytest.mark.parametrize(
    ("unsigned", "secure", "checks"),
    [(True, "enabled", ["SECURE-BOOT"]), (False, "enabled", []), (True, "disabled", [])],
)
def test_secure_boot_is_told_for_unsigned_modules_only(
    tmp_path: Path, unsigned: bool, secure: str, checks: list[str]
) -> None:
    node = Node(tmp_path, H100, secure_boot=secure)
    told = node.judge(unsigned_modules=unsigned)
    assert [entry["check"] for entry in told] == checks
    assert all("mokutil --import" in entry["fix"] for entry in told)


@pytest.mark.parametrize(
    ("acs", "changes", "places"),
    [
        (["0000:17:00.0", "0000:17:02.0"], {}, ["0000:17:00.0, 0000:17:02.0"]),
        (["0000:15:01.0"], {}, []),  # a root port
        (["0000:17:00.0"], {"virtual": True}, []),
        (["0000:17:00.0"], {"iommu": False}, []),
    ],
)
def test_acs_between_gpus_and_their_cards_is_told_on_bare_metal_with_an_iommu(
    tmp_path: Path, acs: list[str], changes: dict[str, Any], places: list[str]
) -> None:
    node = Node(tmp_path, H100, acs=acs, **changes)
    assert node.checks() == [("ACS", place) for place in places]
    assert node.read()["acs"] == ([] if changes else acs)


# ---------------------------------------------------------------- unknown is compared with nothing


def test_nothing_promised_means_nothing_judged(tmp_path: Path) -> None:
    faults = [f"gpu-missing {H100_GPU}", "gpu-half-width 0000:52:00.0", "nic-down mlx5_0", "nic-missing mlx5_6"]
    node = Node(tmp_path, H100, faults)
    nothing: dict[str, Any] = {"gpus_per_node": 0, "platform": {}, "nics": {}, "known": []}
    told = node.judge(nothing)
    assert [(entry["check"], entry["place"]) for entry in told] == [("GPU-LINK", "0000:52:00.0")]
    assert told[0]["wanted"] == "x16"  # what the GPU itself can do
    assert node.judge({"gpus_per_node": None, "platform": None, "nics": None, "known": None}) == told
    assert node.judge({}) == told


def test_unknown_values_of_a_row_are_not_compared(tmp_path: Path) -> None:
    node = Node(tmp_path, H100)
    promised = expected(node.platform)
    promised["platform"].update(pcie_gt_s=0, pcie_width=None)
    promised["nics"].update(count=0, gbit_s=0)
    assert node.judge(promised) == []


@pytest.mark.parametrize("kind", ["tcp", "none", ""])
def test_cards_are_not_judged_without_rdma(tmp_path: Path, kind: str) -> None:
    node = Node(tmp_path, H100, ["nic-missing mlx5_0", "nic-down mlx5_3"])
    promised = expected(node.platform)
    promised["nics"]["kind"] = kind
    assert node.judge(promised) == []


def test_missing_files_are_unknown_not_wrong(tmp_path: Path) -> None:
    node = Node(tmp_path, H100)
    promised = expected(node.platform)
    for device in (tmp_path / "sys/bus/pci/devices").iterdir():
        for name in (
            "current_link_width",
            "current_link_speed",
            "max_link_width",
            "max_link_speed",
            "numa_node",
            "vpd",
        ):
            (device / name).unlink(missing_ok=True)
    assert node.judge(promised) == []
    assert {gpu["numa"] for gpu in node.read()["gpus"]} == {-1}


# ---------------------------------------------------------------- parsers


def test_lspci_lines() -> None:
    told = (
        "0000:1b:00.0 3D controller [0302]: NVIDIA Corporation GH100 [H100 SXM5 80GB] [10de:2330] (rev a1)\n"
        "0008:01:00.0 3D controller [0302]: NVIDIA Corporation Device [10DE:2941] (rev a1)\n"
        "10000:e1:00.0 Non-Volatile memory controller [0108]: Intel Corporation NVMe [8086:0a54] (prog-if 02 [NVM])\n"
        "0000:03:00.0 VGA compatible controller [0300]: ASPEED Technology [1a03:2000] (rev 52) (prog-if 00 [VGA])\n"
        "pcilib: sysfs_read_vpd: read failed: Input/output error\n"
        "0000:df:00.0 3D controller [0302]: NVIDIA Corporation GH100 [10de:2330] (rev ff) (prog-if ff)\n"
    )
    assert [(d["bdf"], d["class"], d["pci_id"], d["rev"]) for d in gpu_platform.parse_lspci(told)] == [
        ("0000:1b:00.0", "0302", "10de:2330", "a1"),
        ("0008:01:00.0", "0302", "10de:2941", "a1"),
        ("10000:e1:00.0", "0108", "8086:0a54", ""),
        ("0000:03:00.0", "0300", "1a03:2000", "52"),
        ("0000:df:00.0", "0302", "10de:2330", "ff"),
    ]


@settings(deadline=None)
@given(st.text())
def test_lspci_parser_takes_anything(told: str) -> None:
    for device in gpu_platform.parse_lspci(told):
        assert re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{4}", device["pci_id"])


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(platforms_tree.lspci_text(platforms_tree.load(H100)).splitlines()), unique=True), st.data()
)
def test_lspci_parser_finds_what_is_whole_among_what_is_cut(lines: list[str], data: st.DataObject) -> None:
    cut = [line[: data.draw(st.integers(0, 20))] for line in lines]
    told = "\n".join(word for pair in zip(cut, lines, strict=True) for word in pair)
    assert [device["bdf"] for device in gpu_platform.parse_lspci(told)] == [line.split()[0] for line in lines]


@settings(deadline=None)
@given(st.text())
def test_acs_parser_takes_anything(told: str) -> None:
    gpu_platform.parse_acs(told)


def test_acs_lines() -> None:
    platform = {**platforms_tree.load(H100), "acs": ["0000:17:00.0"]}
    assert gpu_platform.parse_acs(platforms_tree.lspci_bridges_text(platform)) == ["0000:17:00.0"]
    assert gpu_platform.parse_acs("\t\tACSCtl:\tSrcValid+ ReqRedir+\n") == []
    assert gpu_platform.parse_acs("0000:17:00.0 PCI bridge: x\n\t\tACSCtl:\tSrcValid+ ReqRedir-\n") == []


@settings(deadline=None)
@given(st.text())
def test_resource_parser_takes_anything(told: str) -> None:
    assert gpu_platform.largest_bar(told) >= 0


@settings(deadline=None)
@given(st.text())
def test_numbers_are_taken_out_of_anything(told: str) -> None:
    assert gpu_platform.number(told) >= 0
    assert gpu_platform.lanes(told) >= 0


@pytest.mark.parametrize(
    ("told", "value"),
    [
        ("32.0 GT/s PCIe", 32),
        ("8 GT/s", 8),
        ("Unknown", 0),
        ("Unknown speed", 0),
        ("", 0),
        ("400 Gb/sec (4X NDR)", 400),
        ("2.5 GT/s", 2.5),
    ],
)
def test_numbers_with_units(told: str, value: float) -> None:
    assert gpu_platform.number(told) == value


@pytest.mark.parametrize(("told", "value"), [("16", 16), ("8", 8), ("0", 0), ("63", 0), ("255", 0), ("x", 0), ("", 0)])
def test_link_width(told: str, value: int) -> None:
    assert gpu_platform.lanes(told) == value


def test_memory_region_without_an_address_counts_as_none() -> None:
    assert gpu_platform.largest_bar("0x0000000000000000 0x0000001fffffffff 0x000000000014220c\n") == 0
    assert gpu_platform.largest_bar("0x0000004000000000 0x0000005fffffffff 0x000000002014220c\n") == 0
    assert gpu_platform.largest_bar("0x0000004000000000 0x0000005fffffffff 0x000000000014220c\n") == 128 << 30
    assert gpu_platform.largest_bar("0x0000000000006000 0x000000000000607f 0x0000000000040101\n") == 0  # I/O ports


# ---------------------------------------------------------------- the module as Ansible runs it


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """lspci that says nothing, on a PATH of its own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "lspci").write_text("#!/bin/sh\nexit 0\n")
    (folder / "lspci").chmod(0o755)
    return folder / "lspci"


def run_module(program: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(paths.PLAYBOOKS / "library/gpu_platform.py")],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {"_ansible_check_mode": True, **arguments}}),
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{program.parent}:/usr/bin:/bin"},
        timeout=60,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_module_fails_with_every_mismatch_and_tells_them(program: Path) -> None:
    platform = platforms_tree.load(H100)
    program.write_text("#!/bin/sh\ncat <<'END'\n" + platforms_tree.lspci_text(platform) + "END\n")
    promised = {**expected(platform), "gpus_per_node": 9}
    promised["nics"]["count"] = 9
    answer = run_module(program, {"expected": promised})
    assert answer["failed"]
    assert {entry["check"] for entry in answer["mismatches"]} >= {"GPU-COUNT", "NIC-COUNT"}
    assert len(answer["msg"].splitlines()) == len(answer["mismatches"])
    assert len(answer["platform"]["gpus"]) == 8
    lenient = run_module(program, {"expected": promised, "judge": False})
    assert not lenient.get("failed")
    assert lenient["changed"] is False
    assert lenient["mismatches"] == answer["mismatches"]


def test_module_names_the_program_that_hangs(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(gpu_platform, "TIMEOUT_S", 0.2)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    start = time.monotonic()
    with pytest.raises(gpu_platform.Silent, match=r"lspci -Dnn gave no answer within 0\.2 s"):
        gpu_platform.run(["lspci", "-Dnn"])
    assert time.monotonic() - start < 3


def test_reading_the_largest_node_takes_less_than_a_second(tmp_path: Path) -> None:
    node = Node(tmp_path, "hgx-h100-roce")
    start = time.process_time()  # a busy machine is not the module's fault
    node.judge()
    assert time.process_time() - start < 1


def test_module_runs_on_python_3_9() -> None:
    source = (paths.PLAYBOOKS / "library/gpu_platform.py").read_text()
    assert not re.search(r"^\s*(match|case) .*:$", source, re.MULTILINE)
    assert "strict=" not in source  # of zip, from 3.10 on
    assert not (paths.PLAYBOOKS / "library/gpu_platform.py").stat().st_mode & stat.S_IXUSR
