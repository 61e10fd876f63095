"""lspci, in the forms that are used: -D -n -nn -mm -k -v -vv -vvv -d vendor:device:class -s slot."""

from __future__ import annotations

from typing import Any

from . import core, sysfs

NAMES = {
    "10de": "NVIDIA Corporation", "1002": "Advanced Micro Devices, Inc. [AMD/ATI]", "15b3": "Mellanox Technologies",
    "1d0f": "Amazon.com, Inc.", "8086": "Intel Corporation", "1000": "Broadcom / LSI",
}  # fmt: skip
CLASSES = {
    "0604": "PCI bridge", "0302": "3D controller", "0300": "VGA compatible controller", "0680": "Bridge",
    "0207": "Infiniband controller", "0200": "Ethernet controller", "1200": "Processing accelerators",
}  # fmt: skip
MODELS = {
    "10de:20b0": "GA100 [A100 SXM4 40GB]", "10de:20b2": "GA100 [A100 SXM4 80GB]", "10de:2330": "GH100 [H100 SXM5 80GB]",
    "10de:2335": "GH100 [H200 SXM 141GB]", "10de:26b9": "AD102GL [L40S]", "10de:1af1": "GA100 [A100 NVSwitch]",
    "10de:22a3": "GH100 [H100 NVSwitch]", "1002:74a1": "Aqua Vanjaram [Instinct MI300X]",
    "15b3:101b": "MT28908 Family [ConnectX-6]", "15b3:101d": "MT2892 Family [ConnectX-6 Dx]",
    "15b3:1021": "MT2910 Family [ConnectX-7]", "15b3:1023": "CX8 Family [ConnectX-8]",
    "15b3:a2dc": "MT43244 BlueField-3 integrated ConnectX-7 network controller",
    "1000:c030": "PEX890xx PCIe Gen 5 Switch",
}  # fmt: skip


def functions(view: core.View) -> list[dict[str, Any]]:
    """Every PCI function of the node by address, with its class, names and driver."""
    found: dict[str, dict[str, Any]] = {}
    for kind, devices in (("gpu", view.gpus), ("switch", view.switches), ("nic", view.nics)):
        for device in devices:
            found[device["bdf"]] = {
                **device, "class": sysfs.pci_class(device, kind)[:4], "kind": kind,
                "label": _label(device["id"]), "driver": sysfs.driver_of(view, device, kind),
                "rev": "ff" if device.get("revff") else ("00" if kind == "nic" else "a1"),
            }  # fmt: skip
            for position, bridge in enumerate(sysfs.chain(device)):
                on_grace = view.description.get("arch") == "aarch64"
                number = "10de:22b1" if position == 0 and on_grace else "8086:352a" if position == 0 else "1000:c030"
                found.setdefault(bridge, {
                    "bdf": bridge, "id": number, "class": "0604", "kind": "bridge", "driver": "pcieport", "rev": "b0",
                    "label": _label(number),
                    "acs": bridge in view.redirecting,
                })  # fmt: skip
    return [found[bdf] for bdf in sorted(found)]


def _label(number: str) -> str:
    """pci.ids does not know every device; lspci then prints the number."""
    return MODELS.get(number, f"Device {number.partition(':')[2]}")


def run(_name: str, arguments: list[str]) -> int:
    flags, device, slot = "", "", ""
    rest = iter(arguments)
    for word in rest:
        if word == "--version":
            print("lspci version 3.13.0")
            return 0
        if word[:2] in ("-d", "-s", "-i"):
            value = word[2:] or next(rest, "")
            device, slot = (value if word[1] == "d" else device), (value if word[1] == "s" else slot)
        elif word.startswith("-"):
            flags += word[1:]
    every = [one for one in functions(core.view()) if _matches(one, device, slot)]
    domains = "D" in flags or any(not one["bdf"].startswith("0000:") for one in functions(core.view()))
    for one in every:
        place = one["bdf"] if domains else one["bdf"][5:]
        if "mm" in flags or flags.count("m") > 1:
            print(
                f'{place} "{CLASSES[one["class"]]} [{one["class"]}]" "{_vendor(one)}" "{one["label"]}" -r{one["rev"]}'
            )
            continue
        print(f"{place} {_title(one, flags)}{'' if one['rev'] == '00' else ' (rev ' + one['rev'] + ')'}")
        if "v" in flags:
            _details(one, flags.count("v"))
        elif "k" in flags and one["driver"]:
            print(f"\tKernel driver in use: {one['driver']}")
        if "v" in flags:
            print()
    return 0


def _vendor(one: dict[str, Any]) -> str:
    vendor = one["id"].partition(":")[0]
    return NAMES.get(vendor, f"Vendor {vendor}")


def _title(one: dict[str, Any], flags: str) -> str:
    if "nn" in flags or flags.count("n") > 1:
        return f"{CLASSES[one['class']]} [{one['class']}]: {_vendor(one)} {one['label']} [{one['id']}]"
    if "n" in flags:
        return f"{one['class']}: {one['id']}"
    return f"{CLASSES[one['class']]}: {_vendor(one)} {one['label']}"


def _matches(one: dict[str, Any], device: str, slot: str) -> bool:
    vendor, number = one["id"].split(":")
    wanted = [*device.split(":"), "", "", ""][:3]
    by_class = wanted[2].removeprefix("0x")
    if wanted[0] not in ("", "*") and int(wanted[0], 16) != int(vendor, 16):
        return False
    if wanted[1] not in ("", "*") and int(wanted[1], 16) != int(number, 16):
        return False
    if by_class not in ("", "*") and not one["class"].startswith(by_class[:4].replace("x", "")):
        return False
    full = slot if slot.count(":") == 2 else f"0000:{slot}"
    return not slot or one["bdf"] == full or one["bdf"].rpartition(".")[0] == full


def _details(one: dict[str, Any], much: int) -> None:
    if one["rev"] == "ff":
        print("\t!!! Unknown header type 7f")
        return
    lines = ["Control: I/O- Mem+ BusMaster+ SpecCycle- MemWINV- VGASnoop- ParErr+ Stepping- SERR+ FastB2B- DisINTx+"]
    if one.get("numa") is not None:
        lines.append(f"NUMA node: {one['numa']}")
    if one.get("bar"):
        size = f"{one['bar'] >> 30}G" if one["bar"] >> 30 else f"{one['bar'] >> 20}M"
        place = f"{0x200000000000 + (one['position'] << 40):x}"
        lines.append("Region 0: Memory at a0000000 (64-bit, prefetchable) [size=16M]")
        lines.append(f"Region 2: Memory at {place} (64-bit, prefetchable) [size={size}]")
    if much > 1:
        speed = str(one.get("speed", "32.0 GT/s PCIe")).split()[0].removesuffix(".0")
        width, most = one.get("width", 16), one.get("max_width", one.get("width", 16))
        lines += [f"LnkCap:\tPort #0, Speed {speed}GT/s, Width x{most}, ASPM not supported",
                  f"LnkSta:\tSpeed {speed}GT/s, Width x{width}{' (downgraded)' if width < most else ''}"]  # fmt: skip
    if one["kind"] == "bridge" and much > 1:
        on = "+" if one["acs"] else "-"
        names = ("SrcValid", "TransBlk", "ReqRedir", "CmpltRedir", "UpstreamFwd", "EgressCtrl", "DirectTrans")
        redirects = {"SrcValid": on, "ReqRedir": on, "CmpltRedir": on, "UpstreamFwd": on}
        lines.append("Capabilities: [148 v1] Access Control Services")
        lines.append("\tACSCap:\tSrcValid+ TransBlk+ ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans+")
        lines.append("\tACSCtl:\t" + " ".join(name + redirects.get(name, "-") for name in names))
    if one["kind"] == "nic" and one["id"].startswith(core.MELLANOX) and much > 1:
        lines += [
            "Capabilities: [48] Vital Product Data",
            "\tRead-only fields:",
            "\t\t[PN] Part number: MCX750500B-0D00",
        ]
        lines += ["\t\t[V3] Vendor specific: SW_MNG"] if one.get("vpd_sw_mng") else []
    lines += [f"Kernel driver in use: {one['driver']}"] if one["driver"] else []
    print("\n".join(f"\t{line}" for line in lines))
