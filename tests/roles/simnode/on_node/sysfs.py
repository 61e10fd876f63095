"""What the node shows under /sys, /proc/driver and /dev: tmpfs mounts over the machine's own, written from the view.

`tree(view)` says what there is; `refresh()` writes what has changed since the last time.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pickle
import re
import shutil
import stat
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

from . import core
from .core import RUN, View

Tree = dict[str, "bytes | tuple[str]"]
"""Absolute path → content, or (target,) of a symbolic link."""

REAL = RUN / "sys"
"""The machine's own /sys, where nothing lies over it."""
COVERED = ("/sys/devices", "/sys/bus/pci", "/sys/class", "/sys/module", "/sys/firmware", "/proc/driver")
FILES = ("/proc/modules", "/proc/devices")
CLASSES = ("net", "infiniband", "infiniband_verbs", "infiniband_mad", "drm", "kfd", "iommu")
"""Folders of /sys/class that are ours."""
OFED = Path("/usr/src/ofa_kernel")
"""There when the vendor's RDMA modules are installed in place of the kernel's; they show more switches."""
SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
RATES = {800: "4X XDR", 400: "4X NDR", 200: "4X HDR", 100: "4X EDR", 50: "1X HDR", 40: "4X QDR", 25: "1X EDR"}
INBOX = {"15b3": ("mlx5_core", "mlx5_ib", "ib_core", "ib_uverbs"), "1d0f": ("efa", "ib_core", "ib_uverbs")}
"""Modules that the kernel loads by itself for a vendor's cards."""


def covered() -> bool:
    return (RUN / "tree.pickle").exists()


def refresh() -> None:
    """Called by every command, one at a time: several run at once. Quick when nothing has changed.

    Root of a user's container, as which a CDI hook runs, has number 0 and may write nothing here.
    """
    if not covered() or not os.access(RUN, os.W_OK):
        return
    with (RUN / "refresh").open("w") as lock, contextlib.suppress(FileNotFoundError, PermissionError):
        fcntl.flock(lock, fcntl.LOCK_EX)
        seen = hashlib.sha256()
        for path in (core.FAULTS, core.STATE):
            seen.update(path.read_bytes() if path.exists() else b"-")
        seen.update(b"ofed" if OFED.exists() else b"-")
        mark = RUN / "applied"
        if not mark.exists() or mark.read_text() != seen.hexdigest():
            apply(core.view())
            mark.write_text(seen.hexdigest())


def apply(view: View) -> None:
    """Writes what differs from the last time."""
    record = RUN / "tree.pickle"
    before: Tree = pickle.loads(record.read_bytes()) if record.exists() else {}  # noqa: S301
    after = tree(view)
    for path in sorted(before.keys() - after.keys(), reverse=True):
        Path(path).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            Path(path).parent.rmdir()
            os.removedirs(Path(path).parent.parent)
    for path, wanted in after.items():
        if path in FILES and not Path(path).exists():
            continue
        if before.get(path) != wanted or not os.path.lexists(path):
            _write(Path(path), wanted)
    record.write_bytes(pickle.dumps(after))
    devices(view)
    links(view)


def _write(path: Path, wanted: bytes | tuple[str]) -> None:
    for parent in path.parents:
        if str(parent).startswith("/sys/devices/pci") and parent.is_symlink():  # a card of the machine at our place
            parent.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(wanted, tuple):
        path.unlink(missing_ok=True)
        path.symlink_to(wanted[0])
    else:
        if path.is_symlink():
            path.unlink()
        path.write_bytes(wanted)


def tree(view: View) -> Tree:
    made: Tree = {}
    places = {}
    for kind, found in (("gpu", view.gpus), ("switch", view.switches), ("nic", view.nics)):
        for device in found:
            places[device["bdf"]] = _pci(made, view, device, kind)
    _rdma(made, view, places)
    _modules(made, view)
    _nvidia_proc(made, view)
    made[SECURE_BOOT] = b"\x06\0\0\0" + (b"\1" if view.secure_boot else b"\0")
    if view.description.get("iommu"):
        for unit in ("smmu3.0x0000000005000000",) if view.description.get("arch") == "aarch64" else ("dmar0", "dmar1"):
            made[f"/sys/class/iommu/{unit}/uevent"] = b""
    if view.amd and "amdgpu" in view.modules:
        _amdgpu(made, view, places)
    return made


# -- PCI


def chain(device: dict[str, Any]) -> list[str]:
    """Bridges from the root port to the device, the root port first."""
    return [str(bridge) for bridge in device.get("path") or []]


def folder(device: dict[str, Any]) -> str:
    path = [*chain(device), device["bdf"]]
    return f"/sys/devices/pci{path[0].rpartition(':')[0]}/{'/'.join(path)}"


def _pci(made: Tree, view: View, device: dict[str, Any], kind: str) -> str:
    place = folder(device)
    base = "/sys/devices/pci" + (chain(device) or [device["bdf"]])[0].rpartition(":")[0]
    for position, bridge in enumerate(chain(device)):
        base += f"/{bridge}"
        attributes: dict[str, Any] = {"vendor": "0x1000", "device": "0xc030", "class": "0x060400", "revision": "0xb0"}
        if position == 0:
            on_grace = view.description.get("arch") == "aarch64"
            attributes |= {"vendor": "0x10de", "device": "0x22b1"} if on_grace else {}
            attributes |= {} if on_grace else {"vendor": "0x8086", "device": "0x352a"}
        attributes |= {"numa_node": device.get("numa", -1), "current_link_speed": "32.0 GT/s PCIe"}
        attributes |= {"current_link_width": 16, "max_link_speed": "32.0 GT/s PCIe", "max_link_width": 16}
        _attributes(made, base, attributes)
        made[f"/sys/bus/pci/devices/{bridge}"] = ("../../.." + base.removeprefix("/sys"),)
    vendor, _, number = device["id"].partition(":")
    width, speed = device.get("width", 16), device.get("speed", "32.0 GT/s PCIe")
    lost = bool(device.get("revff"))
    attributes = {
        "vendor": f"0x{vendor}", "device": f"0x{number}", "class": f"0x{pci_class(device, kind)}",
        "subsystem_vendor": f"0x{vendor}", "subsystem_device": "0x1234", "revision": "0xff" if lost else "0xa1",
        "numa_node": device.get("numa", -1), "local_cpulist": "0-1", "irq": "0", "enable": 1,
        "current_link_speed": "Unknown" if lost else speed, "current_link_width": 63 if lost else width,
        "max_link_speed": device.get("max_speed", speed), "max_link_width": device.get("max_width", width),
        "resource": _resource(device), "uevent": f"PCI_ID={device['id'].upper()}\nPCI_SLOT_NAME={device['bdf']}",
        "modalias": f"pci:v0000{vendor.upper()}d0000{number.upper()}sv*sd*bc{pci_class(device, kind)[:2]}sc*i*",
    }  # fmt: skip
    _attributes(made, place, attributes)
    made[f"{place}/config"] = b"\xff" * 64 if lost else _config(device, kind)
    if kind == "nic" and vendor == core.MELLANOX:
        made[f"{place}/vpd"] = vpd(device)
    if view.description.get("iommu"):
        group = f"/sys/kernel/iommu_groups/{int(hashlib.sha256(device['bdf'].encode()).hexdigest()[:2], 16)}"
        made[f"{place}/iommu_group"] = (group,)
    driver = driver_of(view, device, kind)
    if driver:
        made[f"{place}/driver"] = (f"/sys/bus/pci/drivers/{driver}",)
        made[f"/sys/bus/pci/drivers/{driver}/{device['bdf']}"] = (place,)
    made[f"/sys/bus/pci/devices/{device['bdf']}"] = ("../../.." + place.removeprefix("/sys"),)
    return place


def _attributes(made: Tree, place: str, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        made[f"{place}/{name}"] = f"{value}\n".encode()


def pci_class(device: dict[str, Any], kind: str) -> str:
    if kind == "gpu":
        accelerator = "120000" if device["id"].startswith(core.AMD) else "030200"
        return "030000" if "RTX" in device.get("name", "") else accelerator
    if kind == "switch":
        return "068000"
    return "020700" if device["link_layer"] == "InfiniBand" else "020000"


def driver_of(view: View, device: dict[str, Any], kind: str) -> str:
    """The kernel driver that holds the device now; empty for none."""
    if device.get("revff"):
        return ""
    vendor = device["id"].partition(":")[0]
    by_vendor = {
        core.NVIDIA: "nvidia-nvswitch" if kind == "switch" else "nvidia", core.AMD: "amdgpu",
        core.MELLANOX: "mlx5_core", core.AMAZON: "efa" if device.get("hca") else "ena",
    }  # fmt: skip
    name = by_vendor.get(vendor, "")
    if name == "ena":
        return name
    if kind == "gpu" and name == "nvidia" and "nouveau" in view.modules:
        return "nouveau"
    return name if {"nvidia-nvswitch": "nvidia"}.get(name, name) in view.modules else ""


def _resource(device: dict[str, Any]) -> str:
    """First lines of a `resource` file: registers, then the BAR that maps the memory."""
    start = 0x200000000000 + (device.get("position", 0) << 40)
    size = device.get("bar", 0)
    lines = [(0xA0000000, 0xA0FFFFFF, 0x40200)]
    lines += [(0, 0, 0), (start, start + size - 1, 0x14220C)] if size else [(0, 0, 0)] * 2
    lines += [(0, 0, 0)] * (13 - len(lines))
    return "\n".join(" ".join(f"0x{number:016x}" for number in line) for line in lines)


def _config(device: dict[str, Any], kind: str) -> bytes:
    vendor, _, number = device["id"].partition(":")
    head = struct.pack("<HHHHB", int(vendor, 16), int(number, 16), 0x0406, 0x0010, 0xA1)
    return (head + bytes.fromhex(pci_class(device, kind))[::-1]).ljust(64, b"\0")


def vpd(nic: dict[str, Any]) -> bytes:
    """Vital product data; NVLink-5 bridge functions carry the words SW_MNG."""
    name = b"Nvidia ConnectX-7 NVLink bridge" if nic.get("vpd_sw_mng") else b"Nvidia ConnectX adapter card"
    fields = {b"PN": b"MCX750500B-0D00", b"EC": b"A7", b"SN": nic["hca"].encode(), b"V0": b"PCIeGen5 x16"}
    if nic.get("vpd_sw_mng"):
        fields[b"V3"] = b"SW_MNG"
    body = b"".join(key + bytes([len(value)]) + value for key, value in fields.items())
    body += b"RV\x01"
    body = b"\x82" + struct.pack("<H", len(name)) + name + b"\x90" + struct.pack("<H", len(body) + 1) + body
    return body + bytes([-sum(body) & 0xFF]) + b"\x78"


# -- RDMA and network devices


def rdma_devices(view: View) -> list[dict[str, Any]]:
    """Cards whose RDMA driver is loaded, as the kernel numbers them."""
    needed = {core.MELLANOX: "mlx5_ib", core.AMAZON: "efa"}
    return [nic for nic in view.nics if nic["hca"] and needed.get(nic["id"].partition(":")[0]) in view.modules]


def port(nic: dict[str, Any]) -> dict[str, str]:
    """State, physical state and rate of the port as the kernel writes them."""
    state, physical, rate = "4: ACTIVE", "5: LinkUp", nic["rate"]
    if nic["down"]:
        state, physical = "1: DOWN", "3: Disabled" if nic["link_layer"] == "Ethernet" else "2: Polling"
    layer = "Unknown" if nic["link_layer"] == "EFA" else nic["link_layer"]
    name = RATES.get(rate, "4X EDR")
    return {"state": state, "phys_state": physical, "rate": f"{rate} Gb/sec ({name})", "link_layer": layer}


def guid(nic: dict[str, Any]) -> str:
    text = hashlib.sha256(nic["bdf"].encode()).hexdigest()[:10]
    return f"58a2:e1{text[:2]}:{text[2:6]}:{text[6:10]}"


def _rdma(made: Tree, view: View, places: dict[str, str]) -> None:
    for number, nic in enumerate(rdma_devices(view)):
        place = f"{places[nic['bdf']]}/infiniband/{nic['hca']}"
        efa = nic["link_layer"] == "EFA"
        _attributes(made, place, {
            "node_guid": guid(nic), "sys_image_guid": guid(nic), "node_desc": f"{os.uname().nodename} {nic['hca']}",
            "node_type": "7: unspecified" if efa else "1: CA", "fw_ver": nic.get("fw", "0.0.0.0"), "hw_rev": "0x0",
            "hca_type": "" if efa else "MT4129", "board_id": "MT_0000000838",
        })  # fmt: skip
        made[f"{place}/device"] = ("../../../" + nic["bdf"],)
        if OFED.exists() and not efa:
            made[f"{place}/tc/1/traffic_class"] = b"Global tclass=0\n"
        down = nic["down"]
        infiniband = nic["link_layer"] == "InfiniBand"
        _attributes(made, f"{place}/ports/1", {
            **port(nic), "lid": f"0x{number + 1 if infiniband and not down else 0:x}", "lid_mask_count": 0,
            "sm_lid": "0x1" if infiniband and not down else "0x0", "sm_sl": 0, "cap_mask": "0xa751e848",
        })  # fmt: skip
        _attributes(made, f"{place}/ports/1/counters", {
            "link_downed": 1 if down else 0, "symbol_error": 0, "link_error_recovery": 0, "port_rcv_errors": 0,
            "port_xmit_discards": 0, "port_xmit_wait": 0, "port_rcv_data": 0, "port_xmit_data": 0,
            "local_link_integrity_errors": 0, "excessive_buffer_overrun_errors": 0,
        })  # fmt: skip
        if infiniband:
            _attributes(made, f"{place}/ports/1/pkeys", {"0": "0xffff", "1": "0x0000"})
        for found in nic.get("gids") or []:
            made[f"{place}/ports/1/gids/{found['index']}"] = f"{found['gid']}\n".encode()
            made[f"{place}/ports/1/gid_attrs/types/{found['index']}"] = f"{found['type']}\n".encode()
            if found.get("netdev"):
                made[f"{place}/ports/1/gid_attrs/ndevs/{found['index']}"] = f"{found['netdev']}\n".encode()
        made[f"/sys/class/infiniband/{nic['hca']}"] = ("../.." + place.removeprefix("/sys"),)
        kinds = {"uverbs": "infiniband_verbs", **({"umad": "infiniband_mad"} if "ib_umad" in view.modules else {})}
        for kind, name in kinds.items():
            if not (efa and kind == "umad"):
                inner = f"{places[nic['bdf']]}/{name}/{kind}{number}"
                _attributes(made, inner, {"ibdev": nic["hca"], **({"port": 1} if kind == "umad" else {})})
                made[f"{inner}/device"] = ("../../../" + nic["bdf"],)
                made[f"/sys/class/{name}/{kind}{number}"] = ("../.." + inner.removeprefix("/sys"),)
    _netdevs(made, view, places)


def _netdevs(made: Tree, view: View, places: dict[str, str]) -> None:
    """Every network device of the node; those of the cards stand under their PCI device, with what a card has."""
    cards = {nic["netdev"]: nic for nic in view.nics if nic.get("netdev")}
    for found in sorted((REAL / "class/net").iterdir()) if REAL.exists() else []:
        nic = cards.get(found.name)
        if nic is None:
            made[f"/sys/class/net/{found.name}"] = (str(found.resolve()).replace(str(REAL), "/sys"),)
            continue
        place = f"{places[nic['bdf']]}/net/{found.name}"
        for attribute in found.iterdir():
            made[f"{place}/{attribute.name}"] = (str(attribute),)
        made[f"{place}/device"] = ("../../../" + nic["bdf"],)
        made[f"{place}/speed"] = f"{-1 if nic['down'] else nic['rate'] * 1000}\n".encode()
        made[f"{place}/duplex"] = b"full\n"
        if nic["link_layer"] == "InfiniBand":
            made[f"{place}/type"] = b"32\n"
        elif OFED.exists() and nic["id"].startswith(core.MELLANOX):
            _attributes(made, f"{place}/ecn/roce_np", {"cnp_dscp": 48, "cnp_802p_prio": 6})
            for side in ("roce_np", "roce_rp"):
                _attributes(made, f"{place}/ecn/{side}/enable", {str(priority): 0 for priority in range(8)})
        made[f"/sys/class/net/{found.name}"] = ("../.." + place.removeprefix("/sys"),)


def links(view: View) -> None:
    """Brings the far end of each cable up or down."""
    present = {nic["netdev"]: nic for nic in view.nics if nic.get("netdev")}
    cables = RUN / "cables"
    lines = []
    for name in cables.read_text().split() if cables.exists() else []:
        up = name in present and not present[name]["down"]
        lines.append(f"link set dev far{_far(name)} {'up' if up else 'down'}")
    if lines:
        subprocess.run(
            ["ip", "-netns", "simnode", "-force", "-batch", "-"], input="\n".join(lines), text=True,
            capture_output=True, check=False,
        )  # fmt: skip


def _far(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def make_links(view: View) -> None:
    """A real network device for each card: one end of a cable whose other end is in another network namespace."""
    wanted = [nic for nic in view.nics if nic.get("netdev") and not (REAL / "class/net" / nic["netdev"]).exists()]
    if not wanted:
        return
    subprocess.run(["ip", "netns", "add", "simnode"], capture_output=True, check=False)
    lines = []
    for nic in wanted:
        name = nic["netdev"]
        lines += [f"link add dev {name} type veth peer name far{_far(name)} netns simnode", f"link set dev {name} up"]
        for found in nic.get("gids") or []:
            words = found["gid"].split(":")
            if nic["link_layer"] == "Ethernet" and words[:6] == ["0000"] * 5 + ["ffff"]:
                address = ".".join(str(byte) for byte in bytes.fromhex(words[6] + words[7]))
                lines.append(f"address replace {address}/24 dev {name}")
    subprocess.run(["ip", "-force", "-batch", "-"], input="\n".join(lines), text=True, capture_output=True, check=False)
    (RUN / "cables").write_text("\n".join(nic["netdev"] for nic in wanted))


def tell_udev() -> None:
    """What udev would have noted of the network devices, so that systemd has a unit for each (udev itself is off)."""
    for found in sorted((REAL / "class/net").iterdir()):
        if found.name == "lo" or not (found / "ifindex").exists():
            continue
        identity = f"n{(found / 'ifindex').read_text().strip()}"
        alias = f"/sys/subsystem/net/devices/{found.name}"
        for path, text in (
            (
                f"data/{identity}",
                f"I:1\nE:ID_NET_NAME={found.name}\nE:SYSTEMD_ALIAS={alias}\nG:systemd\nQ:systemd\nV:1\n",
            ),
            (f"tags/systemd/{identity}", ""),
        ):
            place = Path("/run/udev", path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)


# -- modules, /proc


def _modules(made: Tree, view: View) -> None:
    table = []
    for name, loaded in sorted(view.modules.items()):
        place = f"/sys/module/{name}"
        used = loaded.get("used", 0)
        _attributes(made, place, {"refcnt": used, "initstate": "live", "srcversion": loaded["srcversion"]})
        if loaded.get("version"):
            made[f"{place}/version"] = f"{loaded['version']}\n".encode()
        shown = {} if name == "nvidia" else loaded.get("parameters", {})
        for parameter, value in shown.items():
            made[f"{place}/parameters/{parameter}"] = f"{value}\n".encode()
        table.append(f"{name} {loaded.get('size', 16384)} {used} - Live 0x0000000000000000\n")
    made["/proc/modules"] = "".join(table).encode()
    numbers = "Character devices:\n  1 mem\n  5 /dev/tty\n 10 misc\n"
    numbers += "231 infiniband_verbs\n" if rdma_devices(view) else ""
    if "nvidia" in view.modules:
        numbers += "195 nvidia\n195 nvidiactl\n234 nvidia-caps-imex-channels\n235 nvidia-uvm\n237 nvidia-caps\n"
    made["/proc/devices"] = f"{numbers}\nBlock devices:\n  7 loop\n".encode()


PARAMETERS = {
    "ModifyDeviceFiles": "1", "DeviceFileUID": "0", "DeviceFileGID": "0", "DeviceFileMode": "438",
    "EnableStreamMemOPs": "0", "RmProfilingAdminOnly": "1", "PreserveVideoMemoryAllocations": "0",
    "EnableS0ixPowerManagement": "0", "OpenRmEnableUnsupportedGpus": "1", "CoherentGPUMemoryMode": '""',
    "GrdmaPciTopoCheckOverride": "0", "CreateImexChannel0": "0", "ImexChannelCount": "2048", "RegistryDwords": '""',
}  # fmt: skip
RENAMED = {"RestrictProfilingToAdminUsers": "RmProfilingAdminOnly"}


def nvidia_parameters(given: dict[str, str]) -> dict[str, str]:
    """/proc/driver/nvidia/params for the options of `modprobe nvidia`."""
    shown = dict(PARAMETERS)
    for name, value in given.items():
        plain = name.removeprefix("NVreg_")
        key = RENAMED.get(plain, plain)
        shown[key] = f'"{value}"' if shown.get(key, "").startswith('"') else value
    return shown


def _nvidia_proc(made: Tree, view: View) -> None:
    loaded = view.modules.get("nvidia")
    if not loaded:
        return
    flavour = "Open Kernel Module for x86_64" if loaded.get("open", True) else "x86_64 Kernel Module"
    text = f"NVRM version: NVIDIA UNIX {flavour}  {loaded['version']}  Release Build  (dvs-builder@U22-I3-H04-01-5)\n"
    made["/proc/driver/nvidia/version"] = f"{text}GCC version:  gcc version 14.2.0 (Debian 14.2.0-19) \n".encode()
    given = nvidia_parameters(loaded.get("parameters", {}))
    made["/proc/driver/nvidia/params"] = "".join(f"{name}: {value}\n" for name, value in given.items()).encode()
    for minor, gpu in enumerate(view.usable):
        made[f"/proc/driver/nvidia/gpus/{gpu['bdf']}/information"] = (
            f"Model: \t\t {gpu['name']}\nIRQ:   \t\t 0\nGPU UUID: \t GPU-{gpu['uuid']}\nVideo BIOS: \t 96.00.99.00.01\n"
            f"Bus Type: \t PCIe\nBus Location: \t {gpu['bdf']}\nDevice Minor: \t {minor}\n"
            f"GPU Firmware: \t {loaded['version']}\nGPU Excluded:\t No\n"
        ).encode()
    capabilities = "/proc/driver/nvidia/capabilities"
    for minor, name in ((1, "mig/config"), (2, "mig/monitor"), (3, "fabric-imex-mgmt")):
        made[f"{capabilities}/{name}"] = f"DeviceFileMinor: {minor}\nDeviceFileMode: 256\n".encode()


def _amdgpu(made: Tree, view: View, places: dict[str, str]) -> None:
    for number, gpu in enumerate(view.usable):
        card = f"{places[gpu['bdf']]}/drm"
        memory = view.amd.get("memory_mib", 0) << 20
        _attributes(made, places[gpu["bdf"]], {
            "mem_info_vram_total": memory, "mem_info_vram_used": 297 << 20, "gpu_busy_percent": 0,
            "unique_id": f"{int(gpu['serial']):016x}",
        })  # fmt: skip
        for name in (f"card{number}", f"renderD{128 + number}"):
            _attributes(made, f"{card}/{name}", {"dev": f"226:{number + (128 if name.startswith('r') else 0)}"})
            made[f"{card}/{name}/device"] = (places[gpu["bdf"]],)
            made[f"/sys/class/drm/{name}"] = (f"{card}/{name}",)


# -- /dev

Node = tuple[str, int, int, int]
"""Path under /dev, major, minor, mode."""
GROUPS = {"kfd": "render", "dri/renderD": "render", "dri/card": "video"}
"""As in systemd's rules for udev, for devices that not everybody may use."""


def device_nodes(view: View) -> list[Node]:
    nodes: list[Node] = []
    for number, nic in enumerate(rdma_devices(view)):
        nodes.append((f"infiniband/uverbs{number}", 231, 192 + number, 0o666))
        if "ib_umad" in view.modules and nic["link_layer"] != "EFA":
            nodes.append((f"infiniband/umad{number}", 231, number, 0o600))
    if "rdma_ucm" in view.modules:
        nodes.append(("infiniband/rdma_cm", 10, 58, 0o666))
    if "nvidia" in view.modules:
        nodes += [(f"nvidia{minor}", 195, minor, 0o666) for minor in range(len(view.usable))]
        nodes += [("nvidiactl", 195, 255, 0o666), ("nvidia-caps/nvidia-cap1", 237, 1, 0o400)]
        nodes.append(("nvidia-caps/nvidia-cap2", 237, 2, 0o444))
        nodes += [(f"nvidia-nvswitch{number}", 195, 240 + number, 0o666) for number in range(len(view.switches))]
        nodes += [("nvidia-nvswitchctl", 195, 239, 0o666)] if view.switches else []
        given = view.modules["nvidia"].get("parameters", {})
        if given.get("NVreg_CreateImexChannel0") == "1":
            nodes.append(("nvidia-caps-imex-channels/channel0", 234, 0, 0o666))
    if "nvidia_uvm" in view.modules:
        nodes += [("nvidia-uvm", 235, 0, 0o666), ("nvidia-uvm-tools", 235, 1, 0o666)]
    if "nvidia_modeset" in view.modules:
        nodes.append(("nvidia-modeset", 195, 254, 0o666))
    if "amdgpu" in view.modules:
        nodes.append(("kfd", 240, 0, 0o660))
        nodes += [(f"dri/renderD{128 + number}", 226, 128 + number, 0o660) for number in range(len(view.usable))]
        nodes += [(f"dri/card{number}", 226, number, 0o660) for number in range(len(view.usable))]
    return nodes


def devices(view: View) -> None:
    """Makes the device files of what is loaded and removes those of what is not."""
    record = RUN / "devices"
    before = set(record.read_text().split()) if record.exists() else set()
    wanted = device_nodes(view)
    for name in before - {name for name, *_ in wanted}:
        Path("/dev", name).unlink(missing_ok=True)
    for name, major, minor, mode in wanted:
        path = Path("/dev", name)
        path.parent.mkdir(mode=0o755, exist_ok=True)
        if not path.exists():
            os.mknod(path, stat.S_IFCHR | mode, os.makedev(major, minor))
            path.chmod(mode)
            with contextlib.suppress(LookupError):
                shutil.chown(path, group=GROUPS.get(re.sub(r"\d+$", "", name), "root"))
    record.write_text("\n".join(name for name, *_ in wanted))


# -- the covers


def cover() -> None:
    """Puts the tmpfs mounts over the machine's own folders; what is not ours is seen through them."""
    REAL.mkdir(parents=True)
    _mount("/sys", str(REAL), None, bind=True)
    own = {"/sys/class": set(CLASSES), "/sys/module": set(), "/sys/firmware": {"efi"}, "/sys/devices": set()}
    for place in COVERED:
        through = [path.name for path in (REAL / place.removeprefix("/sys/")).iterdir()] if place in own else []
        if not Path(place).exists():
            continue
        _mount("simnode", place, "tmpfs")
        for name in through:
            real = REAL / place.removeprefix("/sys/") / name
            if name.startswith("pci"):  # our cards may stand in the same folder
                Path(place, name).mkdir()
                for inner in real.iterdir():
                    Path(place, name, inner.name).symlink_to(inner)
            elif name not in own[place]:
                Path(place, name).symlink_to(real)
    for place in ("/sys/bus/pci/devices", "/sys/bus/pci/drivers", "/sys/class/net"):
        Path(place).mkdir(parents=True)
    for name in FILES:
        if Path(name).exists():  # a kernel without loadable modules has no /proc/modules
            cover_file(name, b"")


def cover_file(path: str, content: bytes) -> None:
    """Puts a file of ours over one of /proc; writing to `path` writes to ours from then on."""
    ours = RUN / "files" / path.strip("/").replace("/", "-")
    ours.parent.mkdir(exist_ok=True)
    ours.write_bytes(content)
    _mount(str(ours), path, None, bind=True)


def _mount(source: str, target: str, kind: str | None, *, bind: bool = False) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.mount(source.encode(), target.encode(), kind.encode() if kind else None, 4096 if bind else 0, b"")
    if done != 0:
        raise OSError(ctypes.get_errno(), f"mount {source} on {target}: {os.strerror(ctypes.get_errno())}")


def started() -> float:
    """Seconds since the epoch of the node's boot, as far as the simulation is concerned."""
    with contextlib.suppress(OSError):
        return (RUN / "started").stat().st_mtime
    return time.time()
