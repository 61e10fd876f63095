#!/usr/bin/python
"""Says which GPUs and fabric cards a node has, and everything in which they differ from what was promised.

First what reads (any function that takes `root` reads below it), then what judges: plain functions over what was read.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_platform
short_description: Read a node's GPUs and fabric cards, judge them against the shape that was promised
description:
  - Reads lspci, /sys/bus/pci, /sys/class/infiniband, Secure Boot, kernel. Changes nothing; within a second.
  - Names every mismatch at once and then fails, unless O(judge) is false. A value that is not known (0, empty) is
    compared with nothing.
  - A GPU's link slows down when it is idle. So its speed is judged by what it and its slot can do, its width by what
    it has now. Cards of the fabric do not slow down and are judged by what they have now. The link of a virtual
    machine's device is what the hypervisor says, and is not judged.
  - Functions of ConnectX cards whose VPD says SW_MNG manage NVLink-5 switches. They are no cards of the fabric.
options:
  expected:
    description: What the plan promised.
    type: dict
    default: {}
    suboptions:
      gpus_per_node:
        description: GPUs of the node.
        type: int
        default: 0
      platform:
        description: Row of the catalogue, with key, name, pci_ids, needs_nvlsm, pcie_gt_s, pcie_width.
        type: dict
        default: {}
      nics:
        description: Cards of the fabric, with count, gbit_s (of one card, all its ports) and kind.
        type: dict
        default: {}
      known:
        description: Every GPU of the catalogue, with pci_id, key and name, to name a stranger.
        type: list
        elements: dict
        default: []
  unsigned_modules:
    description: The driver's kernel modules are built on the node and nobody's key has signed them.
    type: bool
    default: false
  judge:
    description: Fail on a mismatch. Otherwise mismatches are only returned.
    type: bool
    default: true
author: aifactory
"""

EXAMPLES = r"""
- name: Look at the GPUs
  gpu_platform:
    expected:
      gpus_per_node: "{{ gpu.gpus_per_node }}"
      platform: "{{ gpu.platform }}"
      nics: "{{ gpu.nics }}"
      known: "{{ gpu.known }}"
    unsigned_modules: true
  register: __gpu_platform
"""

RETURN = r"""
platform:
  description:
    - kind (key of the GPUs, empty when they are several or unknown), gpus, switches, bridges, nics, secure_boot
      (enabled, disabled, unknown), kernel, arch, acs (bridges that send peer traffic up), virtual.
    - A NIC's near lists the GPUs below the same PCIe switch, path the bridges above it; compute says that it carries
        the GPUs' traffic.
  type: dict
  returned: always
lasting:
  description: The same without what changes from one look to the next (a link's speed at idle, a port's state).
  type: dict
  returned: always
mismatches:
  description: One entry for each difference, with check, place, found, wanted, fix.
  type: list
  elements: dict
  returned: always
"""

import concurrent.futures
import os
import re
import subprocess

from ansible.module_utils.basic import AnsibleModule

SPEC = {
    "expected": {
        "type": "dict",
        "default": {},
        "options": {
            "gpus_per_node": {"type": "int", "default": 0},
            "platform": {"type": "dict", "default": {}},
            "nics": {"type": "dict", "default": {}},
            "known": {"type": "list", "elements": "dict", "default": []},
        },
    },
    "unsigned_modules": {"type": "bool", "default": False},
    "judge": {"type": "bool", "default": True},
}

NVIDIA = "10de"
AMD = "1002"
MELLANOX = "15b3"
AMAZON = "1d0f"
"""Makers, as the first half of a PCI id."""
ETHERNET = "0200"
INFINIBAND = "0207"
VGA = "0300"
DISPLAY_3D = "0302"
DISPLAY = "0380"
BRIDGE = "0680"
ACCELERATOR = "1200"
"""Classes of PCI functions."""
NVSWITCHES = re.compile(r"10de:(1ae8|1af[0-9a-f]|22a[0-9a-f])")
"""PCI ids of LR10 and LS10, NVIDIA/open-gpu-kernel-modules src/common/nvswitch/kernel/nvswitch.c."""
LINK_LAYERS = {"infiniband": "InfiniBand", "roce": "Ethernet", "efa": "EFA"}
"""Kind of fabric → the link layer of its cards. Over TCP any interface will do, so none is judged."""

LSPCI_LINE = re.compile(
    r"^(?P<bdf>[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) [^\[]*\[(?P<class>[0-9a-f]{4})\]: .*"
    r"\[(?P<id>[0-9a-f]{4}:[0-9a-f]{4})\](?: \(rev (?P<rev>[0-9a-f]{2})\))?",
    re.IGNORECASE,
)
BDF = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
VPD_MOST = 4096
BAR_LEAST = 4 << 30
MEM = 0x200
UNSET = 0x20000000
"""IORESOURCE_MEM and IORESOURCE_UNSET of linux/ioport.h."""
TIMEOUT_S = 10


class Silent(Exception):
    """A program gave no answer in time; the text names it."""


def main():
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    expected = module.params["expected"]
    try:
        platform = read("/", expected)
    except Silent as error:
        module.fail_json(msg=str(error))
    mismatches = judge(platform, expected, module.params["unsigned_modules"])
    result = {"changed": False, "platform": platform, "lasting": lasting(platform), "mismatches": mismatches}
    if mismatches and module.params["judge"]:
        module.fail_json(msg="\n".join(map(line, mismatches)), **result)
    module.exit_json(**result)


def lasting(platform):
    """What is the same at every look while nobody changes the node: no link speed of the moment, no state of a port."""
    dropped = {"gpus": ("speed_gt_s", "width"), "nics": ("speed_gt_s", "width", "state", "rate_gbit_s")}
    kept = dict(platform)
    for part, names in dropped.items():
        kept[part] = [{key: value for key, value in one.items() if key not in names} for one in platform[part]]
    return kept


def line(mismatch):
    """A mismatch in one line."""
    return "{check} {place}: found {found}, wanted {wanted}. {fix}".format(**mismatch)


def run(command):
    """Exit code and output; None and "" when there is no such program. Raises Silent after ten seconds."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=False,
            env=dict(os.environ, LC_ALL="C"),
        )
    except OSError:
        return None, ""
    except subprocess.TimeoutExpired as error:
        told = f"{' '.join(command)} gave no answer within {TIMEOUT_S} s: a device hangs. Look at dmesg, power cycle"
        raise Silent(told) from error
    return done.returncode, done.stdout.decode("utf-8", "replace")


# ---------------------------------------------------------------- reading


def read(root, expected):
    """The platform, from lspci and the files below `root`."""
    code, told = run(["lspci", "-Dnn"])
    devices = parse_lspci(told) if code == 0 else sysfs_devices(root)
    keys = {entry["pci_id"]: entry["key"] for entry in expected.get("known") or []}
    promised = expected.get("platform") or {}
    keys.update({pci_id: promised.get("key") or "" for pci_id in promised.get("pci_ids") or []})
    gpus = [read_gpu(root, device, keys) for device in devices if is_gpu(device, keys)]
    virtual = is_virtual(root)
    hcas = read_hcas(root)
    cards = [device for device in devices if is_nic(device, hcas) and not is_virtual_function(root, device["bdf"])]
    nics = [read_nic(root, device, hcas.get(device["bdf"], "")) for device in cards]
    # Reading VPD takes some 100 ms a card, so it is left out where the row says that there are no such switches.
    if promised.get("needs_nvlsm", True):
        suspects = [nic for nic in nics if nic["bdf"] in vpd_suspects(cards)]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for nic, found in zip(suspects, pool.map(lambda nic: manages_switches(root, nic["bdf"]), suspects)):
                nic["bridge"] = found
    for nic in nics:
        nic["near"] = [] if virtual else near(nic, gpus)
    all_gpus = len(gpus) >= (expected.get("gpus_per_node") or 0)
    for nic in compute_nics(nics, (expected.get("nics") or {}).get("kind") or "", all_gpus):
        nic["compute"] = True
    kernel, _, arch = run(["uname", "-rm"])[1].strip().partition(" ")
    kinds = {gpu["key"] for gpu in gpus}
    return {
        "kind": kinds.pop() if len(kinds) == 1 else "",
        "gpus": gpus,
        "switches": [{"bdf": d["bdf"], "pci_id": d["pci_id"]} for d in devices if is_switch(d)],
        "bridges": [{"bdf": nic["bdf"], "hca": nic["hca"]} for nic in nics if nic["bridge"]],
        "nics": nics,
        "secure_boot": secure_boot(root),
        "kernel": kernel,
        "arch": arch,
        "acs": [] if virtual or not listing(root, "sys/class/iommu") else redirecting_bridges(),
        "virtual": virtual,
    }


def parse_lspci(told):
    """Devices out of `lspci -Dnn`: bdf, class, pci_id, rev. Lines that are none are passed over."""
    found = []
    for words in told.splitlines():
        match = LSPCI_LINE.match(words)
        if match:
            found.append(
                {
                    "bdf": match["bdf"].lower(),
                    "class": match["class"].lower(),
                    "pci_id": match["id"].lower(),
                    "rev": (match["rev"] or "").lower(),
                }
            )
    return found


def sysfs_devices(root):
    """The same out of sysfs: a fresh host may have no lspci yet."""
    found = []
    for bdf in listing(root, "sys/bus/pci/devices"):
        words = [text(root, device_path(bdf, name)) for name in ("class", "vendor", "device", "revision")]
        if all(word.startswith("0x") for word in words[:3]):
            kind, vendor, device, revision = (word[2:] for word in words)
            # What the kernel read at boot stays; a device that fell off the bus answers with ones.
            dead = octets(root, device_path(bdf, "config"), 4) == b"\xff" * 4
            pci_id = f"{vendor}:{device}"
            found.append({"bdf": bdf, "class": kind[:4], "pci_id": pci_id, "rev": "ff" if dead else revision})
    return found


def is_gpu(device, keys):
    """NVIDIA's and AMD's accelerators; AMD's small graphics only where the catalogue has them."""
    vendor, kind = device["pci_id"][:4], device["class"]
    if vendor == NVIDIA:
        return kind in {VGA, DISPLAY_3D}
    return vendor == AMD and (kind == ACCELERATOR or (kind in {VGA, DISPLAY} and device["pci_id"] in keys))


def is_switch(device):
    return device["class"] == BRIDGE and NVSWITCHES.fullmatch(device["pci_id"]) is not None


def is_nic(device, hcas):
    """A card that can do RDMA: by its maker, or because the kernel has made an RDMA device of it."""
    vendor, kind = device["pci_id"][:4], device["class"]
    return (
        (vendor == MELLANOX and kind in {ETHERNET, INFINIBAND})
        or (vendor == AMAZON and device["pci_id"].startswith("1d0f:efa"))
        or device["bdf"] in hcas
    )


def is_virtual_function(root, bdf):
    return os.path.exists(os.path.join(root, device_path(bdf, "physfn")))


def read_gpu(root, device, keys):
    gpu = {"bdf": device["bdf"], "pci_id": device["pci_id"], "key": keys.get(device["pci_id"], "")}
    gpu.update(read_link(root, device["bdf"]), rev=device["rev"])
    gpu["bar_bytes"] = largest_bar(text(root, device_path(device["bdf"], "resource")))
    return gpu


def read_link(root, bdf):
    """NUMA node (-1 without one), speed and width now and at most; 0 where sysfs does not say.

    path is the bridges above it from the root port down, slot_speed_gt_s what the last of them can do.
    """
    path = upstream(root, bdf)
    numa = text(root, device_path(bdf, "numa_node"))
    return {
        "numa": int(numa) if re.fullmatch(r"-?[0-9]{1,6}", numa) else -1,
        "speed_gt_s": number(text(root, device_path(bdf, "current_link_speed"))),
        "width": lanes(text(root, device_path(bdf, "current_link_width"))),
        "max_speed_gt_s": number(text(root, device_path(bdf, "max_link_speed"))),
        "max_width": lanes(text(root, device_path(bdf, "max_link_width"))),
        "slot_speed_gt_s": number(text(root, device_path(path[-1], "max_link_speed"))) if path else 0.0,
        "path": path,
    }


def read_hcas(root):
    """PCI function → its RDMA device."""
    found = {}
    for hca in listing(root, "sys/class/infiniband"):
        link = os.path.join(root, "sys/class/infiniband", hca, "device")
        found[os.path.basename(os.path.realpath(link))] = hca
    return found


def read_nic(root, device, hca):
    """One function; before its driver is there, rate is 0, state empty, and the PCI class tells the link layer."""
    bdf = device["bdf"]
    port = os.path.join("sys/class/infiniband", hca, "ports/1")
    layer = text(root, os.path.join(port, "link_layer")) if hca else ""
    if device["pci_id"].startswith(AMAZON):
        layer = "EFA"
    elif not layer:
        layer = "InfiniBand" if device["class"] == INFINIBAND else "Ethernet"
    state = text(root, os.path.join(port, "state")) if hca else ""
    nic = {
        "bdf": bdf,
        "pci_id": device["pci_id"],
        "hca": hca,
        "netdev": (listing(root, device_path(bdf, "net")) or [""])[0],
    }
    nic.update(
        rate_gbit_s=number(text(root, os.path.join(port, "rate"))) if hca else 0.0,
        link_layer=layer,
        state=state.rpartition(":")[2].strip(),
        bridge=False,
        compute=False,
    )
    nic.update(read_link(root, bdf))
    return nic


def vpd_suspects(cards):
    """Functions that may be the way to NVLink-5 switches: they are InfiniBand functions of ConnectX cards."""
    return {card["bdf"] for card in cards if card["class"] == INFINIBAND and card["pci_id"].startswith(MELLANOX)}


def manages_switches(root, bdf):
    """Whether the card's vital product data has SW_MNG; no when they cannot be read."""
    data = b""
    try:
        handle = os.open(os.path.join(root, device_path(bdf, "vpd")), os.O_RDONLY)
    except OSError:
        return False
    try:
        while len(data) < VPD_MOST:
            piece = os.read(handle, 128)  # slow to read, so no further than needed
            if not piece:
                break
            data += piece
            if b"SW_MNG" in data:
                return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def upstream(root, bdf):
    """Bridges above a device, from the root port down."""
    path = os.path.realpath(os.path.join(root, device_path(bdf)))
    return [part for part in path.split(os.sep)[:-1] if BDF.fullmatch(part)]


def near(nic, gpus):
    """The GPUs that share the deepest PCIe bridge with a NIC; none where only the processor joins them."""
    depth = {gpu["bdf"]: len(set(nic["path"]) & set(gpu["path"])) for gpu in gpus}
    deepest = max(depth.values(), default=0)
    return sorted(gpu for gpu, shared in depth.items() if shared == deepest and deepest)


def compute_nics(nics, kind, all_gpus):
    """The NICs that carry the GPUs' traffic: of the fabric's link layer, and below the GPUs' PCIe switches if any is.

    Storage and management cards are often as fast and of the same make; their place and model tell them apart. The
    card of a GPU that is missing has no neighbour: then those of the same model as deep in the PCIe tree count too.
    """
    layers = {LINK_LAYERS[kind]} if kind in LINK_LAYERS else set(LINK_LAYERS.values())
    fit = [nic for nic in nics if nic["link_layer"] in layers and not nic["bridge"]]
    beside = [nic for nic in fit if nic["near"]]
    likes = {(nic["pci_id"], len(nic["path"])) for nic in beside} if not all_gpus else set()
    fit = [nic for nic in fit if nic["near"] or (nic["pci_id"], len(nic["path"])) in likes] if beside else fit
    models = {}
    for nic in fit:
        models.setdefault(nic["pci_id"], set()).add(card_of(nic))
    most = max(models, key=lambda model: (len(models[model]), model), default="")
    return [nic for nic in fit if nic["pci_id"] == most]


def card_of(nic):
    """The card of a function: its address without the function."""
    return nic["bdf"].rpartition(".")[0]


def largest_bar(resource):
    """Bytes of the largest memory region of a `resource` file; a region without an address counts as 0."""
    largest = 0
    for words in resource.splitlines()[:6]:
        try:
            start, end, flags = (int(word, 16) for word in words.split())
        except ValueError:
            continue
        if start and flags & MEM and not flags & UNSET:
            largest = max(largest, end - start + 1)
    return largest


def secure_boot(root):
    code, told = run(["mokutil", "--sb-state"])
    if code == 0 and "SecureBoot" in told:
        return "enabled" if "SecureBoot enabled" in told and "validation is disabled" not in told else "disabled"
    value = octets(root, SECURE_BOOT, 5)
    if len(value) == 5:
        return "enabled" if value[4] == 1 else "disabled"
    return "unknown"


def is_virtual(root):
    code, _told = run(["systemd-detect-virt", "--vm", "--quiet"])
    if code is not None:
        return code == 0
    return re.search(r"^flags\s*:.*\bhypervisor\b", text(root, "proc/cpuinfo"), re.MULTILINE) is not None


def redirecting_bridges():
    _code, told = run(["lspci", "-Dvvv", "-d", "::0604"])
    return parse_acs(told)


def parse_acs(told):
    """Bridges out of `lspci -vvv` whose access control sends requests or answers between peers up to the processor."""
    found, bdf = [], ""
    for words in told.splitlines():
        if words[:1].strip():
            match = BDF.match(words.split(" ", 1)[0])
            bdf = match[0] if match else ""
        elif "ACSCtl:" in words and bdf and re.search(r"\b(ReqRedir|CmpltRedir)\+", words):
            found.append(bdf)
    return found


def device_path(bdf, *names):
    return os.path.join("sys/bus/pci/devices", bdf, *names)


def listing(root, path):
    try:
        return sorted(os.listdir(os.path.join(root, path)))
    except OSError:
        return []


def text(root, path):
    """A small file's words, empty when it cannot be read."""
    try:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def octets(root, path, most):
    try:
        with open(os.path.join(root, path), "rb") as stream:
            return stream.read(most)
    except OSError:
        return b""


def number(words):
    """The number at the start, as in `32.0 GT/s PCIe` or `400 Gb/sec (4X NDR)`; 0 for anything else."""
    match = re.match(r"[0-9]{1,6}(\.[0-9]{1,3})?(?= )", words)
    return float(match[0]) if match else 0.0


def lanes(words):
    """A link's width; 0 for `Unknown` and for the 63 or 255 of a link that is not there."""
    return int(words) if words in {"1", "2", "4", "8", "12", "16", "32"} else 0


# ---------------------------------------------------------------- judging


def judge(platform, expected, unsigned_modules=False):
    """Every mismatch between what is there and what was promised."""
    found = []

    def add(check, place, found_value, wanted, fix):
        found.append({"check": check, "place": place, "found": found_value, "wanted": wanted, "fix": fix})

    judge_gpus(platform, expected, add)
    judge_links(platform, expected, add)
    judge_nics(platform, expected.get("nics") or {}, add)
    judge_node(platform, unsigned_modules, add)
    return found


def judge_gpus(platform, expected, add):
    promised, count, gpus = expected.get("platform") or {}, expected.get("gpus_per_node"), platform["gpus"]
    names = {entry["pci_id"]: entry["name"] for entry in expected.get("known") or []}
    names.update({pci_id: promised.get("name") or pci_id for pci_id in promised.get("pci_ids") or []})
    if count and len(gpus) != count:
        there = ", ".join(gpu["bdf"] for gpu in gpus) or "none"
        fix = "Power cycle the node; a GPU that stays away has to be reseated or replaced."
        if len(gpus) > count:
            fix = "Give the pool the shape that the node really has."
        add("GPU-COUNT", "node", f"{len(gpus)} GPUs ({there})", f"{count} GPUs", fix)
    groups = {}
    for gpu in gpus:
        groups.setdefault(gpu["pci_id"], []).append(gpu["bdf"])
    for pci_id, places in groups.items():
        if names and pci_id not in names:
            fix = "Add its row to the catalogue's gpus.toml, or take the card out: nothing is guessed about it."
            add("GPU-UNKNOWN", ", ".join(places), f"a GPU with PCI id {pci_id}", "a GPU of the catalogue", fix)
        elif promised.get("pci_ids") and pci_id not in promised["pci_ids"]:
            fix = "Name the shape that the node has in the region file, or ask for the node that was ordered."
            wanted = f"{promised.get('name', '')} ({', '.join(promised['pci_ids'])})"
            add("GPU-OTHER", ", ".join(places), f"{names[pci_id]} ({pci_id})", wanted, fix)
    kinds = {gpu["key"]: names.get(gpu["pci_id"], gpu["key"]) for gpu in gpus if gpu["key"]}
    if len(kinds) > 1:
        told = ", ".join(sorted(kinds.values()))
        add("GPU-MIXED", "node", told, "GPUs of one kind", "Replace the odd ones: ranks would wait for the slowest.")


def judge_links(platform, expected, add):
    promised = expected.get("platform") or {}
    for gpu in platform["gpus"]:
        if gpu["rev"] == "ff":
            fix = (
                "It fell off the bus: power cycle the node (a reboot is not enough), look for Xid 79, else replace it."
            )
            add("GPU-REVFF", gpu["bdf"], "rev ff, the GPU does not answer", "a GPU that answers", fix)
            continue
        # On 64-bit ARM the GPUs' memory is reached over C2C, not through a BAR.
        if gpu["bar_bytes"] <= BAR_LEAST and platform["arch"] != "aarch64" and promised.get("pci_ids"):
            size = f"a largest BAR of {gpu['bar_bytes'] >> 20} MiB" if gpu["bar_bytes"] else "no BAR with an address"
            fix = "Turn on Above 4G Decoding and Resizable BAR in the firmware; or give the virtual machine more MMIO."
            add("GPU-BAR", gpu["bdf"], size, "more than 4096 MiB", fix)
        if platform["virtual"]:
            continue
        width = promised.get("pcie_width") or gpu["max_width"]
        if gpu["width"] and width and gpu["width"] < width:
            fix = "Reseat the GPU or its riser, clean the contacts; look for link errors in dmesg."
            add("GPU-LINK", gpu["bdf"], f"PCIe x{gpu['width']}", f"x{width}", fix)
        ceilings = [speed for speed in (gpu["max_speed_gt_s"], gpu["slot_speed_gt_s"]) if speed]
        wanted = promised.get("pcie_gt_s") or 0
        if ceilings and min(ceilings) < wanted:
            fix = "Set the slot to its full PCIe generation in the firmware; check riser and retimers."
            told = f"a link for at most {min(ceilings):g} GT/s"
            add("GPU-LINK", gpu["bdf"], told, f"{wanted:g} GT/s (idle GPUs slow down, so what it can do counts)", fix)


def judge_nics(platform, promised, add):
    kind, count, gbit_s = promised.get("kind"), promised.get("count") or 0, promised.get("gbit_s") or 0
    if kind not in LINK_LAYERS:
        return
    cards = {}
    for nic in platform["nics"]:
        if nic["compute"]:
            cards.setdefault(card_of(nic), []).append(nic)
    if count and len(cards) < count:
        there = ", ".join(sorted(cards)) or "none"
        near_gpus = any(nic["near"] for nics in cards.values() for nic in nics)
        told = f"{len(cards)} {kind} cards" + (" beside GPUs" if near_gpus else "") + f" ({there})"
        add("NIC-COUNT", "node", told, f"{count}", "Reseat or replace the missing card; lspci has to show it.")
    driven = any(nic["hca"] for nics in cards.values() for nic in nics)
    for nics in cards.values():
        judge_card(nics, kind, gbit_s, add)
        if driven and not any(nic["hca"] for nic in nics):
            fix = "Its driver gave up on it while it took the others: look for its address in dmesg, replace the card."
            add("NIC-DOWN", nics[0]["bdf"], "no RDMA device", "an RDMA device, as its neighbours have", fix)
        for nic in [] if platform["virtual"] else nics[:1]:
            speed = min(filter(None, (nic["max_speed_gt_s"], nic["slot_speed_gt_s"])), default=0)
            narrow = nic["width"] and nic["width"] < nic["max_width"]
            slow = nic["speed_gt_s"] and nic["speed_gt_s"] < speed
            if narrow or slow:
                told = f"PCIe x{nic['width']} at {nic['speed_gt_s']:g} GT/s"
                fix = "Reseat the card or its riser; a slot with fewer lanes is the wrong slot."
                add("NIC-LINK", place_of(nic), told, f"x{nic['max_width']} at {speed:g} GT/s", fix)


def judge_card(nics, kind, gbit_s, add):
    """The ports of one card: together they must carry what was promised, so a spare port may be down."""
    up = [nic for nic in nics if nic["state"] in {"", "ACTIVE"}]
    down = [nic for nic in nics if nic not in up]
    rates = [nic["rate_gbit_s"] for nic in up]
    # Older EFA drivers say 100 Gbit/s of every card, whatever it does.
    measured = bool(gbit_s and rates and all(rates) and kind != "efa")
    if measured and sum(rates) >= gbit_s:
        return
    for nic in down:
        fix = "Check cable, transceiver and switch port, and on InfiniBand the subnet manager."
        add("NIC-DOWN", place_of(nic), f"port {nic['state']}", "port ACTIVE", fix)
    if measured and not down:
        fix = "Check cable and transceiver, and that the switch port is set to the full rate."
        told = " + ".join(f"{rate:g}" for rate in rates) + " Gbit/s"
        add("NIC-RATE", ", ".join(map(place_of, up)), told, f"{gbit_s:g} Gbit/s", fix)


def place_of(nic):
    return f"{nic['bdf']} ({nic['hca']})" if nic["hca"] else nic["bdf"]


def judge_node(platform, unsigned_modules, add):
    if platform["secure_boot"] == "enabled" and unsigned_modules:
        fix = (
            "Turn Secure Boot off in the firmware, or install modules that the distribution signed, or enrol the key "
            "of DKMS (mokutil --import, then confirm at the console)."
        )
        add("SECURE-BOOT", "node", "Secure Boot enabled", "Secure Boot off, or signed modules", fix)
    beside = [nic for nic in platform["nics"] if nic["compute"] and nic["near"]]
    peers = {bdf for nic in beside for bdf in (nic["bdf"], *nic["near"])}
    paths = [row["path"] for row in (*platform["gpus"], *platform["nics"]) if row["bdf"] in peers]
    # Below the root port: that one is on nobody's way to a neighbour.
    guilty = sorted(set(platform["acs"]) & {bridge for path in paths for bridge in path[1:]})
    if guilty:
        fix = (
            "It sends what GPUs and cards tell each other through the processor: turn ACS off in the firmware, or "
            "clear ACSCtl of these bridges at boot (setpci -s <bridge> ECAP_ACS+6.w=0)."
        )
        add("ACS", ", ".join(guilty), "ACS redirects peer traffic", "no redirect between GPUs and cards", fix)


if __name__ == "__main__":
    main()
