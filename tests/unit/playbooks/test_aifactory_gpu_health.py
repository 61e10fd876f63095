"""Judging a GPU node: the module's readers and judges on recorded forms of output.

Not real: the values. The forms are those that the tools print: tags of nvidia-smi's XML of DTD v12 and v13 as
recorded from L4, A100 and RTX PRO 6000 nodes, `nvidia-smi nvlink` of an H100, kernel messages of Xids, amd-smi's JSON
of both forms.
Real: the catalogue's rows, and the processes in the tests of hanging and missing tools.
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aifactory import catalog, paths


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, paths.PLAYBOOKS / "library" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


health = load("aifactory_gpu_health")

SIGNALS = [
    {**{f: getattr(row, f) for f in ("key", "vendor", "name", "limit", "unit", "verdict", "fix")}, "source": "s"}
    for row in catalog.signals().values()
]
XIDS = [
    {"number": int(row.key), "action": row.action, "name": row.name or "", "source": "s"}
    for row in catalog.xids().values()
]
H100 = {
    "key": "h100-sxm", "pci_ids": ["10de:2330"], "architecture": "Hopper", "nvlink_links": 18, "nvlink_link_gb_s": 25.0,
    "nvlink_expected": True, "pcie_gt_s": 32.0, "pcie_width": 16, "needs_fabric_manager": True, "needs_imex": False,
}  # fmt: skip
BDFS = [f"0000:{bus:02x}:00.0" for bus in (0x1B, 0x43, 0x52, 0x61, 0x9D, 0xC3, 0xD1, 0xDF)]

GPU = """
<gpu id="0000{bdf}">
  <product_name>NVIDIA H100 80GB HBM3</product_name>
  <gpu_reset_status><reset_required>{reset_required}</reset_required></gpu_reset_status>
  <gpu_recovery_action>{recovery}</gpu_recovery_action>
  <pci><pci_bus_id>0000{bdf}</pci_bus_id><pci_gpu_link_info>
    <pcie_gen><max_link_gen>{max_gen}</max_link_gen><current_link_gen>5</current_link_gen></pcie_gen>
    <link_widths><max_link_width>16x</max_link_width><current_link_width>16x</current_link_width></link_widths>
  </pci_gpu_link_info></pci>
  <performance_state>{pstate}</performance_state>
  <{reasons}>{clocks}</{reasons}>
  <ecc_errors>
    <volatile>
      <sram_correctable>{sram_corrected}</sram_correctable>
      <sram_uncorrectable_parity>{parity}</sram_uncorrectable_parity>
      <sram_uncorrectable_secded>{secded}</sram_uncorrectable_secded>
      <dram_correctable>{dram_corrected}</dram_correctable>
      <dram_uncorrectable>{dram_uncorrected}</dram_uncorrectable>
    </volatile>
    <aggregate>
      <sram_correctable>0</sram_correctable>
      <sram_uncorrectable_parity>0</sram_uncorrectable_parity>
      <sram_uncorrectable_secded>0</sram_uncorrectable_secded>
      <dram_correctable>0</dram_correctable>
      <dram_uncorrectable>{life}</dram_uncorrectable>
      <sram_threshold_exceeded>No</sram_threshold_exceeded>
    </aggregate>
  </ecc_errors>
  <remapped_rows>
    <remapped_row_corr>0</remapped_row_corr><remapped_row_unc>{rows}</remapped_row_unc>
    <remapped_row_pending>{pending}</remapped_row_pending><remapped_row_failure>{failure}</remapped_row_failure>
  </remapped_rows>
  <fabric>
    <state>{state}</state><status>{status}</status><cliqueId>{clique}</cliqueId><clusterUuid>{cluster}</clusterUuid>
    <health><bandwidth>{bandwidth}</bandwidth><route_unhealthy>False</route_unhealthy></health>
  </fabric>
</gpu>
"""
WELL = {
    "reset_required": "No", "recovery": "None", "max_gen": "5", "pstate": "P0",
    "reasons": "clocks_event_reasons", "clocks": "",
    "sram_corrected": "0", "parity": "0", "secded": "0", "dram_corrected": "0", "dram_uncorrected": "0",
    "life": "0", "rows": "0", "pending": "No", "failure": "No", "state": "Completed", "status": "Success",
    "clique": "0",
    "cluster": "00000000-0000-0000-0000-000000000000", "bandwidth": "N/A",
}  # fmt: skip


def clock(reason: str, state: str = "Active") -> str:
    return f"<clocks_event_reason_{reason}>{state}</clocks_event_reason_{reason}>"


def smi(changes: Mapping[str, str] | None = None, count: int = 8, at: int = 3) -> str:
    """`nvidia-smi -q -x` of `count` GPUs, all well but for the changes on GPU `at`."""
    gpus = "".join(
        GPU.format(bdf=bdf.upper(), **(WELL | dict(changes or {}) if index == at else WELL))
        for index, bdf in enumerate(BDFS[:count])
    )
    head = '<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">\n<nvidia_smi_log>'
    return (
        f"{head}<driver_version>580.126.20</driver_version><cuda_version>13.0</cuda_version>{gpus}</nvidia_smi_log>\n"
    )


def judge(vendor: str = "nvidia") -> Any:
    return health.Judge(SIGNALS, XIDS, vendor)


def told(of: Any) -> list[tuple[str, str, str]]:
    return [(f["signal"], f["place"], f["verdict"]) for f in of.sorted()]


def judged(changes: Mapping[str, str] | None = None, platform: dict[str, Any] | None = None) -> Any:
    of, gpus = judge(), health.parse_smi(smi(changes))["gpus"]
    for gpu in gpus:
        health.judge_gpu(of, gpu)
    health.judge_fabric(of, gpus, platform or H100)
    return of


GPU3 = f"GPU 3 ({BDFS[3]})"


def test_healthy_gpus_are_ok_without_a_finding() -> None:
    of = judged()
    assert (of.verdict(), of.findings, of.unread) == ("ok", [], [])


@pytest.mark.parametrize(
    ("changes", "signal", "verdict"),
    [
        ({"pending": "Yes"}, "remap-pending", "reboot"),
        ({"failure": "Yes"}, "remap-failure", "rma"),
        ({"rows": "513"}, "remap-uncorrected", "rma"),
        ({"parity": "1"}, "sram-uncorrected", "fail"),
        ({"secded": "1"}, "sram-uncorrected", "fail"),
        ({"sram_corrected": "10001"}, "sram-corrected", "fail"),
        ({"dram_corrected": "20000001"}, "dram-corrected", "fail"),
        ({"dram_uncorrected": "1"}, "dram-uncorrected", "reboot"),
        ({"life": "1"}, "aggregate-uncorrected", "warn"),
        ({"recovery": "Reset"}, "recovery-reset", "reset_gpu"),
        ({"recovery": "GPU Reset Required"}, "recovery-reset", "reset_gpu"),
        ({"recovery": "Reboot"}, "recovery-reboot", "reboot"),
        ({"recovery": "Drain P2P"}, "recovery-drain", "drain"),
        ({"recovery": "Drain and Reset"}, "recovery-drain-and-reset", "reset_gpu"),
        ({"recovery": "N/A", "reset_required": "Yes"}, "recovery-reset", "reset_gpu"),
        ({"state": "In Progress", "status": "N/A"}, "fabric-state", "fail"),
        ({"state": "Completed", "status": "Insufficient Resources"}, "fabric-state", "fail"),
        ({"bandwidth": "Degraded"}, "fabric-health", "fail"),
        (
            {"clocks": clock("hw_slowdown")},
            "clock-hw-slowdown",
            "fail",
        ),
        (
            {"clocks": clock("hw_thermal_slowdown")},
            "clock-hw-thermal",
            "fail",
        ),
        (
            {"clocks": clock("hw_power_brake_slowdown")},
            "clock-power-brake",
            "fail",
        ),
        (
            {"clocks": clock("sw_thermal_slowdown")},
            "clock-sw-thermal",
            "warn",
        ),
        (
            {
                "reasons": "clocks_throttle_reasons",
                "clocks": "<clocks_throttle_reason_hw_slowdown>Active</clocks_throttle_reason_hw_slowdown>",
            },
            "clock-hw-slowdown",
            "fail",
        ),
    ],
)
def test_sign_of_one_gpu_has_its_verdict_and_names_the_gpu(changes: dict[str, str], signal: str, verdict: str) -> None:
    of = judged(changes)
    assert told(of) == [(signal, GPU3, verdict)]
    assert all(f["fix"] and f["found"] for f in of.findings)


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": "512"},
        {"sram_corrected": "10000"},
        {"dram_corrected": "20000000"},
        {"parity": "N/A", "secded": "N/A", "dram_uncorrected": "N/A", "rows": "N/A", "pending": "N/A"},
        {"recovery": "Requested functionality has been deprecated"},
        {"clocks": clock("sw_power_cap")},
        {"clocks": clock("gpu_idle")},
        {"clocks": clock("hw_slowdown", "Not Active")},
    ],
)
def test_value_at_its_limit_or_not_stated_is_no_finding(changes: dict[str, str]) -> None:
    assert judged(changes).findings == []


def test_recovery_action_that_nobody_knows_is_told_and_decides_nothing() -> None:
    of = judged({"recovery": "Something New"})
    assert of.findings == []
    assert of.unread == [f"{GPU3}: recovery action not known: Something New"]


def test_worst_finding_wins_and_comes_first() -> None:
    of = judged({"pending": "Yes", "failure": "Yes", "life": "1"})
    assert of.verdict() == "rma"
    assert [f["verdict"] for f in of.sorted()] == ["rma", "reboot", "warn"]


def test_limit_comes_from_the_row() -> None:
    rows = [dict(row, limit=0) if row["key"] == "remap-uncorrected" else row for row in SIGNALS]
    of = health.Judge(rows, XIDS, "nvidia")
    health.judge_gpu(of, health.parse_smi(smi({"rows": "1"}))["gpus"][3])
    assert told(of) == [("remap-uncorrected", GPU3, "rma")]


def test_sign_without_a_row_is_a_warning() -> None:
    of = health.Judge([], XIDS, "nvidia")
    health.judge_gpu(of, health.parse_smi(smi({"failure": "Yes"}))["gpus"][3])
    assert told(of) == [("remap-failure", GPU3, "warn")]


def test_every_signal_that_the_module_names_is_in_the_catalogue() -> None:
    text = (paths.PLAYBOOKS / "library" / "aifactory_gpu_health.py").read_text()
    import re

    named = set(re.findall(r'(?:add|above|limit)\("([a-z-]+)"', text))
    named |= {key for key in health.RECOVERY.values() if key} | set(health.CLOCK_EVENTS.values())
    named |= {
        "remap-pending",
        "remap-failure",
        "sram-corrected",
        "sram-uncorrected",
        "dram-corrected",
        "dram-uncorrected",
    }
    rest = set(catalog.signals()) - named
    assert named <= set(catalog.signals())
    assert rest == {"xid", "xid-unknown"} - named, f"nobody judges {rest}"


# The rack's fabric


def test_rack_needs_clique_and_cluster() -> None:
    rack = {**H100, "needs_imex": True}
    of = judged(platform=rack)
    assert {f["signal"] for f in of.findings} == {"fabric-clique"}
    assert len(of.findings) == 8
    gpus = health.parse_smi(smi(at=-1))["gpus"]
    for gpu in gpus:
        gpu["fabric"].update(cliqueid="32766", clusteruuid="7e5a1c2e-0000-4000-8000-000000000001")
    fine = judge()
    health.judge_fabric(fine, gpus, rack)
    assert fine.findings == []
    gpus[2]["fabric"]["cliqueid"] = "7"
    health.judge_fabric(fine, gpus, rack)
    assert [(f["place"], f["found"]) for f in fine.findings] == [("node", "2 different cliques")]


def test_fabric_is_not_judged_where_the_platform_has_none() -> None:
    assert judged({"state": "In Progress"}, {"key": "l40s"}).findings == []


def test_gpu_without_a_fabric_state_is_told_not_judged() -> None:
    of = judged({"state": "N/A", "status": "N/A"})
    assert of.findings == []
    assert [GPU3 in text for text in of.unread] == [True]


# The bus


LSPCI = """\
0000:07:00.0 Bridge [0680]: NVIDIA Corporation GH100 [H100 NVSwitch] [10de:22a3] (rev a1)
0000:18:00.0 Infiniband controller [0207]: Mellanox Technologies MT2910 Family [ConnectX-7] [15b3:1021]
0000:1b:00.0 3D controller [0302]: NVIDIA Corporation GH100 [H100 SXM5 80GB] [10de:2330] (rev a1)
0000:43:00.0 3D controller [0302]: NVIDIA Corporation GH100 [H100 SXM5 80GB] [10de:2330] (rev ff)
"""


def test_bus_tells_gpus_from_switches_and_cards() -> None:
    devices = health.parse_bus(LSPCI)
    assert [d["bdf"] for d in devices if health.is_gpu(d, "nvidia", H100)] == ["0000:1b:00.0", "0000:43:00.0"]


def test_missing_gpu_and_one_off_the_bus_are_replaced() -> None:
    of = judge()
    devices = [d for d in health.parse_bus(LSPCI) if health.is_gpu(d, "nvidia", H100)]
    health.judge_bus(of, devices, 8)
    assert told(of) == [("gpu-off-bus", "0000:43:00.0", "replace"), ("gpu-count", "PCI bus", "replace")]
    assert "2 GPUs: 0000:1b:00.0, 0000:43:00.0" in of.findings[1]["found"]


LINK = {"speed_gt_s": 32.0, "max_speed_gt_s": 32.0, "width": 16.0}


@pytest.mark.parametrize(
    ("link", "gpu", "expected"),
    [
        ({}, {}, []),
        ({"width": 8.0}, {}, ["pcie-width"]),
        ({"speed_gt_s": 16.0}, {"busy": True}, ["pcie-speed"]),
        ({"speed_gt_s": 2.5}, {"busy": False}, []),  # asleep
        ({"speed_gt_s": 2.5, "max_speed_gt_s": 16.0}, {"busy": False}, ["pcie-speed"]),
        ({"speed_gt_s": 2.5}, {"busy": False, "max_generation": 4.0}, ["pcie-speed"]),  # the slot holds it back
        ({"width": None}, {}, []),
    ],
)
def test_pcie_link_against_the_platform(link: dict[str, Any], gpu: dict[str, Any], expected: list[str]) -> None:
    of = judge()
    health.judge_links(of, {BDFS[0]: {**LINK, **link}}, H100, {BDFS[0]: {"index": 0, **gpu}})
    assert [f["signal"] for f in of.findings] == expected
    assert all(f["verdict"] == "reseat" and f["place"] == f"GPU 0 ({BDFS[0]})" for f in of.findings)


def test_unknown_width_and_speed_are_compared_with_nothing_and_said() -> None:
    of = judge()
    health.judge_links(of, {BDFS[0]: {**LINK, "width": 1.0}}, {"key": "new"}, {})
    assert of.findings == []
    assert len(of.unread) == 2


# NVLink


def nvlink(**down: str) -> str:
    lines = []
    for index in range(8):
        lines.append(f"GPU {index}: NVIDIA H100 80GB HBM3 (UUID: GPU-{index})")
        lines += [f"\t Link {link}: {down.get(f'g{index}l{link}', '26.562 GB/s')}" for link in range(18)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("down", "expected"),
    [
        ({}, []),
        ({"g5l17": "<inactive>"}, [("nvlink-count", f"GPU 5 ({BDFS[5]})", "fail")]),
        ({"g5l2": "12.5 GB/s"}, [("nvlink-speed", f"GPU 5 ({BDFS[5]})", "fail")]),
    ],
)
def test_nvlinks_are_counted_and_measured(down: dict[str, str], expected: list[tuple[str, str, str]]) -> None:
    of = judge()
    health.judge_nvlink(of, health.parse_nvlink(nvlink(**down)), health.parse_smi(smi())["gpus"], H100)
    assert told(of) == expected


# Xids


def xids(*lines: str, changes: Mapping[str, str] | None = None) -> Any:
    of = judge()
    seen = {gpu["bdf"]: gpu for gpu in health.parse_smi(smi(changes))["gpus"]}
    health.judge_xids(of, health.parse_xids("\n".join(lines)), seen)
    return of


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("NVRM: Xid (PCI:0000:61:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.", "reboot"),
        ("[  12.3] NVRM: Xid (PCI:0000:61:00): 31, pid=1, name=python3, Ch 00000008, MMU Fault", "warn"),
        ("NVRM: Xid (PCI:0000:61:00): 48, pid=1, An uncorrectable double bit error", "drain"),
        ("NVRM: Xid (PCI:0000:61:00): 95, pid=1, Uncontained: LTC TAG", "reset_gpu"),
        ("NVRM: Xid (PCI:0000:61:00): 119, pid=1, Timeout waiting for RPC from GSP0!", "reset_gpu"),
        ("NVRM: Xid (PCI:0000:61:00): 54", "reseat"),
        ("NVRM: Xid (PCI:0000:61:00): 149, NETIR_LINK_EVT Fatal XC0 i0 Link 08 (0x004505c6 0x0)", "reset_gpu"),
        ("NVRM: Xid (PCI:0000:61:00): 145, RLW_REMAP Nonfatal XC0 i0 Link 00 (0x00000004 0x1)", "warn"),
        ("NVRM: Xid (PCI:0000:61:00): 999, something", "warn"),
    ],
)
def test_xid_has_the_verdict_of_its_row_and_names_the_gpu(line: str, verdict: str) -> None:
    of = xids(line)
    assert [(f["place"], f["verdict"]) for f in of.findings] == [(GPU3, verdict)]
    assert of.findings[0]["found"].startswith("Xid ")


def test_xid_to_ignore_is_no_finding() -> None:
    assert xids("NVRM: Xid (PCI:0000:61:00): 63, Row Remapper: New row marked for remapping").findings == []


def test_same_xid_again_is_one_finding_with_its_number() -> None:
    line = "NVRM: Xid (PCI:0000:61:00): 13, Graphics Exception"
    of = xids(line, line, line)
    assert [f["found"] for f in of.findings] == ["Xid 13 (3 times): Graphics Exception"]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("from 0x0 (None) to 0x1 (GPU Reset Required)", ["reset_gpu"]),
        ("from 0x0 (None) to 0x2 (OS Reboot)", ["reboot"]),
        ("from 0x0 (None) to 0x2 (Node Reboot Required)", ["reboot"]),
        ("from 0x0 (None) to 0x3 (Drain P2P)", ["drain"]),
        ("from 0x0 (None) to 0x4 (Drain and Reset)", ["reset_gpu"]),
        ("from 0x2 (Node Reboot Required) to 0x0 (None)", []),
    ],
)
def test_xid_154_carries_the_recovery_action(message: str, expected: list[str]) -> None:
    line = f"NVRM: Xid (PCI:0000:61:00): 154, GPU recovery action changed {message}"
    assert [f["verdict"] for f in xids(line, changes={"recovery": "N/A"}).findings] == expected


def test_xid_154_gives_way_to_what_the_driver_says_now() -> None:
    line = "NVRM: Xid (PCI:0000:61:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)"
    assert xids(line).findings == []


def test_xid_of_a_gpu_that_the_tool_does_not_show_names_the_bus() -> None:
    of = xids("NVRM: Xid (PCI:0000:aa:00): 79, GPU has fallen off the bus.")
    assert told(of) == [("xid", "0000:aa:00", "reboot")]


# Fabric cards


NIC = {
    "hca": "mlx5_0", "model": "0x15b30x1021", "netdevs": ["ib0"], "state": "ACTIVE", "rate_gbit_s": 400.0,
    "width": 16.0, "max_width": 16.0,
}  # fmt: skip
WANTED = {"count": 2, "gbit_s": 400.0, "kind": "infiniband"}
STORAGE = {**NIC, "hca": "mlx5_9", "model": "0x15b30xa2dc", "netdevs": ["eth9"], "rate_gbit_s": 200.0}


@pytest.mark.parametrize(
    ("change", "flaps", "expected"),
    [
        ({}, {}, []),
        ({"state": "DOWN"}, {}, [("nic-link", "mlx5_1", "fail")]),
        ({"rate_gbit_s": 200.0}, {}, [("nic-rate", "mlx5_1", "fail")]),
        ({"width": 8.0}, {}, [("nic-width", "mlx5_1", "reseat")]),
        ({}, {"ib1": 2}, [("link-flap", "mlx5_1 (ib1)", "drain")]),
        ({}, {"eth7": 2}, []),
    ],
)
def test_fabric_card_by_card(
    change: dict[str, Any], flaps: dict[str, int], expected: list[tuple[str, str, str]]
) -> None:
    of = judge()
    health.judge_nics(of, [NIC, {**NIC, "hca": "mlx5_1", "netdevs": ["ib1"], **change}, STORAGE], WANTED, flaps)
    assert told(of) == expected


def test_other_cards_beside_the_promised_ones_are_no_finding() -> None:
    of = judge()
    health.judge_nics(of, [NIC, {**NIC, "hca": "mlx5_1"}, STORAGE], WANTED, {})
    assert of.findings == []


def test_missing_card_is_replaced() -> None:
    of = judge()
    health.judge_nics(of, [NIC], WANTED, {})
    assert told(of) == [("nic-count", "PCI bus", "replace")]


def test_carrier_losses_seen_twice_count_once() -> None:
    kernel = "mlx5_core 0000:9a:00.0 ib0: Link down\nmlx5_core 0000:9a:00.0 ib0: Link up\n"
    text = f"{kernel}ib0: Lost carrier\neth0: Lost carrier\n"
    assert health.parse_flaps(text) == {"ib0": 1, "eth0": 1}


# Boots, services, tools


def test_boots_are_read_in_utc_oldest_first() -> None:
    text = (
        "IDX BOOT ID                          FIRST ENTRY                 LAST ENTRY\n"
        f" -1 {'a' * 32} Mon 2026-11-23 23:00:00 UTC Tue 2026-11-24 00:00:00 UTC\n"
        f"  0 {'b' * 32} Tue 2026-11-24 00:01:00 UTC Tue 2026-11-24 01:00:00 UTC\n"
    )
    assert health.parse_boots(text) == [
        {"id": "a" * 32, "start": 1795474800},
        {"id": "b" * 32, "start": 1795478460},
    ]


def test_boots_a_day_and_boots_without_a_shutdown() -> None:
    of, now = judge(), 1_000_000
    boots = [{"id": str(n), "start": now - 3600 * n} for n in range(1, 6)]
    health.judge_boots(of, boots, [], now)
    assert of.findings == []
    health.judge_boots(of, [*boots, {"id": "0", "start": now - 60}], boots[:1], now)
    assert [f["signal"] for f in of.findings] == ["boots-a-day", "boot-unclean"]


@pytest.mark.parametrize(
    ("tail", "well"),
    [
        ("systemd[1]: Reached target reboot.target - System Reboot.", True),
        ("Journal stopped", True),
        ("python3[1]: loss=0.3", False),
    ],
)
def test_last_lines_of_a_boot_tell_a_shutdown_from_a_crash(tail: str, well: bool) -> None:
    assert health.ended_well(tail) is well


def test_service_that_does_not_run_is_named() -> None:
    of = judge()
    health.judge_services(of, {"nvidia-fabricmanager.service": "failed", "nvidia-persistenced.service": "active"})
    assert told(of) == [("service-down", "nvidia-fabricmanager.service", "fail")]


def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Any:
    """A node whose nvidia-smi is the script, and which has no other tool."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    params = {
        "vendor": "nvidia",
        "platform": H100,
        "timeout_s": 1,
        "xids_since": "",
        "services": [],
        "gpus_per_node": 8,
        "nics": {},
    }
    return health.Node(params, judge(), str(tmp_path / "sys"))


def test_tool_that_hangs_is_named_after_its_time_and_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = node(tmp_path, monkeypatch, "exec sleep 30")
    start = time.monotonic()
    assert hanging.smi(["nvidia-smi", "-q", "-x"]) is None
    assert time.monotonic() - start < 5
    (finding,) = hanging.judge.findings
    assert (finding["signal"], finding["place"], finding["verdict"]) == ("tool-silent", "nvidia-smi", "fail")
    assert "`nvidia-smi -q -x` did not answer within 1 s" in finding["found"]


def test_tool_that_fails_is_a_finding_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (
        "Unable to determine the device handle for GPU0000:61:00.0: GPU is lost. Reboot the system to recover this GPU"
    )
    lost = node(tmp_path, monkeypatch, f"echo '{words}'; exit 15")
    assert lost.smi(["nvidia-smi", "-q", "-x"]) is None
    assert [(f["signal"], words in f["found"]) for f in lost.judge.findings] == [("tool-failed", True)]


def test_gpu_on_the_bus_that_the_tool_does_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "smi.xml").write_text(smi(count=7))
    seven = node(tmp_path, monkeypatch, f"cat {tmp_path / 'smi.xml'}")
    devices = [{"bdf": bdf, "off_bus": False} for bdf in BDFS]
    seven.look_at_nvidia(devices)
    assert ("gpu-unseen", BDFS[7], "fail") in told(seven.judge)


def test_loaded_driver_that_is_not_the_installed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    it = node(tmp_path, monkeypatch, "exit 0")
    (tmp_path / "bin" / "modinfo").write_text("#!/bin/sh\necho 580.178.04\n")
    (tmp_path / "bin" / "modinfo").chmod(0o755)
    it.look_at_driver("nvidia")
    assert told(it.judge) == [("driver-missing", "nvidia", "fail")]
    (tmp_path / "sys/module/nvidia").mkdir(parents=True)
    (tmp_path / "sys/module/nvidia/version").write_text("580.126.20\n")
    it.judge.findings.clear()
    it.look_at_driver("nvidia")
    assert told(it.judge) == [("driver-mismatch", "nvidia", "reboot")]


def test_bridge_functions_are_no_cards() -> None:
    assert health.bridges_of({"bridges": [{"bdf": "0000:05:00.0", "hca": "mlx5_4"}]}) == {"mlx5_4"}


# AMD


ECC = {"total_correctable_count": 3, "total_uncorrectable_count": 6, "total_deferred_count": 0}


@pytest.mark.parametrize("form", ["list", "object"])
def test_amd_counts_in_both_forms_of_the_json(form: str) -> None:
    rows = [{"gpu": 0, "ecc": {**ECC, "total_uncorrectable_count": 5}}, {"gpu": 1, "ecc": ECC}]
    text = json.dumps(rows if form == "list" else {"gpu_data": rows})
    of = judge("amd")
    health.judge_amd(of, health.parse_amd(text), [], {0: "0000:05:00.0", 1: "0000:26:00.0"})
    assert told(of) == [("amd-uncorrected", "GPU 1 (0000:26:00.0)", "fail")]


@pytest.mark.parametrize(
    ("pending", "expected"),
    [("No bad pages found.", 0), ([{"page_address": "0x1"}], 1), ("0x10 : 0x1000 : P", 2), ("N/A", 0), (2, 2)],
)
def test_amd_pages_that_wait(pending: object, expected: int) -> None:
    of = judge("amd")
    assert health.pages(pending) == expected
    health.judge_amd(of, [], [{"gpu": 0, "pending": pending}], {})
    assert bool(of.findings) is bool(expected)


def test_signs_of_the_other_maker_do_not_count() -> None:
    of = judge("amd")
    assert "remap-pending" not in of.rows
    assert "gpu-count" in of.rows


# What people read


def test_sentence_names_verdict_place_and_what_to_do() -> None:
    of = judged({"pending": "Yes"})
    text = health.sentence(of.verdict(), of.sorted(), {"gpus_per_node": 8})
    assert text.startswith(f"reboot: {GPU3}: Row remapping is pending, found yes.")
    assert "reboot the node" in text
    assert health.sentence("ok", [], {"gpus_per_node": 8}) == "ok: 8 GPUs, nothing found"


@pytest.mark.parametrize(
    ("cuda", "packages"),
    [
        ("13.0", ["datacenter-gpu-manager-4-core", "datacenter-gpu-manager-4-cuda13"]),
        ("12.8", ["datacenter-gpu-manager-4-core", "datacenter-gpu-manager-4-cuda12"]),
        ("11.4", []),
        ("", []),
    ],
)
def test_dcgm_package_follows_the_drivers_cuda(cuda: str, packages: list[str]) -> None:
    assert health.dcgm_packages(cuda) == packages


def test_verdicts_are_those_of_the_catalogue_and_the_role() -> None:
    import typing

    from aifactory.catalog.types import Signal, Xid
    from ruamel.yaml import YAML

    hints, vars_file = typing.get_type_hints(Signal), paths.PLAYBOOKS / "roles/health/vars/main.yml"
    assert typing.get_args(hints["verdict"]) == health.VERDICTS
    assert set(typing.get_args(typing.get_type_hints(Xid)["action"])) == set(health.XID_ACTIONS) | {"parse"}
    assert tuple(YAML(typ="safe").load(vars_file)["_health_verdicts"]) == health.VERDICTS
