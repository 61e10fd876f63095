#!/usr/bin/python
"""Judges the health of a node with GPUs by the catalogue's signs and Xids; reads, never changes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aifactory_gpu_health
short_description: Judge the health of a GPU node
description:
  - Reads the PCI bus, the driver's own tool (nvidia-smi, amd-smi), NVLink, the kernel log since boot, the fabric
    cards, services and boots, and compares them with the rows it is given. The worst verdict is the node's.
  - Changes nothing, also outside check mode. Each command has a time limit; one that hangs is a finding of its own.
  - What cannot be read, or has nothing to be compared with, stands in RV(unread) and decides nothing.
options:
  gpus_per_node:
    description: GPUs the shape promises; 0 = a node without GPUs, which is always well.
    type: int
    default: 0
  vendor:
    description: Maker of the GPUs.
    type: str
    choices: ["", nvidia, amd]
    default: ""
  platform:
    description: The platform's row, as the role gpu takes it. 0 and empty = unknown.
    type: dict
    default: {}
  nics:
    description: Promised fabric ports (count, gbit_s, kind).
    type: dict
    default: {}
  signals:
    description: Rows of the catalogue's table signals (key, vendor, name, limit, unit, verdict, fix, source).
    type: list
    elements: dict
    required: true
  xids:
    description: Rows of the catalogue's table xids (number, action, name, source).
    type: list
    elements: dict
    required: true
  xids_since:
    description: Xids before this time do not count (any time that journalctl knows); empty = since boot.
    type: str
    default: ""
  services:
    description: Services that must run besides those the platform's row asks for.
    type: list
    elements: str
    default: []
  timeout_s:
    description: Longest time for one command, seconds.
    type: int
    default: 20
author: aifactory
"""

EXAMPLES = r"""
- name: Judge the node
  aifactory_gpu_health: "{{ _health_input }}"
  register: __health
"""

RETURN = r"""
verdict:
  description: The worst of the findings, or V(ok).
  type: str
  returned: always
findings:
  description: What is wrong, worst first (signal, name, place, found, limit, verdict, fix, source).
  type: list
  elements: dict
  returned: always
unread:
  description: What could not be read or compared, and why.
  type: list
  elements: str
  returned: always
driver:
  description: Version and CUDA version the driver states; empty when it does not answer.
  type: dict
  returned: always
dcgm_packages:
  description: Packages of DCGM that fit the driver; empty where that is not known.
  type: list
  elements: str
  returned: always
msg:
  description: One line for people.
  type: str
  returned: always
"""

import calendar
import glob
import json
import os
import re
import subprocess
import time
from xml.etree import ElementTree

try:
    from ansible.module_utils.basic import AnsibleModule
except ImportError:  # the plain functions below need no Ansible
    AnsibleModule = None

VERDICTS = ("ok", "warn", "drain", "reset_gpu", "reboot", "reseat", "fail", "rma", "replace")
"""From the mildest to the worst."""

XID_ACTIONS = {
    "ignore": ("ok", "Nothing."),
    "restart_app": ("warn", "Restart the application that ran on the GPU; look at its own fault first."),
    "reset_gpu": ("reset_gpu", "Drain the node, then reset the GPU: nvidia-smi --gpu-reset -i <index>, or reboot."),
    "reboot": ("reboot", "Drain and reboot the node; when it comes back, have the node replaced."),
    "check_power": ("reseat", "Have the power cables and the seat of the GPU's board checked."),
    "update_software": ("warn", "Update driver and firmware."),
    "inspect": ("drain", "Drain the node and look at the lines around it in the kernel log; ask the maker's support."),
}
"""Action of a row of table xids → verdict and what to do."""

RECOVERY = {
    0: "",
    1: "recovery-reset",
    2: "recovery-reboot",
    3: "recovery-drain",
    4: "recovery-drain-and-reset",
    5: "recovery-imex",
    6: "recovery-bus-reset",
    7: "recovery-reboot",
}
"""Number of nvmlDeviceGpuRecoveryAction_t → signal."""

RECOVERY_WORDS = {
    "none": 0,
    "reset": 1,
    "gpu reset": 1,
    "reboot": 2,
    "node reboot": 2,
    "drain p2p": 3,
    "drain and reset": 4,
    "recover imex domain": 5,
    "bus reset": 6,
    "system reboot": 7,
}
"""What nvidia-smi prints → number."""

CLOCK_EVENTS = {
    "hw_slowdown": "clock-hw-slowdown",
    "hw_thermal_slowdown": "clock-hw-thermal",
    "hw_power_brake_slowdown": "clock-power-brake",
    "sw_thermal_slowdown": "clock-sw-thermal",
    "sw_power_cap": "clock-power-cap",
}
"""End of the tag in nvidia-smi's XML → signal."""

SERVICES = {"needs_fabric_manager": "nvidia-fabricmanager.service", "needs_imex": "nvidia-imex.service"}
PCIE_GENERATIONS = {2.5: 1, 5.0: 2, 8.0: 3, 16.0: 4, 32.0: 5, 64.0: 6}
VENDOR_IDS = {"nvidia": "10de", "amd": "1002"}
GPU_CLASSES = ("0300", "0302", "0380", "1200")
SYS = "/sys"


class Silent(Exception):
    """A command that did not answer in time; the text names it."""


def run(argv, timeout_s, environment=None):
    """(exit status, stdout, stderr); status 127 where the program is not there. Raises Silent.

    A tool that hangs in the driver cannot be killed: it is left behind and not waited for.
    """
    variables = dict(os.environ, LC_ALL="C.UTF-8", **(environment or {}))
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=variables,
            start_new_session=True,
        )
    except OSError as error:
        return 127, "", f"{argv[0]}: {error.strerror}"
    try:
        out, err = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        child.kill()
        raise Silent(f"`{' '.join(argv)}` did not answer within {timeout_s} s") from error
    return child.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")


# Readers: text in, plain data out


def parse_bus(text):
    """Devices of `lspci -Dnn`: bdf, class, id ("10de:2330"), off_bus."""
    devices = []
    for line in text.splitlines():
        head = re.match(r"([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) .*?\[([0-9a-f]{4})\]: ", line, re.IGNORECASE)
        ids = re.findall(r"\[([0-9a-f]{4}:[0-9a-f]{4})\]", line, re.IGNORECASE)
        if head and ids:
            devices.append(
                {
                    "bdf": short_bdf(head.group(1)),
                    "class": head.group(2),
                    "id": ids[-1].lower(),
                    "off_bus": "(rev ff)" in line,
                }
            )
    return devices


def short_bdf(text):
    """`00000000:19:00.0` and `0000:19:00.0` → `0000:19:00.0`."""
    domain, _, rest = text.strip().lower().partition(":")
    return f"{domain[-4:].rjust(4, '0')}:{rest}"


def parse_smi(text):
    """driver, cuda and the GPUs of `nvidia-smi -q -x` in its order. Raises ValueError when it is no such XML."""
    end = text.rfind("</nvidia_smi_log>")
    if end < 0:
        raise ValueError("no nvidia_smi_log in the output")
    start = max(text.find("<nvidia_smi_log"), 0)
    try:
        root = ElementTree.fromstring(text[start : end + len("</nvidia_smi_log>")])  # noqa: S314 the driver's own tool
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from error
    gpus = [smi_gpu(index, node) for index, node in enumerate(root.findall("gpu"))]
    return {"driver": word(root, "driver_version"), "cuda": word(root, "cuda_version"), "gpus": gpus}


def word(node, path):
    """Text at the path; empty where nothing is stated (N/A, deprecated, unknown)."""
    text = (node.findtext(path) or "").strip()
    return "" if text in {"N/A", "[N/A]", "Not Supported"} or "deprecated" in text or "Error" in text else text


def number(text):
    """First number of the text, None without one."""
    found = re.search(r"-?\d+(?:\.\d+)?", text or "")
    return float(found.group()) if found else None


def tags(node, path):
    return [child.tag for child in node.findall(f"{path}/*")]


def smi_gpu(index, node):
    """What is judged of one <gpu>."""
    reasons = next(
        (r for r in map(node.find, ("clocks_event_reasons", "clocks_throttle_reasons")) if r is not None), ()
    )
    active = {child.tag.split("_reason_", 1)[-1] for child in reasons if (child.text or "").strip() == "Active"}
    errors = {kind: ecc(node.find(f"ecc_errors/{kind}")) for kind in ("volatile", "aggregate")}
    fabric = {
        child.tag.lower().replace("_", ""): word(node, f"fabric/{child.tag}") for child in node.find("fabric") or ()
    }
    health = {tag: word(node, f"fabric/health/{tag}") for tag in tags(node, "fabric/health")}
    link = "pci/pci_gpu_link_info"
    return {
        "index": index,
        "bdf": short_bdf(word(node, "pci/pci_bus_id") or node.get("id", "")),
        "serial": word(node, "serial"),
        "recovery": word(node, "gpu_recovery_action"),
        "reset_required": word(node, "gpu_reset_status/reset_required") == "Yes",
        "busy": word(node, "performance_state") == "P0",
        "max_generation": number(word(node, f"{link}/pcie_gen/max_link_gen")),
        "remap_pending": word(node, "remapped_rows/remapped_row_pending"),
        "remap_failure": word(node, "remapped_rows/remapped_row_failure"),
        "remap_uncorrected": number(word(node, "remapped_rows/remapped_row_unc")),
        "clocks": sorted(active & set(CLOCK_EVENTS)),
        "volatile": errors["volatile"],
        "aggregate": errors["aggregate"],
        "fabric": fabric,
        "fabric_health": health,
    }


def ecc(node):
    """Errors by memory and kind; None where the GPU does not count."""
    counts = {"sram_corrected": None, "sram_uncorrected": None, "dram_corrected": None, "dram_uncorrected": None}
    for child in () if node is None else node:
        for memory in ("sram", "dram"):
            for kind in ("correctable", "uncorrectable"):
                value = number((child.text or "").strip())
                if child.tag.startswith(f"{memory}_{kind}") and value is not None:
                    name = f"{memory}_{kind.replace('correctable', 'corrected')}"
                    counts[name] = (counts[name] or 0) + int(value)
    return counts


def parse_nvlink(text):
    """GPU index → speeds of its links in GB/s, 0 for one that is not active (`nvidia-smi nvlink --status`)."""
    links, current = {}, None
    for line in text.splitlines():
        if gpu := re.match(r"\s*GPU (\d+):", line):
            current = links.setdefault(int(gpu.group(1)), [])
        elif (link := re.match(r"\s*Link \d+: (.*)", line)) and current is not None:
            current.append(number(link.group(1)) or 0.0)
    return links


def parse_xids(text):
    """Xids of a kernel log, in order: bdf ("0000:19:00", or "" where none is told), number, message."""
    found = []
    for line in text.splitlines():
        match = re.search(r"NVRM: Xid \(([^)]*)\): (\d+),?\s*(.*)", line)
        if match:
            place = re.search(r"([0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2})", match.group(1))
            found.append(
                {
                    "bdf": short_bdf(place.group(1)) if place else "",
                    "number": int(match.group(2)),
                    "message": match.group(3).strip(),
                }
            )
    return found


def recovery_number(text):
    """Number of the recovery action that nvidia-smi's word or an Xid 154 names; None for a word nobody knows."""
    told = re.search(r"to 0x([0-9a-fA-F]+)", text)
    if told:
        return int(told.group(1), 16)
    return RECOVERY_WORDS.get(re.sub(r"\s+required$", "", text.strip().lower()))


def parse_boots(text):
    """Boots of `journalctl --list-boots` in UTC, oldest first: id and start (Unix seconds)."""
    boots = []
    for line in text.splitlines():
        match = re.match(r"\s*-?\d+ ([0-9a-f]{32}) \w{3} (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC", line)
        if match:
            moment = time.strptime(match.group(2) + " UTC", "%Y-%m-%d %H:%M:%S %Z")
            boots.append({"id": match.group(1), "start": calendar.timegm(moment)})
    return sorted(boots, key=lambda boot: boot["start"])


def ended_well(tail):
    """Whether the last lines of a boot's journal tell of a shutdown."""
    return (
        re.search(r"Journal stopped|Shutting down\.|Reached target .*(reboot|power|shutdown)", tail, re.I) is not None
    )


def parse_flaps(text):
    """Interface → carrier losses that a journal tells of, by the kernel or by systemd-networkd, whoever saw more."""
    counts = {"kernel": {}, "networkd": {}}
    for line in text.splitlines():
        for source, pattern in (("kernel", r"mlx5_core \S+ (\S+): Link down"), ("networkd", r"(\S+): Lost carrier")):
            if match := re.search(pattern, line):
                name = match.group(1)
                counts[source][name] = counts[source].get(name, 0) + 1
    names = set(counts["kernel"]) | set(counts["networkd"])
    return {name: max(counts["kernel"].get(name, 0), counts["networkd"].get(name, 0)) for name in names}


def parse_amd(text):
    """Rows of one GPU each of `amd-smi … --json`, which are a list, or lie under gpu_data since ROCm 7."""
    data = json.loads(text[min((i for i in (text.find("["), text.find("{")) if i >= 0), default=0) :])
    rows = data.get("gpu_data", []) if isinstance(data, dict) else data
    return [row for row in rows if isinstance(row, dict) and "gpu" in row]


def pages(value):
    """Number of pages in an entry of `amd-smi bad-pages`: a list, or words that name addresses or say: none."""
    if isinstance(value, list):
        return len(value)
    if isinstance(value, (int, float)):
        return int(value)
    return len(re.findall(r"0x[0-9a-fA-F]+", str(value or "")))


def dcgm_packages(cuda_version):
    """Packages of DCGM 4 for the driver's CUDA version; none where there are none for its major.

    Source: NVIDIA/DCGM#254 and the DCGM 4 guide: the core package and the one of the driver's CUDA major.
    """
    major = str(cuda_version or "").split(".")[0]
    names = ["datacenter-gpu-manager-4-core", f"datacenter-gpu-manager-4-cuda{major}"]
    return names if major in {"12", "13"} else []


# Judges: plain data in, findings out


class Judge:
    """Collects findings by the rows it is given. A sign without a row is told as a warning, never lost."""

    def __init__(self, signals, xids, vendor):
        self.rows = {row["key"]: row for row in signals if row.get("vendor", "any") in {"any", vendor}}
        self.xids = {int(row["number"]): row for row in xids}
        self.findings = []
        self.unread = []

    def limit(self, key):
        """The row's limit; None where it has none."""
        value = self.rows.get(key, {}).get("limit")
        return None if value in {None, "", "unknown"} else float(value)

    def add(self, key, place, found, limit="", **other):
        row = self.rows.get(key, {})
        finding = {
            "signal": key,
            "name": row.get("name", key),
            "place": place,
            "found": str(found),
            "limit": str(limit),
            "verdict": row.get("verdict", "warn"),
            "fix": row.get("fix", f"Add the sign {key} to the catalogue's table signals."),
            "source": row.get("source", ""),
        }
        finding.update(other)
        if finding["verdict"] != "ok" and finding not in self.findings:
            self.findings.append(finding)

    def above(self, key, place, value):
        """A finding where the value is above the row's limit; nothing where either is unknown."""
        limit = self.limit(key)
        if value is not None and limit is not None and value > limit:
            self.add(key, place, f"{value:g}", f"{limit:g}")

    def verdict(self):
        return max((f["verdict"] for f in self.findings), key=VERDICTS.index, default="ok")

    def sorted(self):
        return sorted(self.findings, key=lambda f: -VERDICTS.index(f["verdict"]))


def is_gpu(device, vendor, platform):
    known = [text.lower() for text in platform.get("pci_ids") or ()]
    return device["id"] in known or (device["id"][:4] == VENDOR_IDS.get(vendor) and device["class"] in GPU_CLASSES)


def judge_bus(judge, gpus, wanted):
    """`gpus`: devices of the bus."""
    for device in gpus:
        if device["off_bus"]:
            judge.add("gpu-off-bus", device["bdf"], "rev ff")
    if len(gpus) != wanted:
        judge.add("gpu-count", "PCI bus", f"{len(gpus)} GPUs: {', '.join(d['bdf'] for d in gpus) or 'none'}", wanted)


def judge_links(judge, links, platform, seen):
    """`links`: bdf → speed_gt_s, max_speed_gt_s, width (None = not told). `seen`: bdf → GPU of nvidia-smi."""
    width, speed = platform.get("pcie_width") or 0, platform.get("pcie_gt_s") or 0
    for bdf, link in sorted(links.items()):
        gpu = seen.get(bdf, {})
        name = place_of(bdf, gpu.get("index"))
        if link["width"] is None or link["speed_gt_s"] is None:
            judge.unread.append(f"{name}: PCIe link")
            continue
        if width and link["width"] < width:
            judge.add("pcie-width", name, f"x{link['width']:g}", f"x{width:g}")
        # An idle GPU lowers its own link: then what the link can do counts, not what it does.
        idle = not gpu.get("busy", False)
        best = max(link["speed_gt_s"], link["max_speed_gt_s"] or 0) if idle else link["speed_gt_s"]
        generation = gpu.get("max_generation")
        held_back = generation is not None and generation < PCIE_GENERATIONS.get(float(speed), 0)
        if speed and (best < speed or held_back):
            told = f"generation {generation:g}" if held_back else f"{best:g} GT/s"
            judge.add("pcie-speed", name, told, f"{speed:g} GT/s")
    for name, value in (("width", width), ("speed", speed)):
        if not value and links:
            judge.unread.append(f"PCIe {name}: the catalogue does not know what {platform.get('key') or 'it'} has")


def place_of(bdf, index=None):
    return bdf if index is None else f"GPU {index} ({bdf})"


def judge_gpu(judge, gpu):
    """One GPU of nvidia-smi: memory, recovery action, clocks."""
    place = place_of(gpu["bdf"], gpu["index"])
    for key, value in (("remap-pending", gpu["remap_pending"]), ("remap-failure", gpu["remap_failure"])):
        if value == "Yes":
            judge.add(key, place, "yes")
    judge.above("remap-uncorrected", place, gpu["remap_uncorrected"])
    for name in ("sram_uncorrected", "sram_corrected", "dram_corrected", "dram_uncorrected"):
        judge.above(name.replace("_", "-"), place, gpu["volatile"][name])
    life = [gpu["aggregate"][name] for name in ("sram_uncorrected", "dram_uncorrected")]
    judge.above("aggregate-uncorrected", place, sum(n or 0 for n in life) if any(n is not None for n in life) else None)
    asked = gpu["recovery"] or ("Reset" if gpu["reset_required"] else "None")
    judge_recovery(judge, place, asked, asked)
    for event in gpu["clocks"]:
        judge.add(CLOCK_EVENTS[event], place, "active")


def judge_fabric(judge, gpus, platform):
    """State of the NVLink fabric, where the platform has one that is managed."""
    if not (platform.get("needs_fabric_manager") or platform.get("needs_nvlsm") or platform.get("needs_imex")):
        return
    for gpu in gpus:
        place, fabric = place_of(gpu["bdf"], gpu["index"]), gpu["fabric"]
        state, status = fabric.get("state", ""), fabric.get("status", "")
        if not state:
            judge.unread.append(f"{place}: the driver tells no fabric state (GPUs before Hopper have none)")
            continue
        if state != "Completed" or status != "Success":
            judge.add("fabric-state", place, f"{state}, {status or 'no status'}", "Completed, Success")
        clique, cluster = fabric.get("cliqueid", ""), fabric.get("clusteruuid", "")
        if platform.get("needs_imex") and (clique in {"", "0"} or not cluster.strip("0-")):
            judge.add("fabric-clique", place, f"clique {clique or 'none'}, cluster {cluster or 'none'}", "both")
        for name, value in sorted(gpu["fabric_health"].items()):
            if value in {"Degraded", "Unhealthy"} or (name.startswith("route_unhealthy") and value == "True"):
                judge.add("fabric-health", place, f"{name}: {value}")
    cliques = {(g["fabric"].get("cliqueid"), g["fabric"].get("clusteruuid")) for g in gpus if g["fabric"].get("state")}
    if platform.get("needs_imex") and len(cliques) > 1:
        judge.add("fabric-clique", "node", f"{len(cliques)} different cliques", "one for all GPUs")


def judge_nvlink(judge, links, gpus, platform):
    """`links`: GPU index → speeds. Only where the platform has NVLink and its row knows how many."""
    count, speed = platform.get("nvlink_links") or 0, platform.get("nvlink_link_gb_s") or 0
    if not (platform.get("nvlink_expected") and count):
        return
    for gpu in gpus:
        active = [value for value in links.get(gpu["index"], ()) if value > 0]
        place = place_of(gpu["bdf"], gpu["index"])
        if len(active) < count:
            judge.add("nvlink-count", place, f"{len(active)} active", f"{count:g}")
        slow = [value for value in active if value < speed]
        if slow:
            judge.add("nvlink-speed", place, f"{len(slow)} links at {min(slow):g} GB/s", f"{speed:g} GB/s")


def judge_xids(judge, xids, seen):
    """`seen`: bdf → GPU of nvidia-smi. Of each Xid on each GPU the last one counts."""
    grouped = {}
    for xid in xids:
        grouped.setdefault((xid["bdf"], xid["number"]), []).append(xid)
    for (bdf, wanted), group in grouped.items():
        gpu = next((g for known, g in seen.items() if bdf and known.startswith(bdf)), None)
        place = place_of(gpu["bdf"], gpu["index"]) if gpu else bdf or "kernel log"
        message = group[-1]["message"]
        times = f" ({len(group)} times)" if len(group) > 1 else ""
        told = f"Xid {wanted}{times}" + (f": {message}" if message else "")
        row = judge.xids.get(wanted)
        if row is None:
            judge.add("xid-unknown", place, told)
        elif wanted == 154:
            # While the driver answers, its present word counts: the GPU may have been reset since.
            if not (gpu and gpu["recovery"]):
                judge_recovery(judge, place, message, told)
        else:
            action = row["action"]
            if action == "parse":  # NVLink 5: the message says whether the link is lost
                action = "reset_gpu" if re.search(r"\bFatal\b", message) else "restart_app"
            verdict, fix = XID_ACTIONS[action]
            name, source = row.get("name") or "", row.get("source") or ""
            judge.add("xid", place, told, name=name, verdict=verdict, fix=fix, source=source)


def judge_recovery(judge, place, text, told):
    """`text`: what names the recovery action. A number that is newer than this code asks for somebody to look."""
    action = recovery_number(text)
    if action is None or action not in RECOVERY:
        judge.unread.append(f"{place}: recovery action not known: {told}")
    elif RECOVERY[action]:
        judge.add(RECOVERY[action], place, told)


def judge_nics(judge, nics, wanted, flaps):
    """`nics`: cards that speak RDMA (hca, model, netdevs, link_layer, state, rate_gbit_s, width, max_width).

    Cards for storage are among them. A card that is ill is one of ours when it is of a model of those that are well.
    """
    count, rate = wanted.get("count") or 0, wanted.get("gbit_s") or 0
    if len(nics) < count:
        judge.add("nic-count", "PCI bus", f"{len(nics)}: {', '.join(n['hca'] for n in nics) or 'none'}", count)
    good = [nic for nic in nics if nic["state"] == "ACTIVE" and not (rate and (nic["rate_gbit_s"] or rate) < rate)]
    ours = {nic["model"] for nic in good}
    ill = [nic for nic in nics if nic not in good and (nic["model"] in ours or not ours)]
    for nic in ill if len(good) < count else ():
        if nic["state"] == "ACTIVE":
            judge.add("nic-rate", nic["hca"], f"{nic['rate_gbit_s']:g} Gbit/s", f"{rate:g} Gbit/s")
        else:
            judge.add("nic-link", nic["hca"], nic["state"] or "unknown", "ACTIVE")
    for nic in nics if count else ():
        if nic["width"] and nic["max_width"] and nic["width"] < nic["max_width"]:
            judge.add("nic-width", nic["hca"], f"x{nic['width']:g}", f"x{nic['max_width']:g}")
        for netdev in nic["netdevs"]:
            judge.above("link-flap", f"{nic['hca']} ({netdev})", flaps.get(netdev))


def judge_boots(judge, boots, unclean, now):
    """`unclean`: boots of the last two hours whose predecessor did not shut down."""
    judge.above("boots-a-day", "node", sum(boot["start"] > now - 86400 for boot in boots))
    judge.above("boot-unclean", "node", len(unclean))


def judge_services(judge, states):
    for name, state in states.items():
        if state != "active":
            judge.add("service-down", name, state or "unknown", "active")


def judge_amd(judge, metrics, bad_pages, bdfs):
    """`metrics`, `bad_pages`: rows of amd-smi. `bdfs`: index → bdf."""
    for row in metrics:
        counts = row.get("ecc") if isinstance(row.get("ecc"), dict) else {}
        place = place_of(bdfs.get(row["gpu"], "amd"), row["gpu"])
        judge.above("amd-uncorrected", place, number(str(counts.get("total_uncorrectable_count", ""))))
    for row in bad_pages:
        judge.above("amd-bad-pages", place_of(bdfs.get(row["gpu"], "amd"), row["gpu"]), pages(row.get("pending")))


# The node


class Node:
    """Reads one node into a judge. `root`: where its /sys lies."""

    def __init__(self, params, judge, root=SYS):
        self.params = params
        self.judge = judge
        self.sys = root
        self.vendor = params["vendor"]
        self.platform = params["platform"] or {}
        self.driver = {"version": "", "cuda": ""}
        self.seen = {}

    def command(self, argv, **environment):
        """stdout; empty where the program is not there or fails, which is then told."""
        try:
            code, out, err = run(argv, self.params["timeout_s"], environment)
        except Silent as error:
            self.judge.add("tool-silent", argv[0], error, f"{self.params['timeout_s']} s")
            return ""
        if code:
            self.judge.unread.append(f"`{' '.join(argv)}`: {last_words(err or out)}")
        return out if code == 0 else ""

    def look(self):
        devices = parse_bus(self.command(["lspci", "-Dnn"]))
        gpus = [device for device in devices if is_gpu(device, self.vendor, self.platform)]
        judge_bus(self.judge, gpus, self.params["gpus_per_node"])
        self.look_at_driver("nvidia" if self.vendor == "nvidia" else "amdgpu")
        if self.vendor == "nvidia":
            self.look_at_nvidia(gpus)
        else:
            self.look_at_amd(gpus)
        judge_links(self.judge, {gpu["bdf"]: self.link(gpu["bdf"]) for gpu in gpus}, self.platform, self.seen)
        self.look_at_nics()
        self.look_at_services()
        self.look_at_boots()

    def look_at_driver(self, module):
        if not os.path.isdir(f"{self.sys}/module/{module}"):
            self.judge.add("driver-missing", module, "not loaded", "loaded")
            return
        loaded = self.read(f"module/{module}/version")
        installed = self.command(["modinfo", "-F", "version", module]).strip()
        if loaded and installed and loaded != installed:
            self.judge.add("driver-mismatch", module, f"{loaded} loaded", f"{installed} installed")

    def look_at_nvidia(self, gpus):
        listed = self.smi(["nvidia-smi", "-q", "-x"])
        if listed is not None:
            self.driver = {"version": listed["driver"], "cuda": listed["cuda"]}
            self.seen = {gpu["bdf"]: gpu for gpu in listed["gpus"]}
            for device in gpus:
                if device["bdf"] not in self.seen and not device["off_bus"]:
                    self.judge.add("gpu-unseen", device["bdf"], "not shown by nvidia-smi")
            for gpu in listed["gpus"]:
                judge_gpu(self.judge, gpu)
            judge_fabric(self.judge, listed["gpus"], self.platform)
            if self.platform.get("nvlink_expected"):
                links = parse_nvlink(self.command(["nvidia-smi", "nvlink", "--status"]))
                if not self.platform.get("nvlink_links"):
                    self.judge.unread.append("NVLink: the catalogue does not know how many links the GPU has")
                elif links:
                    judge_nvlink(self.judge, links, listed["gpus"], self.platform)
        judge_xids(self.judge, parse_xids(self.kernel_log()), self.seen)

    def smi(self, argv):
        """nvidia-smi's answer; None, with a finding, when there is none to judge by."""
        try:
            code, out, err = run(argv, self.params["timeout_s"])
        except Silent as error:
            self.judge.add("tool-silent", argv[0], error, f"{self.params['timeout_s']} s")
            return None
        # A GPU that is lost makes the tool complain and fail, and may still leave the others in the output.
        if code:
            self.judge.add("tool-failed", argv[0], f"exit status {code}: {last_words(err or out)}")
        try:
            return parse_smi(out)
        except ValueError as error:
            if not code:
                self.judge.add("tool-failed", argv[0], error)
            return None

    def kernel_log(self):
        """The journal's kernel log since boot; the ring buffer where the journal has none."""
        since = self.params["xids_since"]
        window = ["--since", since] if since else ["--boot"]
        text = self.command(["journalctl", "--dmesg", "--no-pager", "--quiet", "--output=cat", *window])
        return text if "NVRM: Xid" in text or since else self.command(["dmesg"])

    def look_at_amd(self, gpus):
        rows = {}
        for name, argv in (("list", ["list"]), ("metric", ["metric", "--ecc"]), ("bad-pages", ["bad-pages"])):
            rows[name] = self.amd([*argv, "--json"])
        if rows["list"] is None:
            return
        bdfs = {row["gpu"]: short_bdf(str(row.get("bdf", ""))) for row in rows["list"]}
        for device in gpus:
            if device["bdf"] not in bdfs.values() and not device["off_bus"]:
                self.judge.add("gpu-unseen", device["bdf"], "not shown by amd-smi")
        self.seen = {bdf: {"index": index, "bdf": bdf} for index, bdf in bdfs.items()}
        judge_amd(self.judge, rows["metric"] or [], rows["bad-pages"] or [], bdfs)

    def amd(self, argv):
        try:
            code, out, err = run(["amd-smi", *argv], self.params["timeout_s"])
            if code:
                self.judge.add("tool-failed", "amd-smi", f"exit status {code}: {last_words(err or out)}")
                return None
            return parse_amd(out)
        except Silent as error:
            self.judge.add("tool-silent", "amd-smi", error, f"{self.params['timeout_s']} s")
        except ValueError as error:
            self.judge.add("tool-failed", "amd-smi", f"`amd-smi {' '.join(argv)}` is no JSON: {error}")
        return None

    def look_at_nics(self):
        wanted = self.params["nics"] or {}
        if not wanted.get("count"):
            return
        bridges = bridges_of(self.fact("aifactory_gpu"))
        nics = [self.nic(path) for path in sorted(glob.glob(f"{self.sys}/class/infiniband/*"))]
        hours = self.judge.limit("link-flap-window")
        flaps = {}
        if hours:
            since = ["--since", f"{int(hours * 60)} min ago"]
            flaps = parse_flaps(self.command(["journalctl", "--no-pager", "--quiet", "--output=cat", *since]))
        layer = {"infiniband": "InfiniBand", "roce": "Ethernet"}.get(wanted.get("kind"), "")
        cards = [nic for nic in nics if nic["hca"] not in bridges and layer in (nic["link_layer"] or layer)]
        judge_nics(self.judge, cards, wanted, flaps)

    def nic(self, path):
        device = os.path.realpath(f"{path}/device")
        state = self.text(f"{path}/ports/1/state")
        return {
            "hca": os.path.basename(path),
            "netdevs": sorted(os.path.basename(name) for name in glob.glob(f"{device}/net/*")),
            "model": self.text(f"{device}/vendor") + self.text(f"{device}/device"),
            "link_layer": self.text(f"{path}/ports/1/link_layer"),
            "state": state.partition(":")[2].strip() or state,
            "rate_gbit_s": number(self.text(f"{path}/ports/1/rate")),
            "width": number(self.text(f"{device}/current_link_width")),
            "max_width": number(self.text(f"{device}/max_link_width")),
        }

    def look_at_services(self):
        names = list(self.params["services"])
        if self.vendor == "nvidia":
            names.append("nvidia-persistenced.service")
        for flag, name in (
            ("needs_fabric_manager", "nvidia-fabricmanager.service"),
            ("needs_imex", "nvidia-imex.service"),
        ):
            if self.platform.get(flag) and name not in names:
                names.append(name)
        if not names:
            return
        try:  # its exit status only says that one of them does not run
            _code, out, _err = run(["systemctl", "is-active", *names], self.params["timeout_s"])
        except Silent as error:
            self.judge.unread.append(str(error))
            return
        judge_services(self.judge, dict(zip(names, out.split())))

    def look_at_boots(self):
        boots = parse_boots(self.command(["journalctl", "--list-boots", "--no-pager"], TZ="UTC"))
        now, unclean = int(time.time()), []
        for before, boot in zip(boots, boots[1:]):
            if boot["start"] > now - 7200:
                tail = self.command(["journalctl", "--boot", before["id"], "--lines=30", "--no-pager", "--output=cat"])
                if tail and not ended_well(tail):
                    unclean.append(boot)
        judge_boots(self.judge, boots, unclean, now)

    def link(self, bdf):
        base = f"bus/pci/devices/{bdf}"
        return {
            "speed_gt_s": number(self.read(f"{base}/current_link_speed")),
            "max_speed_gt_s": number(self.read(f"{base}/max_link_speed")),
            "width": number(self.read(f"{base}/current_link_width")),
        }

    def read(self, path):
        return self.text(f"{self.sys}/{path}")

    @staticmethod
    def text(path):
        try:
            with open(path, encoding="utf-8", errors="replace") as stream:
                return stream.read().strip()
        except OSError:
            return ""

    def fact(self, name):
        try:
            return json.loads(self.text(f"/etc/ansible/facts.d/{name}.fact") or "{}")
        except ValueError:
            return {}


def bridges_of(fact):
    """NVLink 5 bridge functions, as the layer gpu left them: not cards for traffic between nodes."""
    return {bridge.get("hca") for bridge in fact.get("bridges") or () if isinstance(bridge, dict)}


def last_words(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"


def sentence(verdict, findings, params):
    """One line for people: verdict, then what stands behind it, worst first."""
    if params["gpus_per_node"] == 0:
        return "ok: no GPUs"
    if not findings:
        return f"ok: {params['gpus_per_node']} GPUs, nothing found"
    worst = [f for f in findings if f["verdict"] == verdict]
    parts = []
    for finding in worst[:4]:
        limit = f" (wanted {finding['limit']})" if finding["limit"] else ""
        parts.append(f"{finding['place']}: {finding['name']}, found {finding['found']}{limit}")
    more = len(findings) - len(parts)
    tail = f"; {more} more" if more else ""
    return f"{verdict}: {'; '.join(parts)}{tail}. {worst[0]['fix']}"


def main():
    module = AnsibleModule(
        argument_spec={
            "gpus_per_node": {"type": "int", "default": 0},
            "vendor": {"type": "str", "choices": ["", "nvidia", "amd"], "default": ""},
            "platform": {"type": "dict", "default": {}},
            "nics": {"type": "dict", "default": {}},
            "signals": {"type": "list", "elements": "dict", "required": True},
            "xids": {"type": "list", "elements": "dict", "required": True},
            "xids_since": {"type": "str", "default": ""},
            "services": {"type": "list", "elements": "str", "default": []},
            "timeout_s": {"type": "int", "default": 20},
        },
        supports_check_mode=True,
    )
    params = module.params
    judge = Judge(params["signals"], params["xids"], params["vendor"])
    node = Node(params, judge)
    if params["gpus_per_node"]:
        node.look()
    verdict, findings = judge.verdict(), judge.sorted()
    module.exit_json(
        changed=False,
        verdict=verdict,
        findings=findings,
        unread=judge.unread,
        driver=node.driver,
        dcgm_packages=dcgm_packages(node.driver["cuda"]) if params["vendor"] == "nvidia" else [],
        msg=sentence(verdict, findings, params),
    )


if __name__ == "__main__":
    main()
