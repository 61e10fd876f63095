#!/usr/bin/python
"""Has AMD's GPU driver and the parts of ROCm that a node itself needs, in one version, built, held, loaded, proved."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aifactory_amd_driver
short_description: Have AMD's driver for Instinct GPUs
description:
  - Refuses, with every reason and before any change, what cannot work (distribution, version, Secure Boot, key).
  - Trusts the vendor's repositories by fingerprint, installs kernel headers, amdgpu-dkms, amd-smi, RCCL, holds them,
    writes the udev rules, puts users into the groups render and video, loads the module.
  - Says that the node must be restarted where another module is loaded than the one installed; never restarts it.
  - Proves that amd-smi shows every GPU and that RCCL is there.
  - Decides from what stands on the node, so an interrupted run is completed by the next one.
options:
  gpus:
    description: GPUs the shape promises.
    type: int
    required: true
  driver:
    description: >-
      V(version), ROCm's, as V(7.0.1); V(branch), the version of AMD's driver repository, as V(30.10.1), needed where
      the module does not know which one goes with it.
    type: dict
    required: true
  repository:
    description: >-
      V(url), the root of repo.radeon.com or of a mirror with its layout, or of a mirror that has everything in one
      place and names it in braces, as V(https://mirror/amd/{distro}/{arch}); V(fingerprint), V(fingerprints).
    type: dict
    required: true
  secure_boot:
    description: Whether the firmware checks signatures.
    type: str
    choices: [enabled, disabled, unknown]
    default: unknown
  users:
    description: Users that may use the GPUs.
    type: list
    elements: str
    default: []
  image:
    description: Whether this is an image build, in which nothing is loaded or proved.
    type: bool
    default: false
  timeout_s:
    description: Longest time for one command that asks the driver, seconds.
    type: int
    default: 60
author: aifactory
"""

EXAMPLES = r"""
- name: Have the driver
  aifactory_amd_driver:
    gpus: 8
    driver: {version: 7.0.1}
    repository: {url: https://repo.radeon.com, fingerprint: CA8BB4727A47B4D09B4EE8969386B48A1A693C5C}
    users: [ops]
"""

RETURN = r"""
version:
  description: ROCm's version.
  type: str
  returned: always
reboot:
  description: Why the node must be restarted; empty when it need not be.
  type: list
  elements: str
  returned: always
actions:
  description: What was (or in check mode would be) done.
  type: list
  elements: str
  returned: always
gpus:
  description: Bus ids of the GPUs that amd-smi shows.
  type: list
  elements: str
  returned: always
msg:
  description: One line for people.
  type: str
  returned: always
"""

import grp
import json
import os
import re

from ansible.module_utils import aifactory_restart as restart
from ansible.module_utils import aifactory_vendor as vendor
from ansible.module_utils.basic import AnsibleModule

INSTALL_TIMEOUT_S = 1800
DRIVER_REPOSITORIES = {"7.0.1": "30.10.1", "7.1": "30.20.1", "7.2": "30.30"}
"""ROCm → version of the driver's own repository, since ROCm 7; up to 6.4 both bear ROCm's. What is not here must be
given as the branch. Source: repo.radeon.com/amdgpu as public installers pin it; looked up 2026-11-24."""

SUITES = {"ubuntu2204": "jammy", "ubuntu2404": "noble", "debian12": "jammy", "debian13": "noble"}
"""AMD builds for Ubuntu; Debian takes the suite of its time. Source: ROCm installation guide, Debian."""

PACKAGES = ("amdgpu-dkms", "amd-smi-lib", "rocminfo", "rccl")
"""Compilers and mathematics come with the containers that compute."""

UDEV_FILE = "/etc/udev/rules.d/70-aifactory-amdgpu.rules"
UDEV_RULES = """\
# Managed by aifactory (aifactory_amd_driver); changes are overwritten.
# Who is in the group render may compute: ROCm installation guide, GPU access.
KERNEL=="kfd", GROUP="render", MODE="0660"
SUBSYSTEM=="drm", KERNEL=="renderD*", GROUP="render", MODE="0660"
"""
PREFERENCES_FILE = "/etc/apt/preferences.d/00-aifactory-amd"
UNATTENDED_FILE = "/etc/apt/apt.conf.d/52aifactory-amd"
LINKER_FILE = "/etc/ld.so.conf.d/aifactory-rocm.conf"
REBOOT_FILE = restart.FOLDER + "/gpu-amd.json"
CHECKS = [{"kind": "module", "name": "amdgpu"}]
GROUPS = ("render", "video")
SECURE_BOOT = (
    "SECURE-BOOT: Secure Boot is on, and amdgpu-dkms builds a module that nobody has signed, so the kernel would "
    'refuse it ("Key was rejected by service"). Turn Secure Boot off in the firmware, or enrol the DKMS key at the '
    "console "
    "(mokutil --import /var/lib/shim-signed/mok/MOK.der, reboot, confirm) and run again"
)
MOK_KEYS = ("/var/lib/dkms/mok.pub", "/var/lib/shim-signed/mok/MOK.der")


class Refused(vendor.Refused):
    """As vendor.Refused."""


def number(version):
    """`7.0.1` → (7, 0, 1)."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def driver_repository(version, branch):
    """Version of the driver's repository for a version of ROCm; None where it is not known."""
    if branch:
        return branch
    known = DRIVER_REPOSITORIES.get(version) or DRIVER_REPOSITORIES.get(version[:-2] if version.endswith(".0") else "")
    return known or (version if (5,) < number(version) < (7,) else None)


def refusals(distro, driver, url, secure_boot, enrolled):
    """Everything that speaks against it."""
    version, found = driver.get("version", ""), []
    if not re.fullmatch(r"\d+\.\d+(\.\d+)?", version):
        found.append(f'AMD-VERSION: gpu.driver.version is "{version}": name ROCm\'s version, as 7.0.1')
    elif "{" not in url and driver_repository(version, driver.get("branch", "")) is None:
        known = ", ".join(f"{rocm} → {own}" for rocm, own in DRIVER_REPOSITORIES.items())
        found.append(
            f"AMD-VERSION: nobody here knows which driver repository goes with ROCm {version} (known: {known}): "
            "name it as gpu.driver.branch, see repo.radeon.com/amdgpu"
        )
    if distro.family == "apt" and distro.folder not in SUITES:
        found.append(f"AMD-DISTRIBUTION: AMD has no packages for {distro.name}: use {', '.join(SUITES)}")
    if distro.family == "dnf" and not distro.folder.startswith("rhel"):
        found.append(f"AMD-DISTRIBUTION: AMD has no packages for {distro.name}: use a RHEL 9 or 10 family system")
    if distro.machine != "x86_64":
        found.append(f"AMD-DISTRIBUTION: AMD's driver is built for x86_64, the node is {distro.machine}")
    if secure_boot == "enabled" and not enrolled:
        found.append(SECURE_BOOT)
    return found


def repositories(distro, driver, repository):
    """The repositories to trust: AMD's two, or a mirror's one."""
    url, version = repository.get("url", ""), driver.get("version", "")
    fingerprint = (repository.get("fingerprints") or {}).get(distro.folder, repository.get("fingerprint", ""))
    if "{" in url:
        root, _, layout = url.partition("{")
        key_file = "rocm.gpg.key"
        return [vendor.Repository(distro, "amdgpu", root, fingerprint, path="{" + layout, key_file=key_file)]
    own, key_file = driver_repository(version, driver.get("branch", "")), "/rocm/rocm.gpg.key"
    if distro.family == "apt":
        suite = {"suites": SUITES.get(distro.folder, "noble"), "components": ["main"], "key_file": key_file}
        paths = {"amdgpu": f"amdgpu/{own}/ubuntu", "rocm": f"rocm/apt/{version}"}
        return [vendor.Repository(distro, name, url, fingerprint, path=path, **suite) for name, path in paths.items()]
    # AMD has one folder for each minor release of RHEL 9 (el/9.6), and one for all of RHEL 10.
    release = distro.version if distro.major == "9" else distro.major
    paths = {"amdgpu": f"amdgpu/{own}/el/{release}/main/x86_64", "rocm": f"rocm/el{distro.major}/{version}/main"}
    return [vendor.Repository(distro, name, url, fingerprint, path=p, key_file=key_file) for name, p in paths.items()]


def headers(distro, kernel):
    """Packages that the module is built with. Cloud kernels of Ubuntu keep the modules it needs in an extra package."""
    if distro.family == "dnf":
        return [f"kernel-devel-{kernel}", f"kernel-headers-{kernel}"]
    if distro.id == "debian":
        return ["linux-headers-amd64"]
    return [f"linux-headers-{kernel}", f"linux-modules-extra-{kernel}"]


def token(version):
    """ROCm's version inside those of its packages: `7.0.1` → `70001`."""
    major, minor, patch = (*number(version), 0, 0)[:3]
    return f"{major}{minor:02d}{patch:02d}"


def is_of(package_version, version):
    """Whether a package's version is of this ROCm: `26.0.2.70001-42~24.04`."""
    return re.search(rf"\.0*{token(version)}-", package_version) is not None


def picks(names, version, have, offered):
    """Package → version to install, for those that are not there as they should be.

    `have`: package → installed version. `offered`: package → versions, newest first. The driver's own package bears
    another number in AMD's repository of one version: there the newest is the one. Raises Refused, all at once.
    """
    wanted, missing = {}, []
    for name in names:
        if is_of(have.get(name, ""), version):
            continue
        versions = offered.get(name, [])
        chosen = next((text for text in versions if is_of(text, version)), None)
        if chosen is None and name == "amdgpu-dkms":
            chosen = have.get(name) or next(iter(versions), None)
        if chosen is None:
            missing.append(f"{name} (has {', '.join(versions[:4]) or 'none'})")
        elif chosen != have.get(name):
            wanted[name] = chosen
    if missing:
        raise Refused(
            f"AMD-PACKAGES: the repositories have no ROCm {version} of {'; '.join(missing)}: "
            "name a version that they carry as gpu.driver.version"
        )
    return wanted


def preferences_text(names, hosts):
    origins = "".join(f"\nPackage: {' '.join(names)}\nPin: origin {host}\nPin-Priority: 1001\n" for host in hosts)
    return f"# Managed by aifactory (aifactory_amd_driver); changes are overwritten.{origins}"


def unattended_text(names):
    listed = "".join(f'    "^{re.escape(name)}$";\n' for name in names)
    return (
        "// Managed by aifactory (aifactory_amd_driver); changes are overwritten.\n"
        f"Unattended-Upgrade::Package-Blacklist {{\n{listed}}};\n"
    )


def dkms_problem(text, kernel):
    """Why the module is not there for the kernel; empty when it is. `text` of `dkms status amdgpu`."""
    lines = [line for line in text.splitlines() if f", {kernel}," in line]
    if any(": installed" in line for line in lines):
        return ""
    return f"AMD-DKMS: amdgpu is not built for kernel {kernel} (dkms status: {'; '.join(lines) or 'nothing'})"


def parse_listed(text):
    """Bus ids of `amd-smi list --json`, a list or, since ROCm 7, perhaps below gpu_data."""
    start = min((at for at in (text.find("["), text.find("{")) if at >= 0), default=0)
    data = json.loads(text[start:])
    rows = data.get("gpu_data", []) if isinstance(data, dict) else data
    return [str(row.get("bdf", "")).lower() for row in rows if isinstance(row, dict) and "gpu" in row]


class Node:
    def __init__(self, params, check, run=vendor.run, root=""):
        self.params, self.check, self.run, self.root = params, check, run, root
        self.driver, self.version = params["driver"], params["driver"].get("version", "")
        self.distro = vendor.distribution(root or "/")
        self.kernel = restart.running_kernel(run)
        self.boot = restart.boot_kernel(run, root) or self.kernel
        self.repositories = repositories(self.distro, self.driver, params["repository"])
        self.actions, self.gpus, self.reboot = [], [], []

    def converge(self):
        problems = [problem for one in self.repositories for problem in one.problems()]
        url = self.params["repository"].get("url", "")
        problems += refusals(self.distro, self.driver, url, self.params["secure_boot"], self.key_is_enrolled())
        if problems:
            raise Refused("; ".join(problems) + ". Nothing was changed")
        self.have_packages()
        for path, text in ((UDEV_FILE, UDEV_RULES), (LINKER_FILE, "/opt/rocm/lib\n/opt/rocm/lib64\n")):
            if self.file(path, text) and not self.check and not self.params["image"]:
                self.run(["udevadm", "control", "--reload"] if path == UDEV_FILE else ["ldconfig"], 60)
        self.file(REBOOT_FILE, json.dumps(CHECKS, indent=2) + "\n")
        self.have_groups()
        if not self.params["image"] and not (self.check and self.actions):
            self.have_module()

    def file(self, path, text):
        """True when it differs."""
        if vendor.read(self.root + path) == text.encode():
            return False
        self.actions.append(f"write {path}")
        if not self.check:
            vendor.write(self.root + path, text.encode())
        return True

    # Packages

    def have_packages(self):
        names = [*headers(self.distro, self.boot), *PACKAGES]
        have = self.installed(names)
        for one in self.repositories:
            if files := one.have(self.check, self.run, self.root, fresh=not self.has_all(have, names)):
                self.actions.append(f"trust {one.url} ({', '.join(files)})")
        if self.distro.family == "apt":
            hosts = sorted({re.sub(r"^[a-z]+://|[:/].*$", "", one.root) for one in self.repositories})
            self.file(PREFERENCES_FILE, preferences_text(PACKAGES, hosts))
            self.file(UNATTENDED_FILE, unattended_text(names))
        if not self.has_all(have, names):
            self.install(names, have)
        self.hold(names)

    def has_all(self, have, names):
        """The driver's own package bears its own number: it is right when it came with the others."""
        others = [name for name in PACKAGES if name != "amdgpu-dkms"]
        return all(name in have for name in names) and all(is_of(have[name], self.version) for name in others)

    def install(self, names, have):
        absent = [name for name in names if name not in PACKAGES and name not in have]
        if self.check and self.actions:  # the repository is not there yet to be asked
            self.actions += [f"install {name}" for name in [*absent, *PACKAGES] if name not in have]
            return
        wanted = picks(PACKAGES, self.version, have, {name: self.offered(name) for name in PACKAGES})
        if not absent and not wanted:
            return
        self.actions += [f"install {name}" for name in absent] + [f"install {n} {v}" for n, v in wanted.items()]
        if self.check:
            return
        if self.distro.family == "apt":
            # Headers first: the driver's package builds the module as it is installed.
            if absent:
                self.apt(["install", *absent], "install " + " ".join(absent))
            self.run(["apt-mark", "unhold", *wanted], 60)
            pinned = [f"{name}={version}" for name, version in wanted.items()]
            self.apt(["--allow-downgrades", "install", *pinned], "install " + " ".join(pinned))
        else:
            pinned = [f"{name}-{version}" for name, version in wanted.items()]
            code, out, err = self.run([*vendor.DNF, "install", *absent, *pinned], INSTALL_TIMEOUT_S)
            if code:
                raise Refused(f"AMD-PACKAGES: dnf could not install: {vendor.last_words(out, err)}")

    def apt(self, arguments, purpose):
        code, out, err = self.run([*vendor.APT, *arguments], INSTALL_TIMEOUT_S)
        if code:
            self.run([*vendor.APT, "update"], vendor.UPDATE_TIMEOUT_S)
            code, out, err = self.run([*vendor.APT, *arguments], INSTALL_TIMEOUT_S)
        if code:
            raise Refused(
                f"AMD-PACKAGES: apt-get could not {purpose}: {vendor.last_words(out, err)}. Run again when mended"
            )

    def installed(self, names):
        if self.distro.family == "dnf":
            found = {}
            for name in names:
                code, out, _err = self.run(["rpm", "--query", "--queryformat", "%{version}-%{release}", name], 60)
                if code == 0:
                    found[name] = out.strip()
            return found
        form = "${Package}\t${db:Status-Status}\t${Version}\n"
        _code, out, _err = self.run(["dpkg-query", "--show", "--showformat", form, *names], 60)
        rows = [line.split("\t") for line in out.splitlines()]
        return {row[0]: row[2] for row in rows if len(row) == 3 and row[1] == "installed"}

    def offered(self, name):
        if self.distro.family == "apt":
            _code, out, _err = self.run(["apt-cache", "madison", name], 60)
            return [line.split("|")[1].strip() for line in out.splitlines() if line.count("|") >= 2]
        form = "%{version}-%{release}\n"
        _code, out, _err = self.run(
            ["dnf", "--quiet", "repoquery", "--queryformat", form, name], vendor.UPDATE_TIMEOUT_S
        )
        return out.split()[::-1]

    def hold(self, names):
        """Kernel headers too: a newer kernel comes with newer ones, when somebody wants it."""
        if self.distro.family != "apt":
            return
        _code, out, _err = self.run(["apt-mark", "showhold"], 60)
        loose = [name for name in names if name not in out.split()]
        if not loose:
            return
        self.actions.append(f"hold {' '.join(loose)}")
        if not self.check:
            self.run(["apt-mark", "hold", *loose], 60)

    # Users, module, proof

    def have_groups(self):
        for group in GROUPS:
            try:
                members = grp.getgrnam(group).gr_mem
            except KeyError:
                self.actions.append(f"add group {group}")
                members = []
                if not self.check:
                    self.run(["groupadd", "--system", group], 60)
            for user in self.params["users"]:
                if user not in members:
                    self.actions.append(f"put {user} into group {group}")
                    if not self.check:
                        self.ask(["usermod", "--append", "--groups", group, user])

    def have_module(self):
        _code, out, _err = self.run(["dkms", "status", "amdgpu"], self.params["timeout_s"])
        if problem := dkms_problem(out, self.boot):
            self.actions.append(f"build amdgpu for {self.boot}")
            if self.check:
                return
            self.run(["dkms", "autoinstall", "--kernelver", self.boot], INSTALL_TIMEOUT_S)
            _code, out, _err = self.run(["dkms", "status", "amdgpu"], self.params["timeout_s"])
            if problem := dkms_problem(out, self.boot):
                raise Refused(f"{problem}. Look at /var/lib/dkms/amdgpu/*/build/make.log, then run again")
        if not os.path.isdir(f"{self.root}/sys/module/amdgpu"):
            self.actions.append("load amdgpu")
            if self.check:
                return
            self.ask(["modprobe", "amdgpu"])
        self.reboot = restart.reasons(CHECKS, self.run, self.root)
        if not self.reboot:
            self.prove()

    def prove(self):
        """Every GPU answers, and RCCL is there: all that is wrong at once."""
        problems = []
        code, out, err = self.run(["amd-smi", "list", "--json"], self.params["timeout_s"])
        if code == 124:
            problems.append(
                f"AMD-SMI: `amd-smi list` did not answer within {self.params['timeout_s']} s: reboot the node"
            )
        elif code:
            problems.append(f"AMD-SMI: `amd-smi list` failed: {vendor.last_words(out, err)}. Look at dmesg for amdgpu")
        else:
            try:
                self.gpus = parse_listed(out)
            except ValueError as error:
                problems.append(f"AMD-SMI: `amd-smi list --json` is no JSON: {error}")
            if len(self.gpus) < self.params["gpus"]:
                shown = ", ".join(self.gpus) or "none"
                problems.append(
                    f"GPU-COUNT: amd-smi shows {len(self.gpus)} GPUs ({shown}), wanted {self.params['gpus']}: look at "
                    "`lspci -d 1002:` and dmesg for amdgpu; reboot, then have the GPU reseated or replaced"
                )
        if not os.path.exists(self.root + "/dev/kfd"):
            problems.append("AMD-KFD: /dev/kfd is not there, so nothing can compute: look at dmesg for kfd")
        if problems:
            raise Refused("; ".join(problems))

    def key_is_enrolled(self):
        keys = [self.root + key for key in MOK_KEYS if os.path.exists(self.root + key)]
        return any("is already enrolled" in "".join(self.run(["mokutil", "--test-key", key], 20)[1:]) for key in keys)

    def ask(self, command):
        code, out, err = self.run(command, self.params["timeout_s"])
        if code:
            raise Refused(f"`{' '.join(command)}` failed: {vendor.last_words(out, err)}")
        return out


def sentence(node):
    if node.reboot:
        return f"a restart is needed: {'; '.join(node.reboot)}"
    shown = f", {len(node.gpus)} GPUs answer" if node.gpus else ""
    return f"AMD driver of ROCm {node.version}{shown}"


def main():
    module = AnsibleModule(
        argument_spec={
            "gpus": {"type": "int", "required": True},
            "driver": {"type": "dict", "required": True},
            "repository": {"type": "dict", "required": True},
            "secure_boot": {"type": "str", "choices": ["enabled", "disabled", "unknown"], "default": "unknown"},
            "users": {"type": "list", "elements": "str", "default": []},
            "image": {"type": "bool", "default": False},
            "timeout_s": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    actions, node = [], None
    try:
        node = Node(module.params, module.check_mode)
        actions = node.actions
        node.converge()
    except (vendor.Refused, ValueError) as error:
        module.fail_json(msg=f"AMD: {error}", changed=bool(actions), actions=actions)
    after = {"before": "", "after": "".join(f"{action}\n" for action in actions)}
    module.exit_json(
        changed=bool(actions), version=node.version, reboot=node.reboot, actions=actions, gpus=node.gpus,
        msg=sentence(node), diff=after if actions else {},
    )  # fmt: skip


if __name__ == "__main__":
    main()
