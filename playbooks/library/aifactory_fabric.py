#!/usr/bin/python
"""Brings the fabric's stack and cards to what the region asks for, reads it back, and says what files keep it so."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aifactory_fabric
short_description: Kernel modules, EFA installer, RoCE classes and rail settings of the fabric's cards
description:
  - Without O(cards) it has the kernel modules of O(kind) loaded and, with O(installer), the EFA stack of that version
    installed from an archive whose SHA-256 is given. Nothing is ever run that was not checked.
  - With O(dkms) it has those of them that DKMS knows built for the kernel that boots next, headers included; a package
    builds for the kernel that runs, and for none where there are no headers, without a word.
  - With O(cards) it sets trust, priority flow control, congestion notices, the traffic class and the rails' address
    rules, each only where it differs, and reads each back; what did not take is a failure.
  - RV(files) are all files that keep the node so (limits, modules, names, rails, boot unit), for M(aifactory_files).
  - Decides by what the node has, never by what an earlier task did. Check mode is exact.
options:
  node:
    description: Name of the node for messages.
    type: str
    default: ""
  kind:
    description: Kind of the fabric.
    type: str
    choices: [tcp, infiniband, roce, efa]
    required: true
  installer:
    description: EFA installer.
    type: dict
    suboptions:
      version: {description: Version wanted., type: str, required: true}
      url: {description: Folder of the archives., type: str, required: true}
      sha256: {description: "SHA-256 of C(aws-efa-installer-<version>.tar.gz), 64 hex digits.", type: str, default: ""}
  dkms:
    description: Names under which DKMS may know the stack's modules; what it does not know came built.
    type: list
    elements: str
    default: []
  image:
    description: Whether this is an image build, in which nothing is loaded.
    type: bool
    default: false
  cards:
    description: Compute cards as M(aifactory_nccl) returns them.
    type: list
    elements: dict
  names:
    description: Every RDMA device, name to PCI address, whose name is to stay.
    type: dict
    default: {}
  roce:
    description:
      - Values of the RoCE cards; V(dscp) of the data, V(traffic_class) the byte that carries it, V(cnp_dscp) of
        congestion notices, V(priority) the lossless one, V(rp_filter), V(arp_ignore), V(arp_announce) of each rail. All
        of them, whole numbers.
    type: dict
    default: {}
author: aifactory
"""

EXAMPLES = r"""
- name: Have the kernel modules
  aifactory_fabric:
    kind: infiniband
- name: Set the cards
  aifactory_fabric:
    kind: roce
    cards: "{{ __fabric_nccl.cards }}"
    roce: "{{ fabric.roce }}"
  register: __fabric_cards
"""

RETURN = r"""
changes:
  description: What was (or in check mode would be) changed, a line each.
  type: list
  elements: str
  returned: always
files:
  description: Files for M(aifactory_files).
  type: list
  elements: dict
  returned: with cards
notes:
  description: What could not be set or compared on this node, and why.
  type: list
  elements: str
  returned: always
"""

import glob
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request

from ansible.module_utils import aifactory_restart as restart
from ansible.module_utils import aifactory_vendor as vendor
from ansible.module_utils.basic import AnsibleModule

MODULES = {
    "tcp": (),
    "infiniband": ("mlx5_ib", "ib_uverbs", "ib_umad", "rdma_ucm"),
    "roce": ("ib_uverbs", "rdma_ucm"),
    "efa": ("efa", "ib_uverbs"),
}
"""ib_umad: subnet manager queries and NVLSM. RoCE cards are of several makers: udev loads their own drivers."""

MELLANOX = "0x15b3"
MANAGED = "# Managed by aifactory (playbooks/library/aifactory_fabric.py); changes are overwritten."
EFA_VERSION_FILE = "/opt/amazon/efa_installed_packages"
UNIT = "aifactory-roce.service"
PRIORITIES = range(8)
RUNTIMES = ("docker", "containerd", "podman")
DAEMONS = ("dockerd", "containerd")
CAP_SYS_RESOURCE = 24

TOOL_S = 20
DOWNLOAD_S = 300
INSTALLER_S = 1800
BUILD_S = 3600

ROCE_KEYS = ("dscp", "priority", "cnp_dscp", "traffic_class", "rp_filter", "arp_ignore", "arp_announce")
RAIL_KEYS = ("arp_announce", "arp_ignore", "rp_filter")
OPTIONS = {
    "node": {"type": "str", "default": ""},
    "kind": {"type": "str", "choices": ["tcp", "infiniband", "roce", "efa"], "required": True},
    "installer": {
        "type": "dict",
        "options": {
            "version": {"type": "str", "required": True},
            "url": {"type": "str", "required": True},
            "sha256": {"type": "str", "default": ""},
        },
    },
    "dkms": {"type": "list", "elements": "str", "default": []},
    "image": {"type": "bool", "default": False},
    "cards": {"type": "list", "elements": "dict"},
    "names": {"type": "dict", "default": {}},
    "roce": {"type": "dict", "default": {}},
}


def main():
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    asked = module.params
    node = Node("/", run_tool, module.check_mode)
    result = {"changed": False}
    if asked["cards"] is None:
        build_modules(node, asked["dkms"])
        if not asked["image"]:
            load_modules(node, asked["kind"])
        if asked["installer"] and not asked["image"]:
            install_efa(node, asked["installer"], download)
    else:
        problem = roce_problem(asked["kind"], asked["roce"])
        if problem:
            module.fail_json(msg=said(asked["node"], [problem]))
        if asked["kind"] == "roce":
            set_roce(node, asked["cards"], asked["roce"])
            set_rails(node, asked["cards"], asked["roce"])
        if asked["kind"] != "tcp":
            check_daemons(node)
        result["files"] = files(asked, asked["kind"] != "tcp" and may_raise_limits(node))
    if node.problems:
        module.fail_json(msg=said(asked["node"], node.problems), problems=node.problems, changes=node.changes)
    diff = {"before": "", "after": "".join(f"{line}\n" for line in node.changes)} if node.changes else {}
    result.update(changed=bool(node.changes), changes=node.changes, notes=node.notes, diff=diff)
    module.exit_json(msg="; ".join(node.notes), **result)


def said(name, problems):
    return (name + ": " if name else "") + "\n".join(problems)


class Node:
    """Files and tools below a root, and what was found out; writes nothing in check mode."""

    def __init__(self, root, run, check):
        self.root, self.run, self.check = root, run, check
        self.changes, self.notes, self.problems = [], [], []

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def read(self, *parts):
        """Stripped text, None where there is no such file."""
        try:
            with open(self.path(*parts), errors="replace") as stream:
                return stream.read().strip()
        except OSError:
            return None

    def have(self, what, found, wanted, put, again):
        """Has one value set and read back. `put` sets it, `again` reads it."""
        if found == wanted:
            return
        self.changes.append(f"{what}: {found} -> {wanted}")
        if self.check:
            return
        failed = put()
        after = again()
        if after != wanted:
            self.problems.append(
                f"ROCE-READBACK {what}: {after} after setting {wanted}{': ' if failed else ''}{failed}"
            )

    def have_file(self, what, wanted, *parts):
        """A value of sysfs or /proc; True when the file is there."""
        found = self.read(*parts)
        if found is None:
            return False

        def put():
            try:
                with open(self.path(*parts), "w") as stream:
                    stream.write(wanted + "\n")
            except OSError as error:
                return str(error.strerror)
            return ""

        self.have(what, found, wanted, put, lambda: self.read(*parts))
        return True


def run_tool(command, timeout_s=TOOL_S):
    """(exit code, output and errors); a command that hangs is ended and says so."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout_s, check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8"}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 124, f"`{' '.join(command)}` did not answer within {timeout_s} s"
    except OSError as error:
        return 127, f"`{command[0]}`: {error.strerror}"
    return done.returncode, done.stdout.decode("utf-8", "replace")


def last_words(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-3:])[:300] or "no message"


# Kernel modules and the EFA installer


def build_modules(node, names):
    """Has what DKMS knows of `names` built for the kernel that boots next."""
    kernel = boot_kernel(node)
    lacking = [name for name, state in dkms_states(node, names, kernel).items() if state != "installed"]
    if not lacking:
        return
    node.changes.append(f"{', '.join(lacking)} built for kernel {kernel}")
    if node.check:
        return
    failed = have_headers(node, kernel)
    if not failed:
        code, out = node.run(["dkms", "autoinstall", "-k", kernel], BUILD_S)
        failed = vendor.last_words(out, "") if code else ""
    left = [name for name, state in dkms_states(node, lacking, kernel).items() if state != "installed"]
    if left:
        node.problems.append(
            f"DKMS {', '.join(left)}: not built for kernel {kernel}, so the distribution's own modules would drive the "
            f"cards: {failed or 'see /var/lib/dkms and its make.log'}"
        )


def boot_kernel(node):
    def run(command, timeout_s):
        return (*node.run(command, timeout_s), "")

    return restart.boot_kernel(run, node.root) or restart.running_kernel(run)


def dkms_states(node, names, kernel):
    """Name → its state for that kernel (installed, built, added, or none), of those that DKMS knows."""
    code, out = node.run(["dkms", "status"]) if names else (0, "")
    found = {}
    for line in out.splitlines() if code == 0 else ():
        match = re.match(r"([\w-]+)(?:/|, ?)[^,:]+(?:, ?([^,: ]+), ?[^:,]+)?: ?(\w+)", line)
        if match and match.group(1) in names:
            state = match.group(3) if match.group(2) == kernel else "none"
            if found.get(match.group(1)) != "installed":
                found[match.group(1)] = state
    return found


def have_headers(node, kernel):
    """Empty, or why the headers of that kernel could not be installed."""
    if os.path.exists(node.path("lib/modules", kernel, "build")):
        return ""
    if shutil.which("apt-get"):
        tool, package = vendor.APT, f"linux-headers-{kernel}"
    else:
        tool, package = vendor.DNF, f"kernel-devel-{kernel}"
    code, out = node.run([*tool, "install", package], INSTALLER_S)
    if code and tool is vendor.APT:  # the lists may be older than the kernel
        node.run([*tool, "update"], INSTALLER_S)
        code, out = node.run([*tool, "install", package], INSTALLER_S)
    return f"{package}: {vendor.last_words(out, '')}" if code else ""


def load_modules(node, kind):
    missing = [name for name in MODULES[kind] if not is_loaded(node, name)]
    for name in missing:
        node.changes.append(f"module {name} loaded")
        if not node.check:
            code, out = node.run(["modprobe", name])
            if code or not is_loaded(node, name):
                node.problems.append(
                    f"MODULE {name}: {last_words(out)}; install the kernel's extra modules (on Ubuntu the package "
                    "linux-modules-extra of the running kernel) or the stack that brings it"
                )


def is_loaded(node, name):
    """Loaded, or part of the kernel itself (which shows up in sysfs only where it has parameters)."""
    if os.path.isdir(node.path("sys/module", name)):
        return True
    built_in = node.read("lib/modules", os.uname().release, "modules.builtin") or ""
    return any(re.sub("-", "_", line).endswith(f"/{name}.ko") for line in built_in.splitlines())


def efa_version(node):
    """Version that the installer left in its list, empty without one."""
    match = re.search(r"EFA installer version:\s*(\S+)", node.read(EFA_VERSION_FILE.lstrip("/")) or "")
    return match.group(1) if match else ""


def install_efa(node, installer, fetch):
    version, found = installer["version"], efa_version(node)
    if found == version:
        return
    archive = f"aws-efa-installer-{version}.tar.gz"
    address = installer["url"].rstrip("/") + "/" + archive
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        node.problems.append(
            f"EFA-VERSION {version or 'none'}: give fabric.stack_version a full version such as 1.48.0"
        )
        return
    if not re.match(r"https?://", address):
        node.problems.append(f"EFA-URL {address}: not an address of the web; correct fabric.repository.url")
        return
    if not re.fullmatch(r"[0-9a-f]{64}", installer["sha256"]):
        node.problems.append(
            f"EFA-HASH {archive}: no SHA-256 is known, so it is not run. Download {address} on a machine you trust, "
            f"check its signature ({archive}.sig, AWS's EFA key), and give the archive's `sha256sum` as "
            "fabric.stack_sha256"
        )
        return
    node.changes.append(f"EFA stack: {found or 'none'} -> {version}")
    if node.check:
        return
    folder = tempfile.mkdtemp(prefix="aifactory-efa-", dir=node.path("var/tmp"))
    try:
        file = os.path.join(folder, archive)
        failed = fetch(address, file)
        if not failed:
            failed = run_installer(node, installer, file, folder)
        if failed:
            node.problems.append(f"EFA-INSTALL {archive}: {failed}")
        elif efa_version(node) != version:
            node.problems.append(f"EFA-INSTALL {archive}: it ended well and {EFA_VERSION_FILE} does not say {version}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_installer(node, installer, file, folder):
    """Empty when the archive is the one wanted and its installer ended well, else why not."""
    with open(file, "rb") as stream:
        digest = hashlib.sha256(stream.read()).hexdigest()
    if digest != installer["sha256"]:
        return f"its SHA-256 is {digest}, wanted {installer['sha256']}; nothing was run"
    with tarfile.open(file) as tar:
        inside = [member for member in tar.getmembers() if is_inside(member)]
        tar.extractall(folder, members=inside)  # noqa: S202  the archive is the one that was pinned
    code, out = node.run(["/bin/sh", "-c", f"cd {folder}/aws-efa-installer && exec ./efa_installer.sh -y"], INSTALLER_S)
    return last_words(out) if code else ""


def is_inside(member):
    return not member.name.startswith("/") and ".." not in member.name.split("/")


def download(address, file):
    """Empty, or why the archive could not be fetched."""
    try:
        with urllib.request.urlopen(address, timeout=DOWNLOAD_S) as source, open(file, "wb") as target:  # noqa: S310
            shutil.copyfileobj(source, target)
    except (urllib.error.URLError, OSError, ValueError) as error:
        return f"{address}: {getattr(error, 'reason', error)}"
    return ""


# RoCE classes


def roce_problem(kind, roce):
    """Why the values cannot be used, empty when they can."""
    if kind != "roce":
        return ""
    if set(roce) != set(ROCE_KEYS):
        return (
            f"ROCE-VALUES: fabric.roce must hold {', '.join(ROCE_KEYS)}, and holds {', '.join(sorted(roce)) or 'none'}"
        )
    if any(type(value) is not int for value in roce.values()):
        return "ROCE-VALUES: fabric.roce holds whole numbers"
    if not (0 <= roce["dscp"] < 64 and 0 <= roce["cnp_dscp"] < 64 and roce["priority"] in PRIORITIES):
        return "ROCE-VALUES: a DSCP is 0 to 63 and a priority 0 to 7"
    if roce["traffic_class"] not in range(roce["dscp"] * 4, roce["dscp"] * 4 + 4):
        return f"ROCE-VALUES: traffic class {roce['traffic_class']} does not carry DSCP {roce['dscp']}"
    return ""


def set_roce(node, cards, roce):
    unknown = [card["hca"] for card in cards if card["vendor"] != MELLANOX]
    if unknown:
        node.notes.append(
            f"{', '.join(unknown)}: not a ConnectX card, how its RoCE classes are set is not known; left as they are"
        )
    done = set()
    for card in cards:
        if card["vendor"] == MELLANOX and card["netdev"] and card["netdev"] not in done:
            done.add(card["netdev"])
            if not set_card(node, card, roce):
                return


def set_card(node, card, roce):
    """False when the tool is missing or does not answer: no use in trying the next card."""
    netdev, priority = card["netdev"], roce["priority"]
    state, failed = qos(node, netdev)
    if failed:
        node.problems.append(
            f"ROCE-TOOL {netdev}: {failed}; mlnx_qos comes with stack doca (package mlnx-tools), "
            "and it is needed to set and to check RoCE classes"
        )
        return False
    lossless = ",".join("1" if p == priority else "0" for p in PRIORITIES)
    have_qos(node, netdev, state, ("trust", "dscp", ["--trust", "dscp"]))
    have_qos(node, netdev, state, ("pfc", lossless, ["--pfc", lossless]))
    if not (node.check and state["trust"] != "dscp"):  # the mapping is shown only where DSCP is trusted
        state, failed = qos(node, netdev)
        for dscp, wanted in ((roce["dscp"], priority), (roce["cnp_dscp"], roce["cnp_dscp"] // 8)):
            have_qos(node, netdev, state, (f"dscp {dscp}", str(wanted), ["--dscp2prio", f"set,{dscp},{wanted}"]))
    ecn = ("sys/class/net", netdev, "ecn")
    seen = node.have_file(f"{netdev} ecn receive", "1", *ecn, "roce_np/enable", str(priority))
    seen = node.have_file(f"{netdev} ecn send", "1", *ecn, "roce_rp/enable", str(priority)) and seen
    seen = node.have_file(f"{netdev} cnp_dscp", str(roce["cnp_dscp"]), *ecn, "roce_np/cnp_dscp") and seen
    if not seen:
        node.notes.append(f"{netdev}: this driver shows no ECN switches in sysfs; they stay as the card has them")
    set_traffic_class(node, card["hca"], str(roce["traffic_class"]))
    return True


def have_qos(node, netdev, state, setting):
    """`setting`: (what, wanted, the arguments of mlnx_qos that set it)."""
    what, wanted, arguments = setting

    def put():
        code, out = node.run(["mlnx_qos", "-i", netdev, *arguments])
        return last_words(out) if code else ""

    node.have(f"{netdev} {what}", state.get(what), wanted, put, lambda: qos(node, netdev)[0].get(what))


def qos(node, netdev):
    """({trust, pfc, `dscp N`}, empty or why not)."""
    code, out = node.run(["mlnx_qos", "-i", netdev])
    return ({}, last_words(out)) if code else (parse_qos(out), "")


def parse_qos(text):
    """What `mlnx_qos -i` prints, as values to compare."""
    found = {}
    match = re.search(r"^Priority trust state:\s*(\w+)", text, re.MULTILINE)
    if match:
        found["trust"] = match.group(1)
    match = re.search(r"^PFC configuration:.*?^\s*enabled((?:\s+[01]){8})", text, re.MULTILINE | re.DOTALL)
    if match:
        found["pfc"] = ",".join(match.group(1).split())
    for priority, classes in re.findall(r"^\s*prio:(\d) dscp:([\d,]+)", text, re.MULTILINE):
        found.update({f"dscp {int(dscp)}": priority for dscp in classes.split(",") if dscp})
    return found


def set_traffic_class(node, hca, wanted):
    """Class of verbs traffic that asks for none. The file reads `Global tclass=104` and takes `104`."""
    parts = ("sys/class/infiniband", hca, "tc/1/traffic_class")

    def found():
        match = re.search(r"(\d+)\s*$", node.read(*parts) or "")
        return match.group(1) if match else "none"

    def put():
        try:
            with open(node.path(*parts), "w") as stream:
                stream.write(wanted + "\n")
        except OSError as error:
            return str(error.strerror)
        return ""

    if node.read(*parts) is not None:
        node.have(f"{hca} traffic_class", found(), wanted, put, found)


# Rails


def rails(cards):
    return sorted({card["netdev"] for card in cards if card["netdev"]})


def set_rails(node, cards, roce):
    """With one rail the distribution's own rules do."""
    found = rails(cards)
    if len(found) < 2:
        return
    for netdev in found:
        for key in RAIL_KEYS:
            if not node.have_file(f"{netdev} {key}", str(roce[key]), "proc/sys/net/ipv4/conf", netdev, key):
                node.notes.append(
                    f"{netdev}: no /proc/sys/net/ipv4/conf/{netdev}, the rail's rules hold from its start on"
                )
                break


def check_daemons(node):
    """A daemon keeps the limit that it was started with."""
    for comm in glob.glob(node.path("proc/[0-9]*/comm")):
        name = node.read(comm)
        limits = node.read(os.path.dirname(comm), "limits") or ""
        match = re.search(r"^Max locked memory\s+(\S+)", limits, re.MULTILINE)
        if name in DAEMONS and match and match.group(1) != "unlimited":
            node.notes.append(
                f"{name} runs with {match.group(1)} bytes of locked memory: restart it once it is drained"
            )


def may_raise_limits(node):
    """Where root may not, a login and a container that are told to raise a limit fail to start at all."""
    match = re.search(r"^CapEff:\s*([0-9a-f]+)", node.read("proc/self/status") or "", re.MULTILINE)
    may = bool(match and int(match.group(1), 16) >> CAP_SYS_RESOURCE & 1)
    if not may:
        node.notes.append("root may not raise limits here (a container): memlock stays as the machine below gives it")
    return may


# Files


def files(asked, may_raise):
    """Entries for aifactory_files; what belongs to another kind of fabric is taken away."""
    is_rdma, is_roce, several = asked["kind"] != "tcp", asked["kind"] == "roce", len(rails(asked["cards"])) > 1
    logins = "\n".join([MANAGED, "# `*` does not match root.", "* - memlock unlimited", "root - memlock unlimited"])
    manager = f"{MANAGED}\n[Manager]\nDefaultLimitMEMLOCK=infinity"
    service = f"{MANAGED}\n[Service]\nLimitMEMLOCK=infinity"
    containers = f'{MANAGED}\n[containers]\ndefault_ulimits = ["memlock=-1:-1"]'
    found = [
        entry("/etc/security/limits.d/91-aifactory-rdma.conf", logins, is_rdma and may_raise),
        *(
            entry(f"/etc/systemd/{which}.conf.d/91-aifactory-rdma.conf", manager, is_rdma)
            for which in ("system", "user")
        ),
        *(entry(f"/etc/systemd/system/{name}.service.d/91-aifactory-rdma.conf", service, is_rdma) for name in RUNTIMES),
        entry("/etc/containers/containers.conf.d/91-aifactory-rdma.conf", containers, is_rdma and may_raise),
        entry("/etc/modules-load.d/91-aifactory-rdma.conf", "\n".join([MANAGED, *MODULES[asked["kind"]]]), is_rdma),
        entry("/etc/udev/rules.d/60-rdma-persistent-naming.rules", naming(asked["names"]), asked["names"]),
        entry("/etc/sysctl.d/91-aifactory-rails.conf", rail_lines(asked), is_roce and several),
        entry(f"/etc/systemd/system/{UNIT}", unit(asked) if is_roce else "", is_roce),
    ]
    for one in found:
        if one["dest"].startswith("/etc/systemd/"):
            one["apply"] = ["systemctl", "daemon-reload"]
        if one["dest"].startswith("/etc/systemd/system.conf.d/"):
            one["apply"] = ["systemctl", "daemon-reexec"]
    wants = f"/etc/systemd/system/multi-user.target.wants/{UNIT}"
    found[-1]["apply"] = ["systemctl", "enable", UNIT] if is_roce else ["rm", "-f", wants]
    return found


def entry(dest, content, is_wanted=True):
    if not is_wanted:
        return {"dest": dest, "content": "", "state": "absent"}
    return {"dest": dest, "content": content + "\n"}


def naming(names):
    """Each device keeps the name it has, by its place; this file goes before the one of that name in rdma-core."""
    lines = [MANAGED, "# The library's file names cards: a card keeps its name whatever else is found before it."]
    for hca in sorted(names, key=lambda name: names[name]):
        device = f'ACTION=="add", SUBSYSTEM=="infiniband", KERNELS=="{names[hca]}"'
        lines.append(f'{device}, PROGRAM="rdma_rename %k NAME_FIXED {hca}"')
    return "\n".join(lines)


def rail_lines(asked):
    lines = [MANAGED]
    for netdev in rails(asked["cards"]):
        lines += [f"net/ipv4/conf/{netdev}/{key} = {asked['roce'].get(key)}" for key in RAIL_KEYS]
    return "\n".join(lines)


def unit(asked):
    """Sets at every boot what `set_roce` set: the cards forget it."""
    roce = asked["roce"]
    cards = [card for card in asked["cards"] if card["vendor"] == MELLANOX and card["netdev"]]
    lossless = ",".join("1" if p == roce["priority"] else "0" for p in PRIORITIES)
    lines = [MANAGED, "[Unit]", "Description=RoCE classes of the fabric's cards"]
    for netdev in rails(cards):
        device = f"sys-subsystem-net-devices-{escaped(netdev)}.device"
        lines += [f"Wants={device}", f"After={device}"]
    lines += ["", "[Service]", "Type=oneshot", "RemainAfterExit=yes", "TimeoutStartSec=120"]
    for card in {card["netdev"]: card for card in cards}.values():
        netdev = card["netdev"]
        tool = f"ExecStart=/usr/bin/env mlnx_qos -i {netdev}"
        lines += [f"{tool} --trust dscp", f"{tool} --pfc {lossless}"]
        for dscp, priority in ((roce["dscp"], roce["priority"]), (roce["cnp_dscp"], roce["cnp_dscp"] // 8)):
            lines.append(f"{tool} --dscp2prio set,{dscp},{priority}")
        ecn = f"/sys/class/net/{netdev}/ecn"
        for value, file in (
            (1, f"{ecn}/roce_np/enable/{roce['priority']}"),
            (1, f"{ecn}/roce_rp/enable/{roce['priority']}"),
            (roce["cnp_dscp"], f"{ecn}/roce_np/cnp_dscp"),
            (roce["traffic_class"], f"/sys/class/infiniband/{card['hca']}/tc/1/traffic_class"),
        ):
            lines.append(f"ExecStart=/bin/sh -c 'test ! -e {file} || echo {value} > {file}'")
    lines += ["", "[Install]", "WantedBy=multi-user.target"]
    return "\n".join(lines)


def escaped(netdev):
    """As systemd writes an interface's name in a unit's name."""
    return re.sub(r"[^A-Za-z0-9:_.]", lambda match: f"\\x{ord(match.group()):02x}", netdev)


if __name__ == "__main__":
    main()
