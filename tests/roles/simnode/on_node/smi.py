"""nvidia-smi: what the driver tells of its GPUs, in the forms of drivers 570 and 580."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from . import core, fabric, kernel, sysfs
from .core import View

CUDA = {"570": "12.8", "580": "13.0", "595": "13.2", "610": "13.3"}
DEPRECATED = "Requested functionality has been deprecated"
Report = list[tuple[str, str, Any] | None]
"""(label, XML tag, value or a list of the same); None for what this driver does not tell."""

PROFILES = {0: "Max-P", 1: "Max-Q", 2: "Compute", 3: "Memory Bound", 5: "Balanced", 6: "LLM Inference",
            7: "LLM Training", 13: "HPC"}  # fmt: skip
REASONS = {
    "gpu_idle": ("Idle", 0x1), "applications_clocks_setting": ("Applications Clocks Setting", 0x2),
    "sw_power_cap": ("SW Power Cap", 0x4), "hw_slowdown": ("HW Slowdown", 0x8),
    "hw_thermal_slowdown": ("HW Thermal Slowdown", 0x40), "hw_power_brake_slowdown": ("HW Power Brake Slowdown", 0x80),
    "sync_boost": ("Sync Boost", 0x10), "sw_thermal_slowdown": ("SW Thermal Slowdown", 0x20),
    "display_clocks_setting": ("Display Clock Setting", 0x100),
}  # fmt: skip


class Refusal(Exception):
    """What nvidia-smi prints and its exit status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


def run(_name: str, arguments: list[str]) -> int:
    view = core.view()
    if view.has("smi-hang"):
        time.sleep(float((view.fault("smi-hang")[0] or ["3600"])[0]))
    try:
        view = with_driver(view)
        return command(view, arguments)
    except Refusal as refusal:
        print(refusal)
        return refusal.status


def with_driver(view: View) -> View:
    """The view once the driver is loaded, which nvidia-smi has done where it is not. Raises Refusal."""
    if "nvidia" not in view.modules and os.geteuid() == 0:
        kernel.load("nvidia", {}, quiet=True)
        view = core.view()
    loaded = view.modules.get("nvidia")
    if not loaded:
        raise Refusal(
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest"
            " NVIDIA driver is installed and running.\n", 9,
        )  # fmt: skip
    library = core.library_version()
    if library != loaded["version"] or view.has("version-mismatch"):
        raise Refusal(
            "Failed to initialize NVML: Driver/library version mismatch\n"
            f"NVML library version: {'.'.join(library.split('.')[:2])}", 18,
        )  # fmt: skip
    return view


def gpus(view: View) -> list[dict[str, Any]]:
    """GPUs that the loaded module drives, in the driver's order."""
    loaded = view.modules.get("nvidia", {"version": "0.0.0"})
    return [
        {**gpu, "index": index}
        for index, gpu in enumerate(gpu for gpu in view.usable if not kernel.unsupported(gpu, loaded))
    ]


def bus_id(gpu: dict[str, Any]) -> str:
    return f"0000{gpu['bdf']}".upper()


def command(view: View, arguments: list[str]) -> int:  # noqa: PLR0911
    subcommands = {"nvlink": nvlink, "topo": topo, "power-profiles": power_profiles, "conf-compute": lambda *_: 0}
    if arguments and arguments[0] in subcommands:
        return subcommands[arguments[0]](view, _chosen(view, arguments), arguments[1:])
    chosen = _chosen(view, arguments)
    if not chosen:
        print("No devices were found")
        return 6
    lost = view.fault("gpu-lost")
    for gpu in chosen:
        if [str(gpu["index"])] in lost:
            print(
                f"Unable to determine the device handle for GPU{gpu['index']}: {gpu['bdf'].upper()}: GPU is lost."
                " Reboot the system to recover this GPU"
            )
            return 15
    for flag in ("--query-gpu", "--query-remapped-rows", "--query-compute-apps"):
        fields = _value(arguments, flag)
        if fields:
            return query(
                view, [] if flag.endswith("apps") else chosen, fields.split(","), _value(arguments, "--format")
            )
    for flags, action in (
        (("-pl", "--power-limit"), limit),
        (("-pm", "--persistence-mode"), persistence),
        (("-r", "--gpu-reset"), reset),
    ):
        if any(word in flags or word.startswith(f"{flags[1]}=") for word in arguments):
            return action(view, chosen, _value(arguments, *flags))
    if "-L" in arguments or "--list-gpus" in arguments:
        for gpu in chosen:
            print(f"GPU {gpu['index']}: {gpu['name']} (UUID: GPU-{gpu['uuid']})")
        return 0
    if "-q" in arguments or "--query" in arguments:
        xml = "-x" in arguments or "--xml-format" in arguments
        return print_xml(view, chosen) if xml else print_text(view, chosen, _value(arguments, "-d", "--display"))
    return overview(view, chosen)


def _value(arguments: list[str], *flags: str) -> str:
    for position, word in enumerate(arguments):
        if word in flags:
            return arguments[position + 1] if len(arguments) > position + 1 else ""
        for flag in flags:
            if word.startswith(f"{flag}="):
                return word.partition("=")[2]
    return ""


def _chosen(view: View, arguments: list[str]) -> list[dict[str, Any]]:
    every = gpus(view)
    wanted = _value(arguments, "-i", "--id")
    if not wanted:
        return every
    found = []
    for word in wanted.split(","):
        match = [
            gpu for gpu in every
            if word in (str(gpu["index"]), f"GPU-{gpu['uuid']}") or word.upper() in (bus_id(gpu), gpu["bdf"].upper())
        ]  # fmt: skip
        if not match:
            raise Refusal(f"No devices were found\nInvalid combination of input arguments: {word}", 6)
        found += match
    return found


# -- values


def numbers(view: View, gpu: dict[str, Any]) -> dict[str, Any]:
    """What is measured of a GPU, as plain values."""
    nvidia, index = view.nvidia, str(gpu["index"])
    default = float(nvidia.get("power_default_w", 0))
    requested = float(view.state.get("limits", {}).get(gpu["bdf"], default))
    held = [float(watt) for which, watt in view.fault("power-held") if which == index]
    ecc = [int((rest or ["1"])[0]) for which, *rest in view.fault("ecc") if which == index]
    pending, failed = view.has("remap-pending", index), view.has("remap-failed", index)
    active = {"gpu_idle"} | {rest[0] for which, *rest in view.fault("clocks") if which == index}
    if active & {"hw_thermal_slowdown", "hw_power_brake_slowdown"}:
        active.add("hw_slowdown")
    return {
        "requested": requested, "enforced": min([requested, *held]), "default": default,
        "min": float(nvidia.get("power_min_w", 0)), "max": float(nvidia.get("power_max_w", 0)),
        "draw": default / 7, "memory": int(nvidia.get("memory_mib", 0)), "used": 4,
        "ecc": ecc[0] if ecc else 0, "pending": pending, "failed": failed,
        "remapped": 1 if pending or failed else 0, "active": active,
        "mask": sum(REASONS[name][1] for name in active if name in REASONS),
        "recovery": "Reset" if pending or failed or ecc else "None",
        "persistent": bool(core.alive("nvidia-persistenced")) or bool(view.state.get("persistence")),
        "generation": {"16.0": 4, "32.0": 5, "64.0": 6}.get(gpu["speed"].split()[0], 3),
    }  # fmt: skip


def version(view: View) -> str:
    return str(view.modules["nvidia"]["version"])


def cuda_version(view: View) -> str:
    return CUDA.get(version(view).partition(".")[0], "13.0")


def _watt(value: float) -> str:
    return f"{value:.2f} W"


def _yes(value: bool) -> str:
    return "Yes" if value else "No"


# -- nvidia-smi -q


def report(view: View, gpu: dict[str, Any]) -> Report:
    """One GPU as drivers 570 and 580 tell it. Rare sections that nobody here reads are left out."""
    now = numbers(view, gpu)
    state, status, clique, cluster = fabric.told(view)
    complete = state == "Completed"
    domain, bus, _ = gpu["bdf"].split(":")
    vendor, number = gpu["id"].split(":")
    modern = int(version(view).partition(".")[0]) >= 580
    free = now["memory"] - now["used"] - 600
    power = [
        ("Power State", "power_state", "P0") if not modern else None,
        ("Average Power Draw", "average_power_draw", _watt(now["draw"])),
        ("Instantaneous Power Draw", "instant_power_draw", _watt(now["draw"])),
        ("Current Power Limit", "current_power_limit", _watt(now["enforced"])),
        ("Requested Power Limit", "requested_power_limit", _watt(now["requested"])),
        ("Default Power Limit", "default_power_limit", _watt(now["default"])),
        ("Min Power Limit", "min_power_limit", _watt(now["min"])),
        ("Max Power Limit", "max_power_limit", _watt(now["max"])),
    ]
    health_value = "False" if complete else "N/A"
    health = [
        ("Summary", "summary", "Healthy" if complete else "N/A") if modern else None,
        ("Bandwidth", "bandwidth", "Full" if complete else "N/A"),
        ("Route Recovery in progress", "route_recovery_in_progress", health_value),
        ("Route Unhealthy", "route_unhealthy", health_value),
        ("Access Timeout Recovery", "access_timeout_recovery", health_value),
        ("Incorrect Configuration", "incorrect_configuration", "None" if complete else "N/A") if modern else None,
    ]
    return [
        ("Product Name", "product_name", gpu["name"]),
        ("Product Brand", "product_brand", "NVIDIA"),
        ("Product Architecture", "product_architecture", architecture(gpu)),
        ("Display Mode", "display_mode", DEPRECATED if modern else "Enabled"),
        ("Display Active", "display_active", "Disabled"),
        ("Persistence Mode", "persistence_mode", "Enabled" if now["persistent"] else "Disabled"),
        ("Addressing Mode", "addressing_mode", "ATS" if view.description.get("arch") == "aarch64" else "HMM"),
        ("MIG Mode", "mig_mode", [("Current", "current_mig", "Disabled"), ("Pending", "pending_mig", "Disabled")]),
        ("Serial Number", "serial", gpu["serial"]),
        ("GPU UUID", "uuid", f"GPU-{gpu['uuid']}"),
        ("Minor Number", "minor_number", str(gpu["index"])),
        ("VBIOS Version", "vbios_version", "97.00.8F.00.15"),
        ("MultiGPU Board", "multigpu_board", "No"),
        ("Board ID", "board_id", f"0x{bus}00"),
        ("Board Part Number", "board_part_number", "692-2G525-0220-000"),
        ("GPU Part Number", "gpu_part_number", f"{number.upper()}-885-A1"),
        ("Platform Info", "platformInfo", [
            ("Chassis Serial Number", "chassis_serial_number", "N/A"), ("Slot Number", "slot_number", "N/A"),
            ("Tray Index", "tray_index", "N/A"), ("Host ID", "host_id", "N/A"),
            ("Peer Type", "peer_type", "Switch Connected" if fabric.kind(view) != "none" else "N/A"),
            ("Module Id", "module_id", str(gpu["position"] + 1)), ("GPU Fabric GUID", "gpu_fabric_guid", "0x0"),
        ]),
        ("Inforom Version", "inforom_version", [
            ("Image Version", "img_version", "G525.0225.00.05"), ("OEM Object", "oem_object", "2.1"),
            ("ECC Object", "ecc_object", "7.16"), ("Power Management Object", "pwr_object", "N/A"),
        ]),
        ("GPU Reset Status", "gpu_reset_status", [
            ("Reset Required", "reset_required", DEPRECATED),
            ("Drain and Reset Recommended", "drain_and_reset_recommended", DEPRECATED),
        ]) if not modern else None,
        ("GPU Recovery Action", "gpu_recovery_action", now["recovery"]),
        ("GSP Firmware Version", "gsp_firmware_version", version(view)),
        ("PCI", "pci", [
            ("Bus", "pci_bus", f"0x{bus.upper()}"), ("Device", "pci_device", "0x00"),
            ("Domain", "pci_domain", f"0x{domain.upper()}"),
            ("Base Classcode", "pci_base_class", "0x3"), ("Sub Classcode", "pci_sub_class", "0x2"),
            ("Device Id", "pci_device_id", f"0x{number.upper()}{vendor.upper()}"),
            ("Bus Id", "pci_bus_id", bus_id(gpu)), ("Sub System Id", "pci_sub_system_id", "0x1234" + vendor.upper()),
            ("GPU Link Info", "pci_gpu_link_info", [
                ("PCIe Generation", "pcie_gen", [
                    ("Max", "max_link_gen", str(now["generation"])),
                    ("Current", "current_link_gen", str(now["generation"])),
                    ("Device Current", "device_current_link_gen", str(now["generation"])),
                    ("Device Max", "max_device_link_gen", str(now["generation"])),
                    ("Host Max", "max_host_link_gen", str(now["generation"])),
                ]),
                ("Link Width", "link_widths", [
                    ("Max", "max_link_width", f"{gpu['max_width']}x"),
                    ("Current", "current_link_width", f"{gpu['width']}x"),
                ]),
            ]),
            ("Replays Since Reset", "replay_counter", "0"),
            ("Replay Number Rollovers", "replay_rollover_counter", "0"),
        ]),
        ("Fan Speed", "fan_speed", "N/A"),
        ("Performance State", "performance_state", "P0"),
        ("Clocks Event Reasons", "clocks_event_reasons", [
            (label, f"clocks_event_reason_{name}", "Active" if name in now["active"] else "Not Active")
            for name, (label, _) in REASONS.items()
        ]),
        ("Clocks Event Reasons Counters", "clocks_event_reasons_counters", [
            ("SW Power Capping", "clocks_event_reasons_counters_sw_power_cap", "0 us"),
            ("Sync Boost", "clocks_event_reasons_counters_sync_boost", "0 us"),
            ("SW Thermal Slowdown", "clocks_event_reasons_counters_sw_therm_slowdown", "0 us"),
            ("HW Thermal Slowdown", "clocks_event_reasons_counters_hw_therm_slowdown", "0 us"),
            ("HW Power Braking", "clocks_event_reasons_counters_hw_power_brake", "0 us"),
        ]) if modern else None,
        ("FB Memory Usage", "fb_memory_usage", [
            ("Total", "total", f"{now['memory']} MiB"), ("Reserved", "reserved", "600 MiB"),
            ("Used", "used", f"{now['used']} MiB"), ("Free", "free", f"{free} MiB"),
        ]),
        ("BAR1 Memory Usage", "bar1_memory_usage", [
            ("Total", "total", f"{gpu['bar'] >> 20} MiB"), ("Used", "used", "2 MiB"),
            ("Free", "free", f"{(gpu['bar'] >> 20) - 2} MiB"),
        ]),
        ("Compute Mode", "compute_mode", "Default"),
        ("Utilization", "utilization", [
            ("GPU", "gpu_util", "0 %"), ("Memory", "memory_util", "0 %"), ("Encoder", "encoder_util", "0 %"),
            ("Decoder", "decoder_util", "0 %"),
        ]),
        ("ECC Mode", "ecc_mode", [("Current", "current_ecc", "Enabled"), ("Pending", "pending_ecc", "Enabled")]),
        ("ECC Errors", "ecc_errors", [
            ("Volatile", "volatile", _ecc(now["ecc"])),
            ("Aggregate", "aggregate", [
                *_ecc(now["ecc"]), ("SRAM Threshold Exceeded", "sram_threshold_exceeded", "No"),
            ]),
            ("Channel Repair Pending", "channel_repair_pending", "No") if modern else None,
            ("TPC Repair Pending", "tpc_repair_pending", "No") if modern else None,
        ]),
        ("Retired Pages", "retired_pages", [
            ("Single Bit ECC", "multiple_single_bit_retirement", [
                ("Retired Count", "retired_count", "N/A"), ("Retired Page List", "retired_pagelist", "N/A"),
            ]),
            ("Pending Page Blacklist", "pending_retirement", "N/A"),
        ]),
        ("Remapped Rows", "remapped_rows", [
            ("Correctable Error", "remapped_row_corr", "0"),
            ("Uncorrectable Error", "remapped_row_unc", str(now["remapped"])),
            ("Pending", "remapped_row_pending", _yes(now["pending"])),
            ("Remapping Failure Occurred", "remapped_row_failure", _yes(now["failed"])),
            ("Bank Remap Availability Histogram", "row_remapper_histogram", [
                ("Max", "row_remapper_histogram_max", f"{2560 - now['remapped']} bank(s)"),
                ("High", "row_remapper_histogram_high", f"{now['remapped']} bank(s)"),
                ("Partial", "row_remapper_histogram_partial", "0 bank(s)"),
                ("Low", "row_remapper_histogram_low", "0 bank(s)"),
                ("None", "row_remapper_histogram_none", "0 bank(s)"),
            ]),
        ]),
        ("Temperature", "temperature", [
            ("GPU Current Temp", "gpu_temp", "31 C"), ("GPU T.Limit Temp", "gpu_temp_tlimit", "55 C"),
            ("GPU Shutdown T.Limit Temp", "gpu_temp_max_tlimit_threshold", "-8 C"),
            ("GPU Slowdown T.Limit Temp", "gpu_temp_slow_tlimit_threshold", "-2 C"),
            ("GPU Max Operating T.Limit Temp", "gpu_temp_max_gpu_tlimit_threshold", "0 C"),
            ("Memory Current Temp", "memory_temp", "33 C"),
        ]),
        ("GPU Power Readings", "gpu_power_readings", power),
        ("Workload Power Profiles", "power_profiles", [
            ("Requested Profiles", "power_profile_requested_profiles", _profile_names(view, gpu)),
            ("Enforced Profiles", "power_profile_enforced_profiles", _profile_names(view, gpu)),
        ]),
        ("Clocks", "clocks", [
            ("Graphics", "graphics_clock", "345 MHz"), ("SM", "sm_clock", "345 MHz"),
            ("Memory", "mem_clock", "2619 MHz"), ("Video", "video_clock", "765 MHz"),
        ]),
        ("Max Clocks", "max_clocks", [
            ("Graphics", "graphics_clock", "1980 MHz"), ("SM", "sm_clock", "1980 MHz"),
            ("Memory", "mem_clock", "2619 MHz"), ("Video", "video_clock", "1545 MHz"),
        ]),
        ("Fabric", "fabric", [
            ("State", "state", state), ("Status", "status", status), ("CliqueId", "cliqueId", clique),
            ("ClusterUUID", "clusterUuid", cluster), ("Health", "health", health),
        ]),
        ("Processes", "processes", "None"),
        ("Capabilities", "capabilities", [("EGM", "egm", "disabled")]),
    ]  # fmt: skip


def _ecc(uncorrectable: int) -> Report:
    return [
        ("SRAM Correctable", "sram_correctable", "0"),
        ("SRAM Uncorrectable Parity", "sram_uncorrectable_parity", "0"),
        ("SRAM Uncorrectable SEC-DED", "sram_uncorrectable_secded", "0"),
        ("DRAM Correctable", "dram_correctable", "0"),
        ("DRAM Uncorrectable", "dram_uncorrectable", str(uncorrectable)),
    ]


def architecture(gpu: dict[str, Any]) -> str:
    first = gpu["id"].partition(":")[2][:2]
    return {"20": "Ampere", "23": "Hopper", "26": "Ada Lovelace", "27": "Ada Lovelace"}.get(first, "Blackwell")


SECTIONS = {
    "MEMORY": ("FB Memory Usage", "BAR1 Memory Usage"), "UTILIZATION": ("Utilization",),
    "ECC": ("ECC Mode", "ECC Errors"), "TEMPERATURE": ("Temperature",), "CLOCK": ("Clocks", "Max Clocks"),
    "POWER": ("GPU Power Readings", "Workload Power Profiles"),
    "COMPUTE": ("Compute Mode",), "PIDS": ("Processes",), "PAGE_RETIREMENT": ("Retired Pages",),
    "PERFORMANCE": ("Performance State", "Clocks Event Reasons", "Clocks Event Reasons Counters"),
    "ROW_REMAPPER": ("Remapped Rows",),
}  # fmt: skip


def print_text(view: View, chosen: list[dict[str, Any]], display: str) -> int:
    width = 55 if int(version(view).partition(".")[0]) >= 580 else 42
    wanted = [label for name in display.split(",") if display for label in SECTIONS.get(name.upper(), ())]
    print("\n==============NVSMI LOG==============\n")
    print(f"{'Timestamp':<{width}}: {time.strftime('%a %b %d %H:%M:%S %Y')}")
    print(f"{'Driver Version':<{width}}: {version(view)}")
    print(f"{'CUDA Version':<{width}}: {cuda_version(view)}\n")
    print(f"{'Attached GPUs':<{width}}: {len(gpus(view))}")
    for gpu in chosen:
        print(f"GPU {bus_id(gpu)}")
        lines = [entry for entry in report(view, gpu) if entry and (not display or entry[0] in wanted)]
        _print_lines(lines, 4, width)
        print()
    return 0


def _print_lines(entries: Sequence[tuple[str, str, Any] | None], indent: int, width: int) -> None:
    for entry in entries:
        if not entry:
            continue
        label, _, value = entry
        if isinstance(value, list):
            print(" " * indent + label)
            _print_lines(value, indent + 4, width)
        else:
            deeper = 4 if label in ("HW Thermal Slowdown", "HW Power Brake Slowdown") and value.endswith("ctive") else 0
            print(f"{' ' * (indent + deeper) + label:<{width}}: {value}")


def print_xml(view: View, chosen: list[dict[str, Any]]) -> int:
    print('<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">\n<nvidia_smi_log>')
    print(f"\t<timestamp>{time.strftime('%a %b %d %H:%M:%S %Y')}</timestamp>")
    print(f"\t<driver_version>{version(view)}</driver_version>\n\t<cuda_version>{cuda_version(view)}</cuda_version>")
    print(f"\t<attached_gpus>{len(gpus(view))}</attached_gpus>")
    for gpu in chosen:
        print(f'\t<gpu id="{bus_id(gpu)}">')
        _print_tags(report(view, gpu), 2)
        print("\t</gpu>")
    print("\n</nvidia_smi_log>")
    return 0


def _print_tags(entries: Report, depth: int) -> None:
    for entry in entries:
        if not entry:
            continue
        _, tag, value = entry
        if isinstance(value, list):
            print("\t" * depth + f"<{tag}>")
            _print_tags(value, depth + 1)
            print("\t" * depth + f"</{tag}>")
        elif tag == "processes":
            print("\t" * depth + "<processes>\n" + "\t" * depth + "</processes>")
        else:
            print("\t" * depth + f"<{tag}>{value}</{tag}>")


# -- --query-gpu


def fields(view: View, gpu: dict[str, Any]) -> dict[str, str]:
    now = numbers(view, gpu)
    state, status, clique, cluster = fabric.told(view)
    domain, bus, _ = gpu["bdf"].split(":")
    vendor, number = gpu["id"].split(":")
    found = {
        "index": str(gpu["index"]), "name": gpu["name"], "gpu_name": gpu["name"], "count": str(len(gpus(view))),
        "uuid": f"GPU-{gpu['uuid']}", "gpu_uuid": f"GPU-{gpu['uuid']}",
        "serial": gpu["serial"], "gpu_serial": gpu["serial"], "pci.bus_id": bus_id(gpu), "gpu_bus_id": bus_id(gpu),
        "pci.domain": f"0x{domain}", "pci.bus": f"0x{bus.upper()}",
        "pci.device": "0x00", "pci.device_id": f"0x{number.upper()}{vendor.upper()}", "driver_version": version(view),
        "vbios_version": "97.00.8F.00.15", "persistence_mode": "Enabled" if now["persistent"] else "Disabled",
        "memory.total": f"{now['memory']} MiB", "memory.used": f"{now['used']} MiB", "memory.reserved": "600 MiB",
        "memory.free": f"{now['memory'] - now['used'] - 600} MiB", "compute_mode": "Default", "pstate": "P0",
        "power.draw": _watt(now["draw"]), "power.draw.average": _watt(now["draw"]), "power.management": "Enabled",
        "power.draw.instant": _watt(now["draw"]), "power.limit": _watt(now["requested"]),
        "enforced.power.limit": _watt(now["enforced"]),
        "power.default_limit": _watt(now["default"]), "power.min_limit": _watt(now["min"]),
        "power.max_limit": _watt(now["max"]), "temperature.gpu": "31", "temperature.memory": "33",
        "utilization.gpu": "0 %", "utilization.memory": "0 %",
        "mig.mode.current": "Disabled", "mig.mode.pending": "Disabled",
        "ecc.mode.current": "Enabled", "ecc.mode.pending": "Enabled", "gsp.mode.current": "Enabled",
        "pcie.link.width.max": str(gpu["max_width"]), "pcie.link.width.current": str(gpu["width"]),
        "fabric.state": state, "fabric.status": status, "fabric.cliqueId": clique, "fabric.clusterUuid": cluster,
        "addressing_mode": "ATS" if view.description.get("arch") == "aarch64" else "HMM",
        "inforom.img": "G525.0225.00.05",
        "clocks.sm": "345 MHz", "clocks.current.sm": "345 MHz", "clocks.max.sm": "1980 MHz", "clocks.mem": "2619 MHz",
        "compute_cap": {"Ampere": "8.0", "Hopper": "9.0", "Ada Lovelace": "8.9"}.get(architecture(gpu), "10.0"),
    }  # fmt: skip
    found |= {
        f"pcie.link.gen.{name}": str(now["generation"])
        for name in ("current", "gpucurrent", "max", "gpumax", "hostmax")
    }
    for prefix in ("clocks_event_reasons", "clocks_throttle_reasons"):
        found[f"{prefix}.supported"] = "0x00000000000001FF"
        found[f"{prefix}.active"] = f"0x{now['mask']:016X}"
        for name in REASONS:
            found[f"{prefix}.{name}"] = "Active" if name in now["active"] else "Not Active"
    for when in ("volatile", "aggregate"):
        for memory in ("sram", "dram", "total"):
            found[f"ecc.errors.corrected.{when}.{memory}"] = "0"
            found[f"ecc.errors.uncorrected.{when}.{memory}"] = "0" if memory == "sram" else str(now["ecc"])
    return found


def remapped(view: View, gpu: dict[str, Any]) -> dict[str, str]:
    now = numbers(view, gpu)
    plain = {name: value for name, value in fields(view, gpu).items() if name.startswith("gpu_")}
    return {
        **plain, "remapped_rows.correctable": "0", "remapped_rows.uncorrectable": str(now["remapped"]),
        "remapped_rows.pending": str(int(now["pending"])), "remapped_rows.failure": str(int(now["failed"])),
        "remapped_rows.histogram.max": str(2560 - now["remapped"]), "remapped_rows.histogram.none": "0",
    }  # fmt: skip


def query(view: View, chosen: list[dict[str, Any]], wanted: list[str], form: str) -> int:
    rows = []
    wanted = [name.strip() for name in wanted]
    of_rows = any(name.startswith("remapped_rows") for name in wanted)
    for gpu in chosen:
        known = remapped(view, gpu) if of_rows else fields(view, gpu)
        for name in wanted:
            if name not in known:
                print(f'Field "{name}" is not a valid field to query.\n')
                return 2
        rows.append([known[name] for name in wanted])
    if "noheader" not in form:
        units = {"memory": " [MiB]", "power": " [W]", "enforced": " [W]", "utilization": " [%]", "clocks": " [MHz]"}
        print(", ".join(name + ("" if "reasons" in name else units.get(name.partition(".")[0], "")) for name in wanted))
    for row in rows:
        print(", ".join(_bare(value) if "nounits" in form else value for value in row))
    return 0


def _bare(value: str) -> str:
    number, _, unit = value.partition(" ")
    return number if unit in ("MiB", "W", "%", "MHz", "C") else value


# -- changes


def limit(view: View, chosen: list[dict[str, Any]], given: str) -> int:
    if os.geteuid() != 0:
        print(
            "Changing power management limit is not allowed: Insufficient Permissions\n"
            "Terminating early due to previous errors."
        )
        return 4
    watt, least, most = float(given), view.nvidia["power_min_w"], view.nvidia["power_max_w"]
    for gpu in chosen:
        if not least <= watt <= most:
            print(
                f"Provided power limit {watt:.2f} W is not a valid power limit which should be between {least:.2f} W"
                f" and {most:.2f} W for GPU {bus_id(gpu)}\nTerminating early due to previous errors."
            )
            return 2
        before = numbers(view, gpu)["requested"]
        with core.changing() as now:
            now.state.setdefault("limits", {})[gpu["bdf"]] = watt
        print(f"Power limit for GPU {bus_id(gpu)} was set to {watt:.2f} W from {before:.2f} W.")
    print("All done.")
    return 0


def persistence(view: View, chosen: list[dict[str, Any]], given: str) -> int:
    on = given.upper() in ("1", "ENABLED")
    with core.changing() as now:
        now.state["persistence"] = on
    for gpu in chosen:
        print(f"{'Enabled' if on else 'Disabled'} persistence mode for GPU {bus_id(gpu)}.")
    print("All done.")
    return 0


def reset(view: View, chosen: list[dict[str, Any]], _given: str) -> int:
    """Ends what waits for a reset; on NVSwitch systems all GPUs have to be reset together."""
    if fabric.kind(view) == "fm" and len(chosen) < len(gpus(view)):
        print("GPU Reset couldn't run because GPUs that are connected over NVLink must be reset together.")
        return 3
    text = core.FAULTS.read_text(encoding="utf-8")
    gone = {f"{name} {gpu['index']}" for name in core.VOLATILE for gpu in chosen}
    kept = [line for line in text.splitlines(keepends=True) if " ".join(line.split()[:2]) not in gone]
    core.FAULTS.write_text("".join(kept), encoding="utf-8")
    for gpu in chosen:
        print(f"GPU {bus_id(gpu)} was successfully reset.")
    print("All done.")
    return 0


# -- subcommands


def nvlink(view: View, chosen: list[dict[str, Any]], arguments: list[str]) -> int:
    counters = "-e" in arguments or "--errorcounters" in arguments
    for gpu in chosen:
        links = fabric.nvlink(view, gpu["index"])
        print(f"GPU {gpu['index']}: {gpu['name']} (UUID: GPU-{gpu['uuid']})")
        if not any(links):
            print("\tUnable to retrieve NVLink information as all links are inActive") if links else None
            continue
        for number, speed in enumerate(links):
            shown = {25.0: "26.562 GB/s" if architecture(gpu) == "Hopper" else "25 GB/s", 0.0: "<inactive>"}
            told = shown.get(speed, f"{speed:g} GB/s")
            if counters:
                for name in ("Replay", "Recovery", "CRC"):
                    print(f"\t Link {number}: {name} Errors: 0")
            else:
                print(f"\t Link {number}: {told}")
    return 0


def power_profiles(view: View, chosen: list[dict[str, Any]], arguments: list[str]) -> int:
    if architecture(chosen[0]) != "Blackwell" or not view.nvidia.get("nvlink_links"):
        print("Workload Power Profiles feature is not supported on this device")
        return 3
    value = arguments[1] if len(arguments) > 1 else ""
    if arguments[:1] in (["-sr"], ["--set-requested"], ["-cr"], ["--clear-requested"]):
        add = arguments[0] in ("-sr", "--set-requested")
        with core.changing() as now:
            for gpu in chosen:
                asked = set(now.state.setdefault("profiles", {}).get(gpu["bdf"], []))
                asked = asked | {int(value)} if add else asked - {int(value)}
                now.state["profiles"][gpu["bdf"]] = sorted(asked)
        print("All done.")
        return 0
    for gpu in chosen:
        asked = view.state.get("profiles", {}).get(gpu["bdf"], [])
        shown = PROFILES if arguments[:1] in (["-l"], ["--list"]) else {number: PROFILES[number] for number in asked}
        if view.has("profile-held") and arguments[:1] == ["-ge"]:
            shown = {1: PROFILES[1]}
        for number, name in shown.items():
            print(f"{number}. {name}")
    return 0


def _profile_names(view: View, gpu: dict[str, Any]) -> str:
    asked = view.state.get("profiles", {}).get(gpu["bdf"], [])
    return ", ".join(PROFILES[number] for number in asked) if asked else "N/A"


def topo(view: View, chosen: list[dict[str, Any]], arguments: list[str]) -> int:
    if "-m" not in arguments and "--matrix" not in arguments:
        print("Invalid combination of input arguments. Please run 'nvidia-smi topo -h' for help.")
        return 2
    cards = sysfs.rdma_devices(view)
    every: list[tuple[str, dict[str, Any]]] = [(f"GPU{gpu['index']}", gpu) for gpu in chosen]
    every += [(f"NIC{number}", nic) for number, nic in enumerate(cards)]
    print("\t" + "\t".join(name for name, _ in every) + "\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID")
    for name, one in every:
        row = [" X " if other is one else _distance(view, name + other_name, one, other) for other_name, other in every]
        print(f"{name}\t" + "\t".join(row) + ("\t0-1\t" + str(one["numa"]) + "\tN/A" if name.startswith("G") else ""))
    print("\nLegend:\n\n  X    = Self\n\nNIC Legend:\n")
    print("\n".join(f"  NIC{number}: {nic['hca']}" for number, nic in enumerate(cards)))
    return 0


def _distance(view: View, pair: str, one: dict[str, Any], other: dict[str, Any]) -> str:
    links = sum(1 for speed in fabric.nvlink(view, one.get("index", 0)) if speed)
    if pair.count("GPU") == 2 and links:
        return f"NV{links}"
    mine, others = sysfs.chain(one), sysfs.chain(other)
    common = len([1 for first, second in zip(mine, others, strict=False) if first == second])
    if common:
        return "PIX" if max(len(mine), len(others)) - common <= 2 else "PXB"
    return "NODE" if one["numa"] == other["numa"] else "SYS"


def overview(view: View, chosen: list[dict[str, Any]]) -> int:
    line = "+" + "-" * 41 + "+" + "-" * 24 + "+" + "-" * 22 + "+"
    print(time.strftime("%a %b %d %H:%M:%S %Y"))
    print("+" + "-" * 89 + "+")
    told = f" NVIDIA-SMI {version(view):<23}Driver Version: {version(view):<15}CUDA Version: {cuda_version(view)}"
    print(f"|{told:<89}|\n{line}")
    for gpu in chosen:
        now = numbers(view, gpu)
        on = "On" if now["persistent"] else "Off"
        print(f"| {gpu['index']:>3}  {gpu['name']:<28}{on:>6} |   {bus_id(gpu)} Off |{now['ecc']:>21} |")
        used = f"{now['draw']:.0f}W / {now['enforced']:>4.0f}W"
        print(
            f"| N/A   31C    P0 {used:>24}|{now['used']:>8}MiB /{now['memory']:>7}MiB |      0%      Default |\n{line}"
        )
    return 0
