"""Turns a node description of tests/roles/platforms into what its node would show: sysfs files and lspci's words.

Standard library only and no import of the project: the simulated node carries this file (`load` alone reads YAML).
Beside the keys of the format a GPU or NIC may have `path` (bridges from the root port down), `current_width`,
`current_speed`, `rev`, `bar_gib`, `slot_speed`, a NIC also `state`; the description may have `acs` (bridges that
redirect) and `fabric` (where the region file would name another than the shape's). `with_faults` sets some of them.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PLATFORMS = Path(__file__).parent / "platforms"
Platform = dict[str, Any]

ROOT_PORT, SWITCH_PORT = "8086:352a", "1000:c030"
NAMES = {
    "10de:20b0": "NVIDIA Corporation GA100 [A100 SXM4 40GB]",
    "10de:20b2": "NVIDIA Corporation GA100 [A100 SXM4 80GB]",
    "10de:2330": "NVIDIA Corporation GH100 [H100 SXM5 80GB]",
    "10de:2335": "NVIDIA Corporation GH100 [H200 SXM 141GB]",
    "10de:26b9": "NVIDIA Corporation AD102GL [L40S]",
    "10de:1af1": "NVIDIA Corporation GA100 [A100 NVSwitch]",
    "10de:22a3": "NVIDIA Corporation GH100 [H100 NVSwitch]",
    "1002:74a1": "Advanced Micro Devices, Inc. [AMD/ATI] Aqua Vanjaram [Instinct MI300X]",
    "15b3:101b": "Mellanox Technologies MT28908 Family [ConnectX-6]",
    "15b3:101d": "Mellanox Technologies MT2892 Family [ConnectX-6 Dx]",
    "15b3:1021": "Mellanox Technologies MT2910 Family [ConnectX-7]",
    "15b3:1023": "Mellanox Technologies CX8 Family [ConnectX-8]",
    "15b3:a2dc": "Mellanox Technologies MT43244 BlueField-3 integrated ConnectX-7 network controller",
    ROOT_PORT: "Intel Corporation Device",
    SWITCH_PORT: "Broadcom / LSI PEX890xx PCIe Gen 5 Switch",
}
VENDORS = {"10de": "NVIDIA Corporation", "1002": "Advanced Micro Devices, Inc. [AMD/ATI]", "1d0f": "Amazon.com, Inc."}
CLASSES = {
    "0200": "Ethernet controller", "0207": "Infiniband controller", "0302": "3D controller", "0604": "PCI bridge",
    "0680": "Bridge", "1200": "Processing accelerators",
}  # fmt: skip
SPEEDS_IB = {100: "EDR", 200: "HDR", 400: "NDR", 800: "XDR"}
SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def names() -> list[str]:
    """All descriptions, sorted."""
    return sorted(path.stem for path in PLATFORMS.glob("*.yaml"))


def load(name: str) -> Platform:
    """The description `name`, the caller's own to change."""
    return copy.deepcopy(_read(name))


@functools.cache
def _read(name: str) -> Platform:
    from ruamel.yaml import YAML

    loaded: Platform = YAML(typ="safe").load((PLATFORMS / f"{name}.yaml").read_text(encoding="utf-8"))
    return loaded


def with_faults(platform: Platform, faults: Iterable[str]) -> Platform:
    """A copy of `platform` as it looks with those faults (lines of /etc/simnode/faults).

    Knows what lspci and sysfs can show: gpu-missing, gpu-revff, gpu-half-width, nic-missing, nic-down,
    nic-half-width, nic-rate, unknown-gpu, secure-boot; other lines are left to the simulator's tools.
    """
    changed = copy.deepcopy(platform)
    for line in faults:
        word, *rest = line.split() or [""]
        if word == "gpu-missing":
            changed["gpus"] = [gpu for gpu in changed["gpus"] if gpu["bdf"] != rest[0]]
        elif word == "nic-missing":
            changed["nics"] = [nic for nic in changed["nics"] if rest[0] not in {nic["bdf"], nic["hca"]}]
        elif word == "unknown-gpu":
            changed["gpus"][0]["id"] = changed["gpus"][0]["id"][:5] + "ffff"
        elif word == "secure-boot":
            changed["secure_boot"] = "enabled"
        else:
            for row in (*changed["gpus"], *changed["nics"]):
                if rest and rest[0] in {row["bdf"], row.get("hca")}:
                    row.update(_effect(word, row, rest[1:]))
    return changed


def _effect(word: str, row: Mapping[str, Any], rest: list[str]) -> dict[str, Any]:
    effects: dict[str, dict[str, Any]] = {
        "gpu-revff": {"rev": "ff"},
        "gpu-half-width": {"current_width": row["width"] // 2},
        "nic-half-width": {"current_width": row["width"] // 2},
        "nic-down": {"state": "DOWN"},
        "nic-rate": {"rate": int(rest[0])} if rest else {},
    }
    return effects.get(word, {})


# ---------------------------------------------------------------- lspci


def pci_class(row: Mapping[str, Any]) -> str:
    """The class that lspci prints for a row of the description."""
    vendor = row["id"][:4]
    if "hca" in row:
        return "0207" if row["link_layer"] == "InfiniBand" else "0200"
    if "speed" not in row:
        return "0680"
    return "1200" if vendor == "1002" else "0302"


def bridges(platform: Platform) -> dict[str, str]:
    """Bridge → its id: the first of a path is a root port, the others belong to switches."""
    found: dict[str, str] = {}
    for row in (*platform["gpus"], *platform["nics"]):
        for depth, bdf in enumerate(row.get("path", ())):
            found[bdf] = SWITCH_PORT if depth else ROOT_PORT
    return found


def lspci_text(platform: Platform) -> str:
    """What `lspci -Dnn` prints, with some devices that nobody is interested in."""
    lines = {
        "0000:00:00.0": "Host bridge [0600]: Intel Corporation Device [8086:09a2] (rev 04)",
        "0000:02:1f.0": "VGA compatible controller [0300]: ASPEED Technology, Inc. ASPEED Graphics Family [1a03:2000] "
        "(rev 52) (prog-if 00 [VGA controller])",
        "0000:02:1e.0": "Non-Volatile memory controller [0108]: Samsung Electronics Co Ltd NVMe SSD Controller "
        "PM9A1/PM9A3/980PRO [144d:a80a] (prog-if 02 [NVM Express])",
    }
    for bdf, pci_id in bridges(platform).items():
        lines[bdf] = f"PCI bridge [0604]: {NAMES[pci_id]} [{pci_id}] (rev 06) (prog-if 00 [Normal decode])"
    for row in (*platform["gpus"], *platform["nvswitches"], *platform["nics"]):
        kind = pci_class(row)
        name = NAMES.get(row["id"], VENDORS.get(row["id"][:4], "Intel Corporation") + " Device")
        tail = " (rev ff) (prog-if ff)" if row.get("rev") == "ff" else " (rev a1)"
        lines[row["bdf"]] = f"{CLASSES[kind]} [{kind}]: {name} [{row['id']}]{tail}"
    return "".join(f"{bdf} {text}\n" for bdf, text in sorted(lines.items()))


def lspci_bridges_text(platform: Platform) -> str:
    """What `lspci -Dvvv -d ::0604` prints, shortened to what matters."""
    out = []
    for bdf, pci_id in sorted(bridges(platform).items()):
        sign = "+" if bdf in platform.get("acs", ()) else "-"
        out.append(
            f"{bdf} PCI bridge: {NAMES[pci_id]} (prog-if 00 [Normal decode])\n"
            "\tControl: I/O- Mem+ BusMaster+ SpecCycle- MemWINV- VGASnoop- ParErr+ Stepping- SERR+ FastB2B- DisINTx+\n"
            "\tCapabilities: [1b8 v1] Access Control Services\n"
            "\t\tACSCap:\tSrcValid+ TransBlk+ ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl+ DirectTrans+\n"
            f"\t\tACSCtl:\tSrcValid{sign} TransBlk- ReqRedir{sign} CmpltRedir{sign} UpstreamFwd{sign} "
            "EgressCtrl- DirectTrans-\n"
            "\tKernel driver in use: pcieport\n\n"
        )
    return "".join(out)


# ---------------------------------------------------------------- sysfs


def materialize(platform: Platform, root: Path) -> None:
    """Writes sys/bus/pci, sys/class/infiniband, sys/class/iommu and the EFI variable below `root`, afresh.

    As in a real sysfs the entries of bus/pci/devices are links into a tree of bridges; here that tree is in
    bus/pci/tree, so that one mount over /sys/bus/pci brings it along. sys/class/net gets the NICs' interfaces.
    `root` is a folder to copy or mount from, never a machine's own root: what was there is removed.
    """
    if root.resolve() == Path("/"):
        raise ValueError("not over this machine's own /sys")
    for folder in ("sys/bus/pci", "sys/class/infiniband", "sys/class/iommu", "sys/class/net", "sys/firmware"):
        shutil.rmtree(root / folder, ignore_errors=True)
    (root / "sys/bus/pci/devices").mkdir(parents=True)
    (root / "sys/class/infiniband").mkdir(parents=True)
    rows = (*platform["gpus"], *platform["nics"])
    for row in rows:
        path: list[str] = []
        for bdf in row.get("path", ()):
            path.append(bdf)
            _bridge(root, path, bridges(platform)[bdf], row)
    for row in (*rows, *platform["nvswitches"]):
        _device(root, row, platform)
    for nic in platform["nics"]:
        if nic["hca"]:
            _hca(root, nic)
        if nic["netdev"]:
            _netdev(root, nic)
    iommu = root / "sys/class/iommu"
    iommu.mkdir(parents=True)
    if platform["iommu"]:
        (iommu / "dmar0").mkdir()
    _write(root / SECURE_BOOT, b"\x06\x00\x00\x00" + bytes([platform["secure_boot"] == "enabled"]))


def _place(root: Path, path: list[str], bdf: str) -> Path:
    """The device's folder in the tree of bridges; its link in bus/pci/devices is made."""
    first = (path or [bdf])[0]
    folder = root.joinpath("sys/bus/pci/tree", "pci" + first.rsplit(":", 1)[0], *path, bdf)
    folder.mkdir(parents=True, exist_ok=True)
    link = root / "sys/bus/pci/devices" / bdf
    with contextlib.suppress(FileExistsError):
        link.symlink_to(Path("..") / folder.relative_to(root / "sys/bus/pci"))
    return folder


def _bridge(root: Path, path: list[str], pci_id: str, row: Mapping[str, Any]) -> None:
    folder = _place(root, path[:-1], path[-1])
    _identity(folder, pci_id, "0604", "06", row["numa"])
    for name in ("max_link_speed", "current_link_speed"):
        _write(folder / name, row.get("slot_speed", row["speed"]) + "\n")
    for name in ("max_link_width", "current_link_width"):
        _write(folder / name, f"{row['width']}\n")


def _device(root: Path, row: Mapping[str, Any], platform: Platform) -> None:
    folder = _place(root, list(row.get("path", ())), row["bdf"])
    _identity(folder, row["id"], pci_class(row), row.get("rev", "a1"), row.get("numa", 0))
    if "speed" not in row:
        return
    _write(folder / "max_link_speed", row["speed"] + "\n")
    _write(folder / "current_link_speed", row.get("current_speed", row["speed"]) + "\n")
    _write(folder / "max_link_width", f"{row['width']}\n")
    _write(folder / "current_link_width", f"{row.get('current_width', row['width'])}\n")
    if "hca" in row:
        _write(folder / "resource", _resource((32 << 20,)))
        if row["id"].startswith("15b3"):
            _write(folder / "vpd", vpd(row))
    else:
        memory = (platform.get("nvidia") or platform["amd"])["memory_mib"]
        bar = row.get("bar_gib", 1 << max(0, ((memory + 1023) // 1024 - 1)).bit_length()) << 30
        _write(folder / "resource", _resource((16 << 20, bar, 32 << 20)))


def _identity(folder: Path, pci_id: str, kind: str, revision: str, numa: int) -> None:
    vendor, device = pci_id.split(":")
    dead = revision == "ff"
    config = bytes.fromhex(vendor)[::-1] + bytes.fromhex(device)[::-1] + bytes(60)
    _write(folder / "vendor", f"0x{vendor}\n")
    _write(folder / "device", f"0x{device}\n")
    _write(folder / "class", f"0x{kind}00\n")
    _write(folder / "revision", f"0x{'a1' if dead else revision}\n")  # the kernel keeps what it read at boot
    _write(folder / "config", b"\xff" * 64 if dead else config)
    _write(folder / "numa_node", f"{numa}\n")


def _resource(bars: tuple[int, ...]) -> str:
    """Lines of `resource`: 64-bit BARs, so every second line is empty; a size of 0 was not given an address."""
    lines, start = [], 1 << 40
    for size in bars:
        start = -(-start // size) * size if size else start
        flags = 0x14220C if size else 0x2014220C
        lines.append(f"0x{start if size else 0:016x} 0x{start + size - 1 if size else 0:016x} 0x{flags:016x}")
        lines.append("0x" + "0" * 16 + " 0x" + "0" * 16 + " 0x" + "0" * 16)
        start += size
    lines += ["0x" + "0" * 16 + " 0x" + "0" * 16 + " 0x" + "0" * 16] * (13 - len(lines))
    return "\n".join(lines) + "\n"


def vpd(nic: Mapping[str, Any]) -> bytes:
    """Vital product data of a ConnectX: name, part and serial number, and on a bridge function SMDL=SW_MNG."""
    name = b"NVIDIA ConnectX-7"
    fields = [(b"PN", b"MCX75310AAS-NEAT"), (b"SN", nic["bdf"].replace(":", "").replace(".", "").encode())]
    if nic["vpd_sw_mng"]:
        fields.append((b"VA", b"MLX:MN=MLNX:CSKU=V2:SMDL=SW_MNG"))
    area = b"".join(key + bytes([len(value)]) + value for key, value in fields) + b"RV\x01\x00"
    return b"\x82" + len(name).to_bytes(2, "little") + name + b"\x90" + len(area).to_bytes(2, "little") + area + b"\x78"


def _hca(root: Path, nic: Mapping[str, Any]) -> None:
    folder = root / "sys/class/infiniband" / nic["hca"]
    port = folder / "ports/1"
    port.mkdir(parents=True)
    (folder / "device").symlink_to(Path("../../../bus/pci/devices") / nic["bdf"])
    up = nic.get("state", "ACTIVE") == "ACTIVE"
    _write(folder / "fw_ver", nic["fw"] + "\n")
    _write(
        port / "rate",
        f"{nic['rate']} Gb/sec (4X {SPEEDS_IB.get(nic['rate'], 'EDR')})\n" if up else "10 Gb/sec (4X SDR)\n",
    )
    _write(port / "state", "4: ACTIVE\n" if up else "1: DOWN\n")
    _write(port / "phys_state", "5: LinkUp\n" if up else "3: Disabled\n")
    _write(port / "link_layer", {"EFA": "Unknown"}.get(nic["link_layer"], nic["link_layer"]) + "\n")
    for gid in nic["gids"]:
        _write(port / "gids" / str(gid["index"]), gid["gid"] + "\n")
        if gid["type"]:
            _write(port / "gid_attrs/types" / str(gid["index"]), gid["type"] + "\n")
        if gid["netdev"]:
            _write(port / "gid_attrs/ndevs" / str(gid["index"]), gid["netdev"] + "\n")


def _netdev(root: Path, nic: Mapping[str, Any]) -> None:
    folder = root / "sys/class/net" / nic["netdev"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "device").symlink_to(Path("../../../bus/pci/devices") / nic["bdf"])
    _write(folder / "operstate", "down\n" if nic.get("state") == "DOWN" else "up\n")
    (root / "sys/bus/pci/devices" / nic["bdf"] / "net" / nic["netdev"]).mkdir(parents=True)


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
