#!/usr/bin/python
"""Has the NVLink services that a node needs, at the driver's version, configured and running: no other ones."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aifactory_nvlink
short_description: Fabric Manager, NVLSM and IMEX, each only where the hardware has what they manage
description:
  - Decides from the platform's row and from what was found on the PCI bus; a request that the hardware
    contradicts fails before anything is changed, all contradictions at once.
  - Installs Fabric Manager, NSCQ, NVSDM and IMEX at the driver's version (asserted afterwards) and holds them;
    NVLSM and infiniband-diags have versions of their own.
  - Loads ib_umad and mlx5_ib where NVLSM needs them, and has them loaded at every boot.
  - Has no unit of its own for NVLSM, because Fabric Manager's start script runs it; a second one would end both.
  - Starts a service again when its program, its configuration or the loaded driver is newer than its start.
  - Where the loaded driver is not the wanted one the services are set up and start with the reboot (RV(waits)).
  - In an image build (no systemd) nothing is started.
options:
  platform:
    description: The platform's row; C(key), C(name), C(needs_fabric_manager), C(needs_nvlsm), C(needs_imex) are read.
    type: dict
    required: true
  found:
    description: What module gpu_platform found; C(switches), C(bridges), C(virtual), C(arch) are read.
    type: dict
    required: true
  version:
    description: Full driver version; empty = the version of the installed kernel module.
    type: str
    default: ""
  imex_enabled:
    description: Whether the node itself runs IMEX; false leaves it to a scheduler that starts one per job.
    type: bool
    default: false
  imex_nodes:
    description: Addresses of the nodes that share the NVLink domain, in any order.
    type: list
    elements: str
    default: []
  imex_complete:
    description: Whether O(imex_nodes) is all of them. Where it is not (a run on some nodes of a rack), the addresses
      that are in the node's file already stay in it.
    type: bool
    default: false
author: aifactory
"""

EXAMPLES = r"""
- name: Have the NVLink services
  aifactory_nvlink:
    platform: "{{ gpu.platform }}"
    found: "{{ __gpu_platform.platform }}"
    version: "{{ gpu.driver.version }}"
    imex_enabled: "{{ gpu.imex.enabled }}"
    imex_nodes: [10.0.0.11, 10.0.0.12]
    imex_complete: true
  register: __gpu_nvlink
"""

RETURN = r"""
services:
  description: Why each service runs on this node, by name (fabric_manager, nvlsm, imex).
  type: dict
  returned: always
notes:
  description: What was left alone and why, one line each.
  type: list
  elements: str
  returned: always
versions:
  description: Installed version by package, of the packages that follow the driver.
  type: dict
  returned: always
waits:
  description: Why the services do not run yet; empty when they do.
  type: str
  returned: always
imex:
  description: sha256 of the nodes file as read back after the start, nodes in it; empty without IMEX.
  type: dict
  returned: always
"""

import hashlib
import ipaddress
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule

FABRIC_MANAGER, IMEX = "nvidia-fabricmanager.service", "nvidia-imex.service"
FABRIC_MANAGER_CONFIG = "/usr/share/nvidia/nvswitch/fabricmanager.cfg"
IMEX_CONFIG, IMEX_NODES = "/etc/nvidia-imex/config.cfg", "/etc/nvidia-imex/nodes_config.cfg"
MODULES_FILE = "/etc/modules-load.d/aifactory-nvlink.conf"
STARTS = "/run/aifactory/nvlink.json"
UNIT_FOLDER = "/etc/systemd/system"
MANAGED = "# Managed by aifactory (playbooks/library/aifactory_nvlink.py); changes are overwritten.\n"

KEYS = {
    # 0 = the GPUs belong to this machine. With 1 Fabric Manager waits for a hypervisor that never calls.
    FABRIC_MANAGER_CONFIG: {"FABRIC_MODE": "0"},
    # The command service answers `nvidia-imex-ctl`; without it nothing can say whether the domain is up.
    IMEX_CONFIG: {"IMEX_NODE_CONFIG_FILE": IMEX_NODES, "IMEX_CMD_ENABLED": "1", "IMEX_CMD_PORT": "50005"},
}
APT = [
    "apt-get", "--yes", "--quiet", "--no-install-recommends", "--allow-downgrades", "--allow-change-held-packages",
    "-o", "DPkg::Lock::Timeout=120",
    "-o", "Acquire::Retries=2",
    "-o", "Acquire::http::Timeout=20",
    "-o", "APT::Update::Error-Mode=any",
    "-o", "Dpkg::Options::=--force-confdef",
    "-o", "Dpkg::Options::=--force-confold",
]  # fmt: skip
DNF = ["dnf", "--assumeyes", "--quiet", "--setopt=install_weak_deps=False", "--setopt=exit_on_lock=False"]
ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "NEEDRESTART_SUSPEND": "1"}
INSTALL_S, UNIT_S, COMMAND_S = 1800, 300, 60


class NvlinkError(Exception):
    """A line for the user: what was found, what is wanted, what to do."""


# --- what the node needs ---


def choose(platform, found, imex_enabled):
    """({service: why}, notes, refusals), from the row and from what the PCI bus has.

    A virtual machine may be given GPUs whose switches its host keeps: then the host runs Fabric Manager.
    """
    services, notes, refusals = {}, [], []
    name = platform.get("name") or platform.get("key") or "this platform"
    switches, bridges = len(found.get("switches") or []), len(found.get("bridges") or [])
    nvlsm, manager = bool(platform.get("needs_nvlsm")), bool(platform.get("needs_fabric_manager"))
    if nvlsm and not manager:
        refusals.append(
            f"NVLINK-NVLSM: NVLSM is asked for on {name} without Fabric Manager, which starts it; "
            "wanted: both or none; correct the GPU's row in the catalogue"
        )
    elif manager:
        seen, kind = (bridges, "NVLink-5 bridge (ConnectX function with SW_MNG)") if nvlsm else (switches, "NVSwitch")
        if seen:
            services["fabric_manager"] = f"{seen} {kind}{'es' if kind == 'NVSwitch' and seen > 1 else ''} to manage"
            if nvlsm:
                services["nvlsm"] = f"the switches of {name} are reached through {seen} bridges"
        elif found.get("virtual"):
            notes.append(f"no {kind} is visible in this virtual machine: Fabric Manager is its host's")
        else:
            refusals.append(
                f"NVLINK-FM: Fabric Manager is asked for on {name} and no {kind} was found; it would end with "
                "NV_WARN_NOTHING_TO_DO. Ask for it on NVSwitch baseboards only (L40S, PCIe cards, RTX PRO and NVL72 "
                "trays have none), or look why `lspci` does not show the switches"
            )
    if imex_enabled and not platform.get("needs_imex"):
        refusals.append(
            f"NVLINK-IMEX: IMEX is asked for on {name}, whose NVLink ends inside the node; "
            "set imex.enabled to false (NVL72 trays need it)"
        )
    elif platform.get("needs_imex") and imex_enabled:
        services["imex"] = f"GPU memory is shared between the nodes of {name}"
    elif platform.get("needs_imex"):
        notes.append("IMEX is installed and left to the scheduler, which starts one per job")
    return services, notes, refusals


def wanted_packages(services, platform, family, version, machine):
    """{package: version wanted, or "" for any}. Names: NVIDIA/gpu-driver-container, the installers of each system.

    From 580 on the names carry no branch; before, they do, save Fabric Manager on rpm systems.
    """
    major = int(version.split(".")[0]) if version else 0
    suffix = f"-{major}" if 0 < major < 580 else ""
    names = {}
    if "fabric_manager" in services:
        old_rpm = family == "rpm" and suffix
        names["nvidia-fabric-manager" if old_rpm else "nvidia-fabricmanager" + suffix] = version
        if "nvlsm" not in services:
            names["libnvidia-nscq" + suffix] = version
    if "nvlsm" in services:
        names.update({"nvlsm": "", "infiniband-diags": ""})  # the start script asks `ibstat` for the bridge's GUID
        if machine == "x86_64":  # there is none for arm64
            names["libnvsdm" + suffix] = version
    if platform.get("needs_imex"):
        names["nvidia-imex" + suffix] = version
    return names


def is_stale(package, wanted):
    """Whether an installed package is that of another branch, under another name, for what is wanted."""
    stem = re.fullmatch(r"(nvidia-fabric-?manager|nvidia-imex|libnvidia-nscq|libnvsdm)(-\d+)?", package)
    if not stem or package in wanted:
        return False
    kind = stem.group(1).replace("fabric-manager", "fabricmanager")
    in_use = {re.sub(r"-\d+$", "", name).replace("fabric-manager", "fabricmanager") for name in wanted}
    return kind in in_use


def upstream(version):
    """`580.178.04` of `1:580.178.04-1ubuntu1`."""
    return re.sub(r"-[^-]*$", "", version.split(":", 1)[-1])


# --- files ---


def nodes_file(addresses):
    """The nodes file: every address once, in numeric order, so that it is the same on every node."""
    return "".join(f"{address}\n" for address in sorted(set(addresses), key=address_order))


def known_nodes(text):
    """Addresses in a nodes file, without what the package has put there as an example."""
    found = []
    for line in (text or "").splitlines():
        try:
            address = ipaddress.ip_address(line.strip())
        except ValueError:
            continue
        if not address.is_unspecified:
            found.append(line.strip())
    return found


def address_order(address):
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return (9, 0, address)
    return (parsed.version, int(parsed), "")


def with_keys(text, keys):
    """The configuration with each `KEY=` set, in place where it is there, at the end where it is not."""
    lines, left = text.splitlines(), dict(keys)
    for number, line in enumerate(lines):
        key = line.split("=", 1)[0].strip()
        if key in keys and "=" in line:
            lines[number] = f"{key}={keys[key]}"
            left.pop(key, None)
    return "\n".join(lines + [f"{key}={value}" for key, value in left.items()]) + "\n"


def without_cycle(unit):
    """The unit without `After=multi-user.target`, or None when it has none.

    A unit that multi-user.target wants and that comes after it is a cycle: systemd drops one of the two jobs at boot.
    A drop-in cannot take a dependency away, so the whole unit is overridden.
    """
    lines, found = [], False
    for line in unit.splitlines():
        key, equals, value = line.partition("=")
        if equals and key.strip() == "After" and "multi-user.target" in value.split():
            found = True
            rest = [word for word in value.split() if word != "multi-user.target"]
            if not rest:
                continue
            line = "After=" + " ".join(rest)  # noqa: PLW2901
        lines.append(line)
    return MANAGED + "\n".join(lines) + "\n" if found else None


def restart_reason(start, now):
    """Why a running service must be started again, empty when it need not.

    `start` is what was true when it started (None = not known: taken as good), `now` what is true.
    """
    if now["program_replaced"]:
        return "its program was replaced by an upgrade"
    if start is None or start["invocation"] != now["invocation"]:
        return "its configuration is newer than its start" if now["config_newer"] else ""
    if start["driver"] != now["driver"]:
        return "the driver was loaded anew after it had started"
    if start["config"] != now["config"]:
        return "its configuration changed after it had started"
    return ""


# --- the node ---


def run(command, timeout_s):
    """(code, output, errors); code None when the command did not end in time. Never waits for a process that no
    signal ends (a hanging driver)."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
                env={**os.environ, **ENVIRONMENT},
            )  # fmt: skip
        except OSError as error:
            return 127, "", str(error)
        deadline = time.monotonic() + timeout_s
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        code = process.poll()
        if code is None:
            os.killpg(process.pid, signal.SIGKILL)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "replace"))
        return code, texts[0], texts[1]


def must(command, timeout_s, purpose):
    """Output of a command that has to succeed."""
    code, out, err = run(command, timeout_s)
    if code is None:
        raise NvlinkError(f"could not {purpose}: `{' '.join(command)}` did not end in {timeout_s} s")
    if code:
        text = [line.strip() for line in (err + "\n" + out).splitlines() if line.strip()]
        told = [line for line in text if line.startswith(("E:", "Error:"))] or text[-3:]
        raise NvlinkError(f"could not {purpose}: `{' '.join(command)}` failed: {' | '.join(told[:4])}")
    return out


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return None


def write(path, text):
    """Replaces the file in one step, mode and owner kept where it was there; `None` removes it."""
    if text is None:
        os.unlink(path)
        return
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    temporary = f"{path}.aifactory-{os.getpid()}"
    try:
        with open(temporary, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.rename(temporary, path)
    except OSError as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise NvlinkError(f"could not write {path}: {error.strerror}") from error


def installed_packages(family):
    """{package: version} of everything installed."""
    if family == "deb":
        form = "${binary:Package} ${Version} ${db:Status-Status}\n"
        lines = run(["dpkg-query", "--show", f"--showformat={form}"], COMMAND_S)[1].splitlines()
        rows = [line.split() for line in lines]
        return {row[0].split(":")[0]: row[1] for row in rows if len(row) == 3 and row[2] == "installed"}
    lines = run(["rpm", "--query", "--all", "--queryformat", "%{NAME} %{VERSION}-%{RELEASE}\n"], COMMAND_S)[1]
    return dict(line.split(" ", 1) for line in lines.splitlines() if " " in line)


def unit_state(unit):
    """The unit's properties as text; all empty without systemd."""
    names = ["ActiveState", "UnitFileState", "MainPID", "InvocationID", "ActiveEnterTimestampMonotonic"]
    out = run(["systemctl", "show", "--property=" + ",".join(names), unit], COMMAND_S)[1]
    state = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
    return {name: state.get(name, "") for name in names}


def loaded_driver():
    """("580.178.04", mark of this load), both empty while the driver is not loaded; a new load has a new mark."""
    version = (read("/sys/module/nvidia/version") or "").strip()
    try:
        mark = f"{version} {os.stat('/sys/module/nvidia').st_ino}"
    except OSError:
        mark = ""
    return version, mark


def is_loaded(module):
    return os.path.isdir(f"/sys/module/{module}")


def digest(*paths):
    texts = "".join(read(path) or "" for path in paths)
    return hashlib.sha256(texts.encode()).hexdigest()


def start_of(state, mark, files):
    """What `restart_reason` compares: which start this is and what was true then."""
    try:
        replaced = os.readlink(f"/proc/{state['MainPID']}/exe").endswith(" (deleted)")
    except OSError:
        replaced = False
    since_boot = time.time() - time.monotonic()
    started = int(state["ActiveEnterTimestampMonotonic"] or 0) / 1e6
    newest = max((os.stat(path).st_mtime for path in files if os.path.exists(path)), default=0.0)
    return {
        "invocation": state["InvocationID"], "driver": mark, "config": digest(*files),
        "config_newer": newest - since_boot > started, "program_replaced": replaced,
    }  # fmt: skip


class Services:
    """Converges the node; `changes` says what was, or in check mode would be, done."""

    def __init__(self, params, check):
        self.params, self.check = params, check
        self.family = "deb" if shutil.which("apt-get") else "rpm"
        self.machine = params["found"].get("arch") or os.uname().machine
        self.booted = os.path.isdir("/run/systemd/system")
        self.changes, self.notes, self.waits = [], [], ""
        known = [] if params["imex_complete"] else known_nodes(read(IMEX_NODES))
        self.nodes = nodes_file([*params["imex_nodes"], *known])

    def converge(self):
        """What the module returns. Raises NvlinkError; what is done stays done, the next run goes on."""
        services, self.notes, refusals = choose(
            self.params["platform"], self.params["found"], self.params["imex_enabled"]
        )
        if "imex" in services and not self.params["imex_nodes"]:
            refusals.append("NVLINK-IMEX: IMEX is wanted and no node of the rack was named; give imex_nodes")
        if refusals:
            raise NvlinkError(" / ".join(refusals))
        self.switch_off(services)
        version = self.params["version"] or self.installed_driver()
        if not version and wanted_packages(services, self.params["platform"], self.family, "", self.machine):
            if not self.check:
                raise NvlinkError("NVLINK-VERSION: no driver is installed and no version was given; install it first")
            self.notes.append("the driver's version is known once the driver is installed")
        packages = wanted_packages(services, self.params["platform"], self.family, version, self.machine)
        versions = self.install(packages)
        if "nvlsm" in services:
            self.load_modules()
        self.configure(services)
        self.run_units(services, version)
        return {
            "services": services, "notes": self.notes, "versions": versions, "waits": self.waits,
            "imex": self.imex_file() if "imex" in services else {},
        }  # fmt: skip

    def change(self, text):
        """Notes a change; true when it is to be made."""
        self.changes.append(text)
        return not self.check

    def installed_driver(self):
        return run(["modinfo", "-F", "version", "nvidia"], COMMAND_S)[1].strip()

    def switch_off(self, services):
        """A service that this node does not need fails at every boot: it is stopped and disabled."""
        for unit, name in ((FABRIC_MANAGER, "fabric_manager"), (IMEX, "imex")):
            state = unit_state(unit)
            enabled = state["UnitFileState"] in ("enabled", "enabled-runtime")
            scheduled = name == "imex" and self.params["platform"].get("needs_imex")  # runs while a job does
            on = enabled or (not scheduled and state["ActiveState"] in ("active", "activating", "failed"))
            if name not in services and on and self.change(f"- {unit} (not for this platform)"):
                now = [] if scheduled or not self.booted else ["--now"]
                must(["systemctl", "disable", *now, unit], UNIT_S, f"switch {unit} off")
                run(["systemctl", "reset-failed", unit], COMMAND_S)

    def install(self, packages):
        """Installed version of each package that follows the driver; raises when one is not the wanted one."""
        have = installed_packages(self.family)
        stale = sorted(name for name in have if is_stale(name, packages))
        missing = {
            name: version
            for name, version in packages.items()
            if name not in have or (version and upstream(have[name]) != version)
        }
        if missing or stale:
            todo = [f"+ {name} {version}".rstrip() for name, version in sorted(missing.items())]
            if self.change("\n".join(todo + [f"- {name}" for name in stale])):
                (self.apt if self.family == "deb" else self.dnf)(missing, stale)
                have = installed_packages(self.family)
        follows = {name: upstream(have.get(name, "")) for name, version in packages.items() if version}
        if not self.check:
            wrong = [
                f"{name} is {follows[name] or 'absent'}, the driver is {version}"
                for name, version in sorted(packages.items())
                if version and follows[name] != version
            ]
            if wrong:
                raise NvlinkError("NVLINK-VERSION: " + "; ".join(wrong) + ". Have the repository serve one version")
        self.hold(sorted(packages), have)
        return follows

    def apt(self, missing, stale):
        names = [f"{name}={version}*" if version else name for name, version in sorted(missing.items())]
        command = [*APT, "install", *names, *(f"{name}-" for name in stale)]
        code = run(command, INSTALL_S)[0]
        if code is None:
            raise NvlinkError(f"could not install {' '.join(names)}: apt-get did not end in {INSTALL_S} s")
        if code:
            must([*APT, "update"], INSTALL_S, "refresh the package lists")
            must(command, INSTALL_S, "install " + " ".join(names))

    def dnf(self, missing, stale):
        names = [f"{name}-{version}" if version else name for name, version in sorted(missing.items())]
        if stale:
            must([*DNF, "remove", "--noautoremove", *stale], INSTALL_S, "remove " + " ".join(stale))
        if names:
            must([*DNF, "--allowerasing", "install", *names], INSTALL_S, "install " + " ".join(names))

    def hold(self, names, have):
        """Nothing but the next run of this module moves them."""
        names = [name for name in names if name in have and name != "infiniband-diags"]
        if self.family == "deb":
            held = set(run(["apt-mark", "showhold"], COMMAND_S)[1].split())
            free = [name for name in names if name not in held]
            if free and self.change("hold " + " ".join(free)):
                must(["apt-mark", "hold", *free], COMMAND_S, "hold " + " ".join(free))
            return
        code, out, _err = run([*DNF, "versionlock", "list"], COMMAND_S)
        if code:
            self.notes.append("packages are not locked: dnf has no versionlock plugin here")
            return
        free = [name for name in names if not re.search(rf"\b{re.escape(name)}-\d", out)]
        if free and self.change("lock " + " ".join(free)):
            must([*DNF, "versionlock", "add", *free], COMMAND_S, "lock " + " ".join(free))

    def load_modules(self):
        modules = ["ib_umad", "mlx5_ib"]
        self.put(MODULES_FILE, MANAGED + "# NVLSM speaks to the switches through these.\n" + "\n".join(modules) + "\n")
        absent = [name for name in modules if not is_loaded(name)]
        if not absent or not self.booted or not self.change("load " + " ".join(absent)):
            return
        for name in absent:
            code, _out, err = run(["modprobe", name], COMMAND_S)
            extra = f"linux-modules-extra-{os.uname().release}"
            if code and self.family == "deb" and run(["apt-cache", "show", extra], COMMAND_S)[0] == 0:
                self.apt({extra: ""}, [])
                code, _out, err = run(["modprobe", name], COMMAND_S)
            if code != 0:
                raise NvlinkError(
                    f"NVLINK-MODULE: {name} could not be loaded ({err.strip() or 'no message'}); NVLSM needs it. "
                    f"Install {extra} (Ubuntu cloud kernels leave it out) or the RDMA stack of layer fabric"
                )

    def put(self, path, text):
        """Writes the file when it differs; true when it did."""
        if read(path) == text:
            return False
        if self.change(f"{path}" if text is not None else f"- {path}"):
            write(path, text)
        return True

    def configure(self, services):
        for path, service in ((FABRIC_MANAGER_CONFIG, "fabric_manager"), (IMEX_CONFIG, "imex")):
            if service in services:
                text = read(path)
                if text is None and not self.check:
                    raise NvlinkError(f"{path} is missing though its package is installed; reinstall the package")
                self.put(path, with_keys(text or "", KEYS[path]))
        if "imex" in services:
            self.put(IMEX_NODES, self.nodes)
        overridden = False
        for unit, service in ((FABRIC_MANAGER, "fabric_manager"), (IMEX, "imex")):
            if service in services:
                overridden = self.override(unit) or overridden
        if overridden and self.booted and not self.check:
            must(["systemctl", "daemon-reload"], COMMAND_S, "have systemd read its units")

    def override(self, unit):
        """Keeps our copy of a vendor's unit with a cycle in step with it; true when something changed."""
        ours = os.path.join(UNIT_FOLDER, unit)
        vendor = read(f"/usr/lib/systemd/system/{unit}") or read(f"/lib/systemd/system/{unit}") or ""
        text, there = without_cycle(vendor), read(ours)
        if text is None and (there is None or not there.startswith(MANAGED)):
            return False
        return self.put(ours, text)

    def run_units(self, services, version):
        loaded, mark = loaded_driver()
        if not self.booted:
            self.waits = "an image is being built: the services start with the machine"
        elif loaded != version:
            self.waits = (
                f"the loaded driver is {loaded or 'none'}, wanted is {version}: the services start after the reboot"
            )
        starts = json.loads(read(STARTS) or "{}")
        seen = dict(starts)
        for unit, service, files in (
            (FABRIC_MANAGER, "fabric_manager", [FABRIC_MANAGER_CONFIG]),
            (IMEX, "imex", [IMEX_CONFIG, IMEX_NODES]),
        ):
            if service not in services:
                seen.pop(unit, None)
                continue
            state = unit_state(unit)
            if not state["UnitFileState"].startswith("enabled") and self.change(f"enable {unit}"):
                must(["systemctl", "enable", unit], COMMAND_S, f"enable {unit}")
            if self.waits:
                continue
            now = start_of(state, mark, files)
            reason = restart_reason(starts.get(unit), now) if state["ActiveState"] == "active" else "it does not run"
            if reason and self.change(f"start {unit}: {reason}"):
                self.start(unit)
                now = start_of(unit_state(unit), mark, files)
            if not self.check:
                seen[unit] = now
        if seen != starts and self.booted and not self.check:
            write(STARTS, json.dumps(seen))

    def start(self, unit):
        run(["systemctl", "reset-failed", unit], COMMAND_S)
        code, _out, err = run(["systemctl", "restart", unit], UNIT_S)
        if code == 0 and unit_state(unit)["ActiveState"] == "active":
            return
        log = run(["journalctl", "--unit", unit, "--lines", "8", "--output", "cat", "--no-pager"], COMMAND_S)[1]
        words = " | ".join(line.strip() for line in log.splitlines()[-4:] if line.strip())
        raise NvlinkError(
            f"NVLINK-UNIT: {unit} does not start ({'no answer in time' if code is None else err.strip()[-200:]}): "
            f"{words or 'no log'}. {unit_hint(log)}"
        )

    def imex_file(self):
        """What is in the nodes file now: something else on the node may have written it (a scheduler's prolog)."""
        text = self.nodes if self.check else read(IMEX_NODES) or ""
        return {"sha256": hashlib.sha256(text.encode()).hexdigest(), "nodes": text.split()}


def unit_hint(log):
    """What to do about the known last words of the daemons."""
    if "NV_WARN_NOTHING_TO_DO" in log:
        return "No switch answers: on NVLink 5 look whether NVLSM runs and ib_umad is loaded, else at `lspci`"
    if "does not match" in log or "version" in log.lower():
        return "Its version and the driver's differ: reboot, or have the repository serve one version"
    if "ib_umad" in log:
        return "Load ib_umad (linux-modules-extra on Ubuntu cloud kernels)"
    return "See `journalctl -u` on the node"


def main():
    module = AnsibleModule(
        argument_spec={
            "platform": {"type": "dict", "required": True},
            "found": {"type": "dict", "required": True},
            "version": {"type": "str", "default": ""},
            "imex_enabled": {"type": "bool", "default": False},
            "imex_nodes": {"type": "list", "elements": "str", "default": []},
            "imex_complete": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    node = Services(module.params, module.check_mode)
    try:
        result = node.converge()
    except NvlinkError as error:
        module.fail_json(msg=str(error), changed=bool(node.changes) and not module.check_mode)
    after = "".join(f"{change}\n" for change in node.changes)
    told = "; ".join([*result["notes"], result["waits"]]).strip("; ")
    module.exit_json(
        changed=bool(node.changes), diff={"before": "", "after": after} if after else {}, msg=told, **result
    )  # fmt: skip


if __name__ == "__main__":
    main()
