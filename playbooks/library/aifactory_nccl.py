#!/usr/bin/python
"""Turns the plan's NCCL settings and the cards that are really there into the text of /etc/nccl.conf, or refuses."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aifactory_nccl
short_description: Text of /etc/nccl.conf (RCCL C(/etc/rccl.conf)) from the plan and the node's real topology
description:
  - Reads RDMA devices, their PCIe paths and GID tables and the network interfaces from sysfs, tells the compute cards
    from storage, management and NVLink bridge cards, and writes one line a setting with its reason as a comment.
  - Reads only, never changes, and needs no tool on the node. Safe in check mode.
  - Compute cards are those of the fabric's link layer that are up at the promised rate. Are there more than promised,
    those that share a PCIe root port, else a root complex, with a GPU are taken; still not exactly as many = refused.
  - Fails with every problem at once. A card is named at most once, and a list that is not complete is not written.
options:
  node:
    description: Name of the node for messages.
    type: str
    default: ""
  fabric:
    description: Kind of the fabric.
    type: str
    choices: [tcp, infiniband, roce, efa]
    required: true
  count:
    description: Fabric ports promised; 0 = unknown, then compared with nothing.
    type: int
    default: 0
  gbit_s:
    description: Line rate promised of one port; 0 = unknown, then compared with nothing.
    type: float
    default: 0
  library:
    description: Library that reads the file.
    type: str
    choices: [nccl, rccl]
    default: nccl
  settings:
    description: Settings of the plan.
    type: list
    elements: dict
    default: []
    suboptions: &setting
      name: {description: Variable., type: str, required: true}
      value: {description: Value., type: str, required: true}
      reason: {description: Why; one line without an equals sign., type: str, required: true}
  environment:
    description: Settings that must be in a process's environment before it starts; handed through to RV(environment).
    type: list
    elements: dict
    default: []
    suboptions: *setting
  hca:
    description: V(discover) writes the exact list of compute cards.
    type: str
    choices: [discover, none]
    default: none
  socket:
    description: V(discover) takes the interface that holds O(address), else that of the default route; or a name.
    type: str
    default: discover
  address:
    description: Address by which other nodes reach this one.
    type: str
    default: ""
  topology:
    description: Why there is no topology file.
    type: str
    default: ""
  exclude_hcas:
    description: Cards that are never compute cards, whatever they look like.
    type: list
    elements: str
    default: []
  gpu_pci_ids:
    description: The GPUs, as C(vendor:device).
    type: list
    elements: str
    default: []
  needs_nvlsm:
    description: Whether the platform reaches its NVLink switches through ConnectX functions, to be found by their VPD.
    type: bool
    default: false
author: aifactory
"""

EXAMPLES = r"""
- name: Compute the file of NCCL
  aifactory_nccl:
    fabric: infiniband
    count: 8
    gbit_s: 400
    hca: discover
    settings:
      - {name: NCCL_NET, value: IB, reason: the library's own verbs transport or an error}
  register: __fabric_nccl
"""

RETURN = r"""
path:
  description: Where the library looks for the file.
  type: str
  returned: always
text:
  description: The file.
  type: str
  returned: success
cards:
  description: Compute cards in the order of their names; hca, bdf, netdev, vendor, driver, numa, rate_gbit_s, gids.
  type: list
  elements: dict
  returned: success
left_out:
  description: Other RDMA devices, name to reason.
  type: dict
  returned: success
names:
  description: RDMA devices that are named by the kernel in the order found, name to PCI address.
  type: dict
  returned: success
gid_index:
  description: RoCE v2 IPv4 index that is the same on every compute card; null elsewhere.
  type: int
  returned: success
socket:
  description: Interface for bootstrap and for TCP.
  type: str
  returned: success
environment:
  description: Variable to value, for whoever starts processes.
  type: dict
  returned: success
notes:
  description: What could not be compared, and why.
  type: list
  elements: str
  returned: success
"""

import fcntl
import glob
import os
import re
import socket
import struct

from ansible.module_utils.basic import AnsibleModule

PATHS = {"nccl": "/etc/nccl.conf", "rccl": "/etc/rccl.conf"}
"""Each library reads its own name (src/misc/param.cc of NVIDIA/nccl and of ROCm/rccl)."""

VALUE_MAX = 1023
"""Characters that both keep of a value; a longer one is cut without a word."""

LINK_LAYERS = {"infiniband": "InfiniBand", "roce": "Ethernet"}
EFA_VENDOR = "0x1d0f"
EFA_OLD_RATE = 100.0
"""Drivers that do not ask the card report this whatever the card can."""

BRIDGE_MARK = b"SW_MNG"
VPD_BYTES = 4096
SIOCGIFADDR = 0x8915

SETTING = {
    "name": {"type": "str", "required": True},
    "value": {"type": "str", "required": True},
    "reason": {"type": "str", "required": True},
}
OPTIONS = {
    "node": {"type": "str", "default": ""},
    "fabric": {"type": "str", "choices": ["tcp", "infiniband", "roce", "efa"], "required": True},
    "count": {"type": "int", "default": 0},
    "gbit_s": {"type": "float", "default": 0},
    "library": {"type": "str", "choices": ["nccl", "rccl"], "default": "nccl"},
    "settings": {"type": "list", "elements": "dict", "default": [], "options": SETTING},
    "environment": {"type": "list", "elements": "dict", "default": [], "options": SETTING},
    "hca": {"type": "str", "choices": ["discover", "none"], "default": "none"},
    "socket": {"type": "str", "default": "discover"},
    "address": {"type": "str", "default": ""},
    "topology": {"type": "str", "default": ""},
    "exclude_hcas": {"type": "list", "elements": "str", "default": []},
    "gpu_pci_ids": {"type": "list", "elements": "str", "default": []},
    "needs_nvlsm": {"type": "bool", "default": False},
}


def main():
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    asked = module.params
    result = compose(
        asked, read_hcas("/sys", asked["needs_nvlsm"]), read_gpus("/sys", asked["gpu_pci_ids"]), read_netdevs("/")
    )
    problems = result.pop("problems")
    if problems:
        module.fail_json(msg=say(asked["node"], problems), problems=problems, path=PATHS[asked["library"]])
    module.exit_json(changed=False, msg="; ".join(result["notes"]), **result)


# What to write


def compose(asked, hcas, gpus, netdevs):
    """Everything the module returns, and `problems`; with any of them nothing is to be written."""
    chosen, left_out, notes, problems = choose(asked, hcas, gpus)
    index = None
    if asked["fabric"] == "roce" and chosen:
        index = gid_index(chosen, problems)
    interface = socket_interface(asked, netdevs, problems)
    lines = {s["name"]: (s["value"], s["reason"]) for s in asked["settings"]}
    if len(lines) != len(asked["settings"]):
        problems.append(problem("SETTING", "settings", "a variable twice", "each once", "mend the region's plan"))
    if asked["hca"] == "discover":
        names = ",".join(card["hca"] for card in chosen)
        lines["NCCL_IB_HCA"] = ("=" + names, hca_reason(chosen, left_out))
    if index is not None:
        lines["NCCL_IB_GID_INDEX"] = (str(index), "RoCE v2 over IPv4, the same place in the table of every card")
    lines["NCCL_SOCKET_IFNAME"] = ("=" + interface, socket_reason(asked))
    problems.extend(bad_lines(lines))
    return {
        "path": PATHS[asked["library"]],
        "text": text(asked, lines),
        "cards": [{key: card[key] for key in CARD_KEYS} for card in chosen],
        "left_out": left_out,
        "names": {h["hca"]: h["bdf"] for h in hcas if not h["virtual_function"] and h["vendor"] != EFA_VENDOR},
        "gid_index": index,
        "socket": interface,
        "environment": {s["name"]: s["value"] for s in asked["environment"]},
        "notes": notes,
        "problems": problems,
    }


CARD_KEYS = ("hca", "bdf", "netdev", "vendor", "driver", "numa", "rate_gbit_s", "gids")


def text(asked, lines):
    """The file: what is not set stays the library's own choice. Comments hold no equals sign, see `bad_lines`."""
    head = [
        "# Managed by aifactory (playbooks/library/aifactory_nccl.py); changes are overwritten.",
        "# Cards and interfaces are those of this node. What is not set here is the library's own choice.",
    ]
    if asked["topology"]:
        head.append("# No topology file: " + asked["topology"] + ".")
    body = []
    for name in sorted(lines):
        value, reason = lines[name]
        body += ["", "# " + reason, name + "=" + value]
    return "\n".join(head + body) + "\n"


def bad_lines(lines):
    """Older readers take every line with an equals sign for a setting, comments too, and all cut long values."""
    for name, (value, reason) in lines.items():
        if "=" in reason or "\n" in reason + value or not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
            yield problem("SETTING", name, "a line that the library would misread", "one plain line", "mend the plan")
        if len(value) > VALUE_MAX:
            wanted = f"at most {VALUE_MAX}"
            yield problem("SETTING", name, f"{len(value)} characters", wanted, "shorten the names of the cards")


def hca_reason(chosen, left_out):
    rates = "/".join(f"{rate:g}" for rate in sorted({card["rate_gbit_s"] for card in chosen}))
    words = f"exactly the {len(chosen)} compute cards of this node, {rates} Gbit/s each"
    return words + "; left out: " + "; ".join(grouped(left_out)) if left_out else words


def grouped(left_out):
    """`mlx5_0, mlx5_1 (why)` for each reason, in the order of the first card of each."""
    reasons = {}
    for name in sorted(left_out, key=natural):
        reasons.setdefault(left_out[name], []).append(name)
    return [f"{join(names)} ({why})" for why, names in reasons.items()]


def socket_reason(asked):
    use = "data and bootstrap" if asked["fabric"] == "tcp" else "bootstrap only"
    if asked["socket"] != "discover":
        return use + ", as asked"
    return use + ", over the interface by which other nodes reach this one"


# Which cards


def choose(asked, hcas, gpus):
    """(compute cards in natural order, others with the reason, notes, problems)."""
    left_out, notes, problems, rest = {}, [], [], []
    for name in sorted({h["hca"] for h in hcas if sum(o["hca"] == h["hca"] for o in hcas) > 1}, key=natural):
        problems.append(problem("HCA-TWICE", name, "two devices of one name", "one", "look at the udev rules"))
    if asked["fabric"] == "tcp":
        return [], {}, [], problems
    for card in sorted(hcas, key=lambda h: natural(h["hca"])):
        why = not_compute(asked, card)
        if why:
            left_out[card["hca"]] = why
        elif card["hca"] not in [other["hca"] for other in rest]:
            rest.append(card)
    near = {card["hca"]: nearness(card, gpus) for card in rest}
    fit = [card for card in rest if is_up(card) and rate_is_met(asked, card)]
    chosen = pick(asked, rest, fit, near, (notes, problems))
    for card in rest:
        if card not in chosen:
            left_out[card["hca"]] = rest_reason(asked, card)
    if asked["fabric"] == "efa" and any(c["rate_gbit_s"] == EFA_OLD_RATE < asked["gbit_s"] for c in chosen):
        notes.append("the efa driver reports 100 Gbit/s whatever the card can: the rate was compared with nothing")
    problems.extend(link_problems(chosen))
    return chosen, left_out, notes, problems


def not_compute(asked, card):
    """Why a card is no compute card, empty when it may be one."""
    if card["bridge"]:
        return "bridge to the NVLink switches"
    if card["hca"] in asked["exclude_hcas"]:
        return "excluded by fabric.exclude_hcas"
    if card["virtual_function"]:
        return "virtual function"
    if asked["fabric"] == "efa":
        return "" if card["vendor"] == EFA_VENDOR else "no EFA card"
    if card["vendor"] == EFA_VENDOR:
        return "EFA card"
    wanted = LINK_LAYERS[asked["fabric"]]
    return "" if card["link_layer"] == wanted else "link layer " + (card["link_layer"] or "unknown")


def rest_reason(asked, card):
    if not is_up(card):
        return "not up"
    if not rate_is_met(asked, card):
        return f"{card['rate_gbit_s']:g} Gbit/s"
    return "no GPU beside it"


def is_up(card):
    return card["state"] == "ACTIVE"


def rate_is_met(asked, card):
    if asked["fabric"] == "efa" and card["rate_gbit_s"] == EFA_OLD_RATE:
        return True
    return card["rate_gbit_s"] >= asked["gbit_s"]


def nearness(card, gpus):
    """2: shares a PCIe root port with a GPU, 1: a root complex, 0: neither, None: not known."""
    known = [gpu["path"] for gpu in gpus if gpu["path"]]
    if not card["path"] or not known:
        return None
    if any(card["path"][:2] == path[:2] and len(path) > 1 for path in known):
        return 2
    return 1 if any(card["path"][0] == path[0] for path in known) else 0


def pick(asked, rest, fit, near, told):
    """As many of `fit` as are promised; what cannot be told goes to `told`, a pair of notes and problems."""
    notes, problems = told
    count = asked["count"]
    if not count:
        return pick_without_promise(fit, near, told)
    if len(fit) < count:
        problems.extend(too_few(asked, rest, fit, near))
        return fit
    if len(fit) > count:
        for level in (2, 1):
            beside = [card for card in fit if (near[card["hca"]] or 0) >= level]
            if len(beside) == count:
                notes.append(f"{len(fit)} cards fit, {count} are promised: those nearest to the GPUs")
                fit = beside
                break
        else:
            problems.append(ambiguous(asked, fit, near))
            return fit
    strangers = [card["hca"] for card in fit if near[card["hca"]] == 0]
    beside = [card["hca"] for card in rest if card not in fit and near[card["hca"]] == 2]
    if strangers and beside:
        found = f"no GPU beside {join(strangers)}, but beside {join(beside)}, which is not up at its rate"
        fix = f"mend {join(beside)}, or name what is no compute card in fabric.exclude_hcas"
        problems.append(problem("HCA-AMBIGUOUS", "cards", found, "the cards beside the GPUs", fix))
    return fit


def pick_without_promise(fit, near, told):
    notes, problems = told
    notes.append("the catalogue does not know how many fabric ports this shape has: compared with nothing")
    beside = [card for card in fit if near[card["hca"]] == 2]
    if beside:
        return beside
    rates = {card["rate_gbit_s"] for card in fit}
    if len(rates) > 1:
        found = join(f"{card['hca']} {card['rate_gbit_s']:g} Gbit/s" for card in fit)
        fix = "name those that are no compute cards in fabric.exclude_hcas"
        problems.append(problem("HCA-AMBIGUOUS", "cards", found, "cards of one rate", fix))
    if not fit:
        problems.append(problem("NIC-COUNT", "cards", "none up", "at least one", "look at cables and drivers"))
    return fit


def too_few(asked, rest, fit, near):
    """What is missing, and each card that could be it."""
    wanted = f"{asked['count']} at {asked['gbit_s']:g} Gbit/s"
    fix = "look for a card that is not there with lspci, and at the cards named beside this"
    yield problem("NIC-COUNT", "cards", f"{len(fit)} up at their rate", wanted, fix)
    suspects = [card for card in rest if card not in fit]
    if any(near[card["hca"]] == 2 for card in suspects):
        suspects = [card for card in suspects if near[card["hca"]] in (2, None)]
    down = [card["hca"] for card in suspects if not is_up(card)]
    if down:
        states = ", ".join(sorted({card["state"] for card in suspects if not is_up(card)}))
        yield problem("NIC-DOWN", join(down), states, "ACTIVE", "look at cable, switch port and subnet manager")
    for card in suspects:
        if is_up(card):
            found, wanted = f"{card['rate_gbit_s']:g} Gbit/s", f"{asked['gbit_s']:g} Gbit/s"
            fix = "look at cable, transceiver and switch port"
            yield problem("NIC-RATE", card["hca"], found, wanted, fix)


def ambiguous(asked, fit, near):
    words = {2: "beside a GPU", 1: "on a GPU's root complex", 0: "no GPU beside it", None: "place unknown"}
    found = f"{len(fit)}: " + join(f"{card['hca']} ({words[near[card['hca']]]})" for card in fit)
    fix = "name those that are no compute cards in fabric.exclude_hcas"
    return problem("HCA-AMBIGUOUS", "cards", found, str(asked["count"]), fix)


def link_problems(chosen):
    """Cards whose PCIe link is slower or narrower than the card can."""
    for card in chosen:
        link, most = (card["speed_gt_s"], card["width"]), (card["max_speed_gt_s"], card["max_width"])
        if all(link) and all(most) and (link[0] < most[0] or link[1] < most[1]):
            fix = "reseat the card or look at the slot and the riser"
            found, wanted = f"{link[0]:g} GT/s x{link[1]}", f"{most[0]:g} GT/s x{most[1]}"
            yield problem("NIC-LINK", card["hca"], found, wanted, fix)


# GID index and socket interface


def gid_index(cards, problems):
    """The index that holds a RoCE v2 address of IPv4 on every card; None with the problem said."""
    tables = {card["hca"]: v2_indexes(card["gids"]) for card in cards}
    without = [name for name in tables if not tables[name]]
    if without:
        devices = join(card["netdev"] or card["hca"] for card in cards if card["hca"] in without)
        fix = f"give {devices} an IPv4 address on the rail's network"
        problems.append(problem("GID-NONE", join(without), "no RoCE v2 address of IPv4", "one a card", fix))
        return None
    common = set.intersection(*(set(indexes) for indexes in tables.values()))
    if not common:
        found = join(f"{name} {'/'.join(map(str, tables[name]))}" for name in tables)
        fix = "give every rail interface the same kind and number of addresses, set in the same order"
        problems.append(problem("GID-DIFFERS", "GID tables", found, "one index on all cards", fix))
        return None
    return min(common)


def v2_indexes(gids):
    return sorted(gid["index"] for gid in gids if gid["type"] == "RoCE v2" and is_ipv4(gid["gid"]))


def is_ipv4(gid):
    """A mapped IPv4 address, ten zero bytes and ffff before it, and not 0.0.0.0."""
    digits = gid.replace(":", "")
    return digits[:24] == "0" * 20 + "ffff" and digits[24:] not in ("", "00000000")


def socket_interface(asked, netdevs, problems):
    names = [device["name"] for device in netdevs]
    if asked["socket"] != "discover":
        if asked["socket"] not in names:
            fix = "correct fabric.nccl.socket"
            problems.append(problem("SOCKET-NONE", asked["socket"], "not there", "one of " + join(names), fix))
        return asked["socket"]
    for device in netdevs:
        if asked["address"] and asked["address"] in device["addresses"]:
            return device["name"]
    for device in netdevs:
        if device["default_route"] and not asked["address"]:
            return device["name"]
    fix = "give the interface its address, or name it in fabric.nccl.socket"
    wanted = "an interface with " + (asked["address"] or "the default route")
    problems.append(problem("SOCKET-NONE", "interfaces", join(names) or "none", wanted, fix))
    return ""


# Problems


def problem(check, place, found, wanted, fix):
    return {"check": check, "place": place, "found": found, "wanted": wanted, "fix": fix}


def say(node, problems):
    """One line a problem; the node first."""
    lines = [f"{p['check']} {p['place']}: {p['found']}, wanted {p['wanted']}; {p['fix']}" for p in problems]
    return (node + ": " if node else "") + "\n".join(lines)


def join(names):
    return ", ".join(names)


def natural(name):
    """Sort key under which mlx5_10 comes after mlx5_9."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


# The node


def read_hcas(sys_root, needs_nvlsm=False):
    found = []
    for folder in sorted(glob.glob(os.path.join(sys_root, "class/infiniband/*"))):
        device = os.path.join(folder, "device")
        port = os.path.join(folder, "ports/1")
        bdf, path = place(device)
        gids = list(read_gids(port))
        netdevs = sorted(os.listdir(os.path.join(device, "net"))) if os.path.isdir(os.path.join(device, "net")) else []
        speed, width, max_speed, max_width = read_link(device)
        found.append(
            {
                "hca": os.path.basename(folder),
                "bdf": bdf,
                "path": path,
                "vendor": word(device, "vendor"),
                "driver": os.path.basename(os.path.realpath(os.path.join(device, "driver"))),
                "numa": number(word(device, "numa_node"), -1),
                "rate_gbit_s": number(word(port, "rate").split(" ")[0], 0.0),
                "state": word(port, "state").rpartition(" ")[2].upper(),
                "link_layer": word(port, "link_layer"),
                "netdev": (netdevs or [gid["netdev"] for gid in gids if gid["netdev"]] or [""])[0],
                "gids": gids,
                "speed_gt_s": speed,
                "width": width,
                "max_speed_gt_s": max_speed,
                "max_width": max_width,
                "virtual_function": os.path.exists(os.path.join(device, "physfn")),
                "bridge": needs_nvlsm and has_mark(os.path.join(device, "vpd")),
            }
        )
    return found


def read_gids(port):
    """Filled entries only: the kernel answers EINVAL for the type of an empty one."""
    for file in sorted(glob.glob(os.path.join(port, "gids/*")), key=natural):
        index = os.path.basename(file)
        gid, kind = word(port, "gids/" + index), word(port, "gid_attrs/types/" + index)
        if index.isdigit() and gid.strip("0:") and kind:
            yield {"index": int(index), "gid": gid, "type": kind, "netdev": word(port, "gid_attrs/ndevs/" + index)}


def read_link(device):
    def speed(name):
        return number(word(device, name).split(" ")[0], 0.0)

    def width(name):
        lanes = number(word(device, name), 0)
        return lanes if 0 < lanes < 255 else 0  # 255: the kernel does not know

    return (
        speed("current_link_speed"),
        width("current_link_width"),
        speed("max_link_speed"),
        width("max_link_width"),
    )


def read_gpus(sys_root, pci_ids):
    found = []
    for device in sorted(glob.glob(os.path.join(sys_root, "bus/pci/devices/*"))):
        identity = word(device, "vendor")[2:] + ":" + word(device, "device")[2:]
        if identity in pci_ids:
            bdf, path = place(device)
            found.append({"bdf": bdf, "path": path, "numa": number(word(device, "numa_node"), -1)})
    return found


def place(device):
    """(PCI address, bridges above it with the root complex first); the path is empty where sysfs shows none."""
    parts = os.path.realpath(device).split("/")
    roots = [i for i, part in enumerate(parts) if re.fullmatch(r"pci[0-9a-f]{4,}:[0-9a-f]{2}", part)]
    return parts[-1], parts[roots[-1] : -1] if roots else []


def read_netdevs(root):
    """Interfaces with their IPv4 and IPv6 addresses, without loopback."""
    six = read_ipv6(os.path.join(root, "proc/net/if_inet6"))
    default = read_default_routes(os.path.join(root, "proc/net/route"))
    found = []
    for folder in sorted(glob.glob(os.path.join(root, "sys/class/net/*"))):
        name = os.path.basename(folder)
        if name != "lo" and os.path.isdir(folder):
            addresses = [a for a in [ipv4(name)] if a] + six.get(name, [])
            found.append({"name": name, "addresses": addresses, "default_route": name in default})
    return found


def ipv4(name):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
        except OSError:
            return ""
    return socket.inet_ntoa(answer[20:24])


def read_ipv6(file):
    found = {}
    for line in content(file).decode().splitlines():
        fields = line.split()
        if len(fields) == 6:
            address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[0]))
            found.setdefault(fields[5], []).append(address)
    return found


def read_default_routes(file):
    rows = [line.split() for line in content(file).decode().splitlines()[1:]]
    return [row[0] for row in rows if len(row) > 7 and row[1] == "00000000" and row[7] == "00000000"]


def has_mark(vpd):
    return BRIDGE_MARK in content(vpd, VPD_BYTES)


def word(*parts):
    return content(os.path.join(*parts)).decode("utf-8", "replace").strip("\0 \n\t")


def content(file, most=65536):
    try:
        with open(file, "rb") as stream:
            return stream.read(most)
    except OSError:
        return b""


def number(text, otherwise):
    try:
        return type(otherwise)(text)
    except ValueError:
        return otherwise


if __name__ == "__main__":
    main()
