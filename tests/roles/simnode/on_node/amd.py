"""AMD's tools: amd-smi in the forms of ROCm 7, rocminfo, the container toolkit."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from . import core, ctk
from .core import View


def run(name: str, arguments: list[str]) -> int:
    view = core.view()
    if name == "amd-ctk":
        return container_toolkit(view, arguments)
    if "amdgpu" not in view.modules:
        print("ERROR:root:Unable to get devices, driver not initialized (amdgpu not found in modules)", file=sys.stderr)
        return 255
    if name == "rocminfo":
        for gpu in view.usable:
            print(f"*******\nAgent\n*******\n  Name: gfx942\n  Uuid: GPU-{gpu['serial']}")
        return 0
    words = [word for word in arguments if not word.startswith("-")]
    verb = words[0] if words else "monitor"
    rows = {"list": listed, "static": static, "metric": metric, "bad-pages": bad_pages, "version": version}.get(verb)
    if rows is None:
        return 0
    data = rows(view)
    if verb in ("metric", "static"):
        data = {"gpu_data": data}  # since ROCm 7
    if "--json" in arguments:
        print(json.dumps(data, indent=4))
    else:
        for row in data["gpu_data"] if isinstance(data, dict) else data:
            print("\n    ".join(f"{key.upper()}: {value}" for key, value in row.items()) + "\n")
    return 0


def listed(view: View) -> Any:
    return [
        {"gpu": index, "bdf": gpu["bdf"], "uuid": gpu["uuid"], "kfd_id": 1000 + index, "node_id": index + 2,
         "partition_id": 0}
        for index, gpu in enumerate(view.usable)
    ]  # fmt: skip


def version(_view: View) -> Any:
    return [{"tool": "AMDSMI Tool", "version": "26.0.2", "amdsmi_library_version": "26.0.2", "rocm_version": "7.0.3"}]


def static(view: View) -> Any:
    return [
        {
            "gpu": index, "asic": {"market_name": gpu["name"], "vendor_id": "0x1002", "asic_serial": gpu["serial"]},
            "bus": {"bdf": gpu["bdf"], "max_pcie_width": gpu["max_width"], "pcie_interface_version": "Gen 5"},
            "driver": {"name": "amdgpu", "version": view.modules["amdgpu"].get("version") or core.KERNEL},
            "vram": {"type": "HBM3", "size": {"value": view.amd.get("memory_mib", 0), "unit": "MB"}},
            "limit": {"max_power": {"value": view.amd.get("power_max_w", 0), "unit": "W"},
                      "socket_power": {"value": view.amd.get("power_default_w", 0), "unit": "W"}},
        }
        for index, gpu in enumerate(view.usable)
    ]  # fmt: skip


def metric(view: View) -> Any:
    rows = []
    for index, gpu in enumerate(view.usable):
        errors = [int((rest or ["1"])[0]) for which, *rest in view.fault("ecc") if which == str(index)]
        rows.append({
            "gpu": index,
            "ecc": {"total_correctable_count": 0, "total_uncorrectable_count": errors[0] if errors else 0,
                    "total_deferred_count": 0, "cache_correctable_count": "N/A", "cache_uncorrectable_count": "N/A"},
            "pcie": {"width": gpu["width"], "speed": {"value": 32, "unit": "GT/s"}},
            "power": {"socket_power": {"value": 140, "unit": "W"}},
        })  # fmt: skip
    return rows


def bad_pages(view: View) -> Any:
    none = "No bad pages found."
    rows = []
    for index, _ in enumerate(view.usable):
        pending = ["0x1f0000"] if view.has("remap-pending", str(index)) else none
        rows.append({"gpu": index, "retired": none, "pending": pending, "un_res": none})
    return rows


def container_toolkit(view: View, arguments: list[str]) -> int:
    if "--version" in arguments or "-v" in arguments:
        print("AMD Container Toolkit CLI version 1.2.0")
        return 0
    words = [word for word in arguments if not word.startswith("-")]
    if words[:2] == ["cdi", "list"]:
        return ctk.listed((Path("/etc/cdi"), Path("/var/run/cdi")), "amd.com/gpu")
    if words[:2] != ["cdi", "generate"]:
        return 0
    if "amdgpu" not in view.modules:
        print("no AMD GPUs were found", file=sys.stderr)
        return 1
    every = [[f"/dev/dri/card{index}", f"/dev/dri/renderD{128 + index}"] for index in range(len(view.usable))]
    named = {**{str(index): nodes for index, nodes in enumerate(every)}, "all": [path for one in every for path in one]}
    devices = [
        {"name": name, "containerEdits": {"deviceNodes": [{"path": path} for path in paths]}}
        for name, paths in named.items()
    ]
    edits = {"deviceNodes": [{"path": "/dev/kfd"}]}
    told = {"cdiVersion": "0.6.0", "kind": "amd.com/gpu", "devices": devices, "containerEdits": edits}
    if not any(word.startswith("--output") for word in arguments):
        arguments = [*arguments, "--output=/etc/cdi/amd.json"]
    ctk.write(arguments, json.dumps(told, indent=2) + "\n")
    return 0
