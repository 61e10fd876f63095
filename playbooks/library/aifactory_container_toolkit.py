#!/usr/bin/python
"""Has the GPU vendor's container toolkit in a version the engine can read, and a CDI specification of today's GPUs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aifactory_container_toolkit
short_description: GPUs in containers through CDI
description:
  - Chooses a version of the toolkit that the container engine can read, installs it, holds it there.
  - Has a CDI specification that names every GPU (or MIG device) of the node and the libraries of the loaded driver.
    Written again when it does not, whatever happened before, so a new driver or MIG layout is followed.
  - Refuses, with every reason, an engine or a version that is known not to work. Needs no network where all is well.
options:
  engine:
    description: Container engine.
    type: str
    choices: [podman, docker]
    required: true
  vendor:
    description: Maker of the GPUs.
    type: str
    choices: [nvidia, amd]
    required: true
  gpus:
    description: GPUs the shape promises.
    type: int
    required: true
  version:
    description: Version of the toolkit; empty = the one that is there when it fits, else the newest that fits.
    type: str
    default: ""
  cdi:
    description: Whether through CDI; without it (AMD only) containers are given the device nodes themselves.
    type: bool
    default: true
  rdma:
    description: Whether containers are given the RDMA devices too.
    type: bool
    default: false
  imex_channels:
    description: Whether containers are given the IMEX channels too.
    type: bool
    default: false
  generate:
    description: Whether to look after the specification; not in an image, which has no GPU.
    type: bool
    default: true
  timeout_s:
    description: Longest time for one command that asks the driver, seconds.
    type: int
    default: 60
author: aifactory
"""

EXAMPLES = r"""
- name: Have GPUs in containers
  aifactory_container_toolkit:
    engine: podman
    vendor: nvidia
    gpus: 8
  register: __runtime_toolkit
"""

RETURN = r"""
toolkit:
  description: Version of the toolkit; empty while it is only to be installed.
  type: str
  returned: always
stale:
  description: Why the specification was (or in check mode would be) written again.
  type: list
  elements: str
  returned: always
facts:
  description: >-
    toolkit, kind, spec, cdi_version, devices (names without the kind), container_devices (what a container is given to
    have them all), nodes (the paths it then has), groups (that some of these paths are kept for), memlock (whether a
    container may lock memory without limit).
  type: dict
  returned: always
"""

import glob
import grp
import os
import re
import resource

from ansible.module_utils import aifactory_vendor as vendor
from ansible.module_utils.basic import AnsibleModule

BLOCKED = {"1.17.7": "other tools that install it on clusters skip it"}
"""Source: GoogleCloudPlatform/cluster-toolkit v1.95.0 blocks 1.17.7-1."""

SPEC_0_7_SINCE = (1, 19, 1)
PODMAN_READS_0_7_SINCE = (5, 0, 0)
"""From 1.19.1 on the specification says cdiVersion 0.7.0 (additionalGids), and podman 4 answers "unresolvable CDI
devices". Source: NVIDIA/nvidia-container-toolkit#1860, #1865, #1940; 2026-11-23."""

PODMAN_SINCE = (4, 1, 0)
DOCKER_SINCE = (25, 0, 0)
"""First versions with CDI: `podman run --device nvidia.com/gpu=all`; docker's features.cdi. Source: toolkit guide."""

PACKAGES = {"nvidia": "nvidia-container-toolkit-base", "amd": "amd-container-toolkit"}
KINDS = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu"}
TOOLS = {"nvidia": "nvidia-ctk", "amd": "amd-ctk"}
OWN_SPEC = {"nvidia": "/etc/cdi/nvidia.yaml", "amd": "/etc/cdi/amd.json"}
REFRESH_UNIT = "nvidia-cdi-refresh.service"
SPEC_FOLDERS = ("/etc/cdi", "/var/run/cdi")
"""In the order of their weight: of two specifications of one device, engines take the later folder's."""
INSTALL_TIMEOUT_S = 900

NODES = {"nvidia": ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia[0-9]*"), "amd": ("/dev/kfd", "/dev/dri/renderD*")}
RDMA_NODES = ("/dev/infiniband/uverbs*", "/dev/infiniband/rdma_cm")
IMEX_NODES = ("/dev/nvidia-caps-imex-channels/channel*",)


def number(text):
    """First version in the text as three numbers: `podman version 5.4.2` → (5, 4, 2); empty without one."""
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text or "")
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def engine_problem(engine, version):
    """Why the engine cannot give GPUs to containers; empty when it can."""
    since = PODMAN_SINCE if engine == "podman" else DOCKER_SINCE
    if not version:
        return f"{engine} is not installed"
    if version < since:
        return (
            f"{engine} {dotted(version)} knows no CDI, {dotted(since)} is the first that does: use a distribution "
            f"with a newer {engine}, or the other engine"
        )
    return ""


def dotted(version):
    return ".".join(map(str, version))


def version_problem(text, engine, engine_version):
    """Why this version of NVIDIA's toolkit does not go with the engine; empty when it does."""
    version = number(text)
    if dotted(version) in BLOCKED:
        return f"toolkit {dotted(version)} is blocked: {BLOCKED[dotted(version)]}"
    if engine == "podman" and version >= SPEC_0_7_SINCE and engine_version < PODMAN_READS_0_7_SINCE:
        return (
            f"toolkit {dotted(version)} writes CDI 0.7.0, which podman {dotted(engine_version)} cannot read "
            f'("unresolvable CDI devices"): use 1.18.2 or 1.19.0, or podman {dotted(PODMAN_READS_0_7_SINCE)}'
        )
    return ""


def choose(wanted, installed, offered, fits):
    """The package version to have. `offered` newest first; `fits` says why one does not fit, or nothing.

    Raises Refused, with every reason, when there is none.
    """
    if wanted:
        same = [text for text in [installed, *offered] if text and number(text) == number(wanted)]
        if problem := fits(wanted):
            raise vendor.Refused(problem)
        if not same:
            raise vendor.Refused(
                f"toolkit {wanted} is not in the repositories, which have {', '.join(offered) or 'none'}: "
                "name one of these as runtime.toolkit_version, or have the repository carry it"
            )
        return same[0]
    if installed and not fits(installed):
        return installed
    fitting = [text for text in offered if not fits(text)]
    if not fitting:
        reasons = "; ".join(fits(text) for text in offered[:3]) or "the repositories have none"
        raise vendor.Refused(f"no version of the container toolkit fits: {reasons}")
    return fitting[0]


def parse_listed(text, kind):
    """Names of the kind's devices in the output of `nvidia-ctk cdi list` or `amd-ctk cdi list`."""
    return [name.strip().rstrip(",") for name in re.findall(rf"{re.escape(kind)}=(\S+)", text)]


def parse_gpus(text):
    """Device names that `nvidia-smi -L` asks for: `0`, or `0:0`, `0:1` for the MIG devices of a GPU that has some."""
    names, gpu, migs = [], None, {}
    for line in text.splitlines():
        if found := re.match(r"GPU (\d+):", line):
            gpu = found.group(1)
            migs[gpu] = []
        elif (found := re.match(r"\s+MIG \S+\s+Device\s+(\d+):", line)) and gpu is not None:
            migs[gpu].append(f"{gpu}:{found.group(1)}")
    for gpu, parts in migs.items():
        names += parts or [gpu]
    return names


def parse_spec(text):
    """cdi_version, driver (of the libraries it mounts), nodes [(path, major or None)] of a specification."""
    version = re.search(r'"?cdiVersion"?:\s*"?([0-9.]+)', text)
    driver = re.search(r"libcuda\.so\.(\d+\.\d+(?:\.\d+)?)", text)
    nodes = []
    for found in re.finditer(r'"?path"?:\s*"?(/dev/[^\s",]+)"?,?((?:\s*"?(?:major|minor|type)"?:\s*"?\w+"?,?)*)', text):
        major = re.search(r'major"?:\s*(\d+)', found.group(2))
        nodes.append((found.group(1), int(major.group(1)) if major else None))
    return {
        "cdi_version": version.group(1) if version else "",
        "driver": driver.group(1) if driver else "",
        "nodes": nodes,
    }


def staleness(spec, driver, wanted, listed, majors, *, exact=True, common=()):
    """Every reason why the specification does not describe the node; empty when it does.

    `spec` None without one. `majors`: path → major number of the node's device, None where it has none. `exact`:
    whether `wanted` is all that the node has, so that more is wrong too. `common`: devices of the node that every
    container needs; a specification from early in the boot lacks those whose module was loaded later.
    """
    if spec is None:
        return ["there is none"]
    reasons = []
    if driver and spec["driver"] and spec["driver"] != driver:
        reasons.append(f"it mounts libraries of driver {spec['driver']}, loaded is {driver}")
    missing = [name for name in wanted if name not in listed]
    if missing:
        reasons.append(f"it lacks {', '.join(missing)}")
    gone = [name for name in listed if re.fullmatch(r"\d+(:\d+)?", name) and name not in wanted]
    if gone and exact:
        reasons.append(f"it names {', '.join(gone)}, which the node has not")
    named = {path for path, _major in spec["nodes"]}
    if absent := [path for path in common if path not in named]:
        reasons.append(f"it lacks {', '.join(absent)}")
    for path, major in dict.fromkeys(spec["nodes"]):
        if path not in majors:
            continue
        if majors[path] is None:
            reasons.append(f"it names {path}, which the node has not")
        elif major is not None and majors[path] != major:
            reasons.append(f"it names {path} with major number {major}, the node's is {majors[path]}")
    return reasons


def unreadable(spec, engine, engine_version):
    """Why the engine cannot read this specification; empty when nothing is known against it."""
    if engine == "podman" and engine_version < PODMAN_READS_0_7_SINCE and number(spec["cdi_version"]) >= (0, 7, 0):
        return (
            f"the specification says CDI {spec['cdi_version']}, which podman {dotted(engine_version)} cannot read: "
            "set runtime.toolkit_version to 1.19.0 or 1.18.2"
        )
    return ""


def kept_for_group(mode, gid):
    """Whether a group's members may read and write a file that others may not."""
    return mode & 0o060 == 0o060 and mode & 0o006 != 0o006 and gid != 0


def may_lock():
    """Whether root may lift the limit on locked memory: not in a container whose machine below does not let it."""
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            os._exit(0)
        except (OSError, ValueError):
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


class Node:
    """One node. `run` as vendor.run; `root` where its files lie."""

    def __init__(self, params, check, run=vendor.run, root=""):
        self.params, self.check, self.run, self.root = params, check, run, root
        self.vendor, self.engine = params["vendor"], params["engine"]
        self.package, self.tool, self.kind = (table[self.vendor] for table in (PACKAGES, TOOLS, KINDS))
        self.changed, self.stale, self.toolkit, self.has_all = False, [], "", False
        self.facts = {"toolkit": "", "kind": self.kind, "spec": "", "cdi_version": "", "devices": []}
        self.facts.update(container_devices=[], nodes=[], groups=[], memlock=may_lock())
        self.engine_version = ()

    def converge(self):
        if not self.params["cdi"]:
            self.tell_devices([])
            return
        self.engine_version = number(self.ask([self.engine, "--version"], needed=False))
        if not self.engine_version and self.check:  # the engine itself is only to be installed
            self.changed = True
            return
        if problem := engine_problem(self.engine, self.engine_version):
            raise vendor.Refused(problem)
        self.have_package()
        if self.params["generate"] and self.toolkit:
            self.have_spec()

    # The package

    def have_package(self):
        installed = self.installed(self.package)
        wanted = self.params["version"]
        keep = installed and not self.fits(installed) and (not wanted or number(wanted) == number(installed))
        chosen = installed if keep else choose(wanted, installed, self.offered(), self.fits)
        if chosen != installed:
            self.changed = True
            if self.check:
                return
            self.install(chosen)
        elif self.hold():
            self.changed = True
        self.toolkit = self.facts["toolkit"] = dotted(number(chosen))

    def fits(self, text):
        return version_problem(text, self.engine, self.engine_version) if self.vendor == "nvidia" else ""

    def uses_apt(self):
        return os.path.exists(self.root + "/usr/bin/apt-get")

    def installed(self, name):
        if self.uses_apt():
            form = "${db:Status-Status} ${Version}"
            code, out, _err = self.run(["dpkg-query", "--show", "--showformat", form, name], 60)
            return out.split()[1] if code == 0 and out.startswith("installed ") else ""
        code, out, _err = self.run(["rpm", "--query", "--queryformat", "%{version}-%{release}", name], 60)
        return out.strip() if code == 0 else ""

    def offered(self):
        """Versions in the repositories, newest first."""
        if self.uses_apt():
            _code, out, _err = self.run(["apt-cache", "madison", self.package], 60)
            found = [line.split("|")[1].strip() for line in out.splitlines() if line.count("|") >= 2]
        else:
            form = "%{version}-%{release}\n"
            command = ["dnf", "--quiet", "repoquery", "--queryformat", form, self.package]
            _code, out, _err = self.run(command, vendor.UPDATE_TIMEOUT_S)
            found = out.split()
        return sorted(dict.fromkeys(found), key=number, reverse=True)

    def install(self, version):
        # The whole toolkit, where an image brought it, needs its base in the very same version.
        whole = "nvidia-container-toolkit"
        names = [self.package] + ([whole] if self.vendor == "nvidia" and self.installed(whole) else [])
        if self.uses_apt():
            self.run(["apt-mark", "unhold", *names], 60)
            more = ["--allow-downgrades", "--allow-change-held-packages"]
            command = [*vendor.APT, *more, "install", *(f"{name}={version}" for name in names)]
        else:
            command = [*vendor.DNF, "install", *(f"{name}-{version}" for name in names)]
        code, out, err = self.run(command, INSTALL_TIMEOUT_S)
        if code:
            raise vendor.Refused(
                f"{' and '.join(names)} {version} could not be installed: {vendor.last_words(out, err)}. "
                "Run again when that is mended"
            )
        self.hold()

    def hold(self):
        """Has apt keep the version; true when that changed something. dnf has no hold of its own."""
        if not self.uses_apt():
            return False
        _code, out, _err = self.run(["apt-mark", "showhold", self.package], 60)
        if self.package in out.split():
            return False
        if not self.check:
            self.run(["apt-mark", "hold", self.package], 60)
        return True

    # The specification

    def have_spec(self):
        self.look()
        if self.stale:
            self.changed = True
            if self.check:
                return
            reasons = self.stale
            self.generate()
            self.look()
            if self.stale:
                path = self.facts["spec"] or OWN_SPEC[self.vendor]
                raise vendor.Refused(
                    f"the CDI specification {path} does not describe the node after `{self.tool} cdi generate`: "
                    f"{'; '.join(self.stale)}. Look at the GPUs that the driver shows, and at dmesg"
                )
            self.stale = reasons
        self.compare()

    def look(self):
        """Fills stale and facts from what is there."""
        path = self.spec_path()
        text = self.text(path) if path else ""
        spec = parse_spec(text) if path else None
        listed = parse_listed(self.ask([self.tool, "cdi", "list"]), self.kind) if path else []
        majors = {node: self.major(node) for node, _major in (spec or {"nodes": []})["nodes"]}
        exact = self.vendor == "nvidia"
        plain = [path for path in NODES[self.vendor] if "*" not in path] if exact else []
        common = [path for path in plain if os.path.exists(self.root + path)]
        self.stale = staleness(spec, self.driver(), self.wanted(), listed, majors, exact=exact, common=common)
        if spec and (problem := unreadable(spec, self.engine, self.engine_version)):
            self.stale.append(problem)  # as another version of the toolkit wrote it
        self.facts.update(
            spec=path,
            cdi_version=spec["cdi_version"] if spec else "",
            devices=[name for name in listed if re.fullmatch(r"\d+(:\d+)?", name)],
        )
        self.has_all = "all" in listed

    def compare(self):
        """Refuses what is in place and still does not do."""
        problems = []
        parents = {name.partition(":")[0] for name in self.facts["devices"]}
        if len(parents) < self.params["gpus"]:
            problems.append(
                f"`{self.tool} cdi list` names {len(parents)} GPUs, wanted {self.params['gpus']}: look at dmesg"
            )
        if not self.has_all:
            problems.append(f"`{self.tool} cdi list` has no {self.kind}=all")
        if problems:
            raise vendor.Refused("; ".join(problems))
        self.tell_devices([f"{self.kind}=all"])

    def tell_devices(self, gpus):
        """Fills in what a container is given: `gpus`, or the GPUs' own nodes, and what joins them to other nodes'."""
        if not self.params["generate"]:
            return
        nodes = self.nodes(*NODES[self.vendor])
        several = [path for path in nodes if re.search(r"(nvidia|renderD)\d+$", path)]
        problems = []
        if len(several) < self.params["gpus"]:
            told = (
                f"{len(several)} GPUs have a device node ({', '.join(several) or 'none'}), wanted {self.params['gpus']}"
            )
            problems.append(f"{told}: load the driver (layer gpu) and look at dmesg")
        more = self.nodes(*RDMA_NODES) if self.params["rdma"] else []
        if self.params["rdma"] and not more:
            problems.append("there is no /dev/infiniband/uverbs*: run the layer fabric")
        channels = self.nodes(*IMEX_NODES) if self.params["imex_channels"] else []
        if self.params["imex_channels"] and not channels:
            problems.append(
                "there is no IMEX channel in /dev/nvidia-caps-imex-channels: "
                "set tuning.imex_channel0 in the region file"
            )
        if problems:
            raise vendor.Refused("; ".join(problems))
        self.facts["container_devices"] = (gpus or nodes) + more + channels
        self.facts["nodes"] = nodes + more + channels
        self.facts["groups"] = sorted({name for path in self.facts["nodes"] for name in self.group(path)})

    def nodes(self, *patterns):
        found = []
        for pattern in patterns:
            paths = [path[len(self.root) :] for path in glob.glob(self.root + pattern)]
            found += sorted(paths, key=lambda path: [int(part) for part in re.findall(r"\d+", path)])
        return found

    def group(self, path):
        """[Name of the group] that the path is kept for; [] without one."""
        found = os.stat(self.root + path)
        if not kept_for_group(found.st_mode, found.st_gid):
            return []
        try:
            return [grp.getgrgid(found.st_gid).gr_name]
        except KeyError:
            return [str(found.st_gid)]

    def spec_path(self):
        """The specification of the GPUs that engines take; empty without one."""
        found, kind = "", re.compile(rf'\bkind"?:\s*"?{re.escape(self.kind)}"?\s*(,|\}}|$)', re.MULTILINE)
        for folder in SPEC_FOLDERS:
            for path in sorted(glob.glob(f"{self.root}{folder}/*.yaml") + glob.glob(f"{self.root}{folder}/*.json")):
                if kind.search(self.text(path[len(self.root) :])):
                    found = path[len(self.root) :]
        return found

    def generate(self):
        """By NVIDIA's own unit where there is one (since toolkit 1.18), so that both write one file; else by hand."""
        unit = False
        if self.vendor == "nvidia":
            command = ["systemctl", "list-unit-files", "--no-legend", REFRESH_UNIT]
            code, out, _err = self.run(command, self.params["timeout_s"])
            unit = code == 0 and REFRESH_UNIT in out
        if unit:
            self.run(["systemctl", "reset-failed", REFRESH_UNIT], self.params["timeout_s"])
            code, _out, _err = self.run(["systemctl", "restart", REFRESH_UNIT], self.params["timeout_s"])
            self.look()
            if not self.stale:  # the unit's own conditions may have kept it from running
                return
        # The file that engines take must be the one that is written: a stale one in a later folder would hide it.
        path = self.spec_path() or OWN_SPEC[self.vendor]
        os.makedirs(os.path.dirname(self.root + path), mode=0o755, exist_ok=True)
        self.ask([self.tool, "cdi", "generate", f"--output={path}"])

    def driver(self):
        """Version of the loaded driver; empty where it is not known (AMD's specification names none)."""
        return self.text("/sys/module/nvidia/version").strip() if self.vendor == "nvidia" else ""

    def wanted(self):
        """Names of the devices that the node has."""
        if self.vendor == "nvidia":
            return parse_gpus(self.ask(["nvidia-smi", "-L"]))
        return [str(index) for index in range(self.params["gpus"])]

    def major(self, path):
        try:
            return os.major(os.stat(self.root + path).st_rdev)
        except OSError:
            return None

    def text(self, path):
        try:
            with open(self.root + path, encoding="utf-8", errors="replace") as stream:
                return stream.read()
        except OSError:
            return ""

    def ask(self, command, needed=True):
        """Output of a command that must succeed; empty where it need not. Raises Refused, naming it."""
        code, out, err = self.run(command, self.params["timeout_s"])
        if code and needed:
            raise vendor.Refused(f"`{' '.join(command)}` failed: {vendor.last_words(out, err)}")
        return out if code == 0 else ""


def main():
    module = AnsibleModule(
        argument_spec={
            "engine": {"type": "str", "choices": ["podman", "docker"], "required": True},
            "vendor": {"type": "str", "choices": ["nvidia", "amd"], "required": True},
            "gpus": {"type": "int", "required": True},
            "version": {"type": "str", "default": ""},
            "cdi": {"type": "bool", "default": True},
            "rdma": {"type": "bool", "default": False},
            "imex_channels": {"type": "bool", "default": False},
            "generate": {"type": "bool", "default": True},
            "timeout_s": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    node = Node(module.params, module.check_mode)
    try:
        node.converge()
    except vendor.Refused as error:
        module.fail_json(msg=f"GPUs in containers: {error}", changed=node.changed, stale=node.stale, facts=node.facts)
    before = "" if not node.changed else f"specification: {'; '.join(node.stale) or 'as it was'}\n"
    after = "" if not node.changed else f"toolkit {node.toolkit or 'to be installed'}\n"
    diff = {"before": before, "after": after} if node.changed else {}
    module.exit_json(changed=node.changed, toolkit=node.toolkit, stale=node.stale, facts=node.facts, diff=diff)


if __name__ == "__main__":
    main()
