#!/usr/bin/python
"""Sets power limit, power profile, persistence and kernel tuning of a GPU node so that they outlive a reboot."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aifactory_gpu_power
short_description: Power limit, power profile, persistence, governor, hugepages, kernel line; each read back
description:
  - A power limit is lost whenever the driver is loaded anew. A unit sets it at every boot, after the persistence
    daemon; the limit that the GPUs enforce is read back, because other limiters may hold it lower or higher.
  - A limit that a GPU does not take, or a profile that it does not have, fails before anything is changed.
  - Kernel arguments that are not on the line the node booted with are written to the boot loader and are a reason for
    a reboot (RV(reboot_reasons)); this module never reboots.
  - A node that is a container has no kernel of its own: governor, hugepages, NUMA balancing and kernel line belong to
    the machine below, are left alone, and that is said.
options:
  vendor:
    description: Maker of the GPUs.
    type: str
    choices: [nvidia, amd]
    required: true
  cap_w:
    description: Power limit of each GPU, W; 0 = as the maker set it.
    type: int
    default: 0
  profile:
    description: Workload power profile by name, as V(LLM_INFERENCE) or V(llm-inference); empty = none.
    type: str
    default: ""
  governor:
    description: CPU frequency governor; empty = as it is.
    type: str
    default: performance
  hugepages:
    description: Huge pages of the default size; 0 = as they are.
    type: int
    default: 0
  kernel_arguments:
    description: Arguments of the kernel line.
    type: list
    elements: dict
    default: []
    suboptions:
      argument:
        description: As it stands on the line.
        type: str
        required: true
      reason:
        description: Why.
        type: str
        required: true
  waits:
    description: Why the driver does not run as wanted yet; what needs it is then set up and starts with the reboot.
    type: str
    default: ""
  command_timeout_s:
    description: Seconds one command may take.
    type: int
    default: 60
author: aifactory
"""

EXAMPLES = r"""
- name: Have the power limit
  aifactory_gpu_power:
    vendor: nvidia
    cap_w: 600
    kernel_arguments: [{argument: numa_balancing=disable, reason: "pages must not move under a GPU"}]
  register: __gpu_power
"""

RETURN = r"""
power:
  description: Limits of each GPU as read back, W (index, default, enforced, min, max), and the enforced profiles.
  type: dict
  returned: always
notes:
  description: What was left alone and why.
  type: list
  elements: str
  returned: always
reboot_reasons:
  description: What a reboot would mend. The play C(reboot) finds it out again, by the checks that are left in
    /etc/aifactory/reboot.d/gpu-kernel-line.json.
  type: list
  elements: str
  returned: always
"""

import glob
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule

UNIT, PERSISTENCE = "aifactory-gpu-power.service", "nvidia-persistenced.service"
MANAGED = "# Managed by aifactory (playbooks/library/aifactory_gpu_power.py); changes are overwritten.\n"
UNITS = "etc/systemd/system"
SYSCTL = "etc/sysctl.d/91-aifactory-gpu.conf"
GRUB = "etc/default/grub.d/90-aifactory.cfg"
GRUBBY_MEMORY = "etc/aifactory/kernel-arguments.json"
REBOOT = "etc/aifactory/reboot.d/gpu-kernel-line.json"
LIMITS = "index,power.default_limit,enforced.power.limit,power.min_limit,power.max_limit"
GOVERNORS = "sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
UNIT_S = 300


class PowerError(Exception):
    """Lines for the user: check, what was found, what is wanted, what to do."""


# --- texts and answers: pure ---


def parse_limits(text):
    """[{index, default, enforced, min, max}] of nvidia-smi's csv; W, None where the GPU has no such limit."""
    rows = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == len(LIMITS.split(",")) and cells[0].isdigit():
            rows.append(
                dict(zip(("index", "default", "enforced", "min", "max"), [int(cells[0]), *map(watt, cells[1:])]))
            )
    if not rows:
        raise PowerError(f"POWER-READ: nvidia-smi names no GPU: {' '.join(text.split())[:200] or 'no output'}")
    return rows


def watt(text):
    found = re.match(r"([\d.]+)", text)
    return float(found.group(1)) if found else None


def cap_faults(limits, cap_w):
    """A line for every GPU that cannot take the limit."""
    faults = []
    for gpu in limits:
        if gpu["min"] is None or gpu["max"] is None:
            faults.append(f"POWER-CAP: GPU {gpu['index']} has no power limit to set; set power.cap_w to 0")
        elif not gpu["min"] <= cap_w <= gpu["max"]:
            faults.append(
                f"POWER-CAP: GPU {gpu['index']} takes {gpu['min']:g} to {gpu['max']:g} W, power.cap_w is {cap_w}; "
                "choose a value in between"
            )
    return faults


def enforced_faults(limits, cap_w):
    """A line for every GPU that does not enforce what was set."""
    return [
        f"POWER-CAP: GPU {gpu['index']} enforces {gpu['enforced']} W, set was {cap_w} W; another limiter holds it: the "
        "baseboard's controller (Redfish) or a profile; see `nvidia-smi -q -d POWER`"
        for gpu in limits
        if gpu["enforced"] is None or abs(gpu["enforced"] - cap_w) >= 1
    ]


def parse_profiles(text):
    """[{number: name}] for each GPU of `nvidia-smi power-profiles -l|-gr|-ge`, which prints them without a header."""
    blocks = []
    for line in text.splitlines():
        found = re.match(r"(\d+)\.\s+(\S.*?)\s*$", line)
        if found:
            number = int(found.group(1))
            if not blocks or number <= max(blocks[-1]):
                blocks.append({})
            blocks[-1][number] = found.group(2)
    return blocks


def profile_number(profile, supported):
    """Number of the profile, by its name however it is written. PowerError when a GPU does not have it."""
    numbers = set()
    for block in supported:
        numbers.add(next((number for number, name in block.items() if plain(name) == plain(profile)), None))
    if not supported or None in numbers or len(numbers) != 1:
        names = sorted({name for block in supported for name in block.values()})
        raise PowerError(
            f"POWER-PROFILE: the GPUs do not have power profile {profile}; they have {', '.join(names) or 'none'} "
            "(Blackwell and later, driver 570 or later); choose one of them, or none"
        )
    return numbers.pop()


def plain(name):
    return re.sub(r"[^a-z0-9]", "", name.lower())


def power_unit(smi, cap_w, profile, governor):
    """Text of the unit, or None when there is nothing for it to do at boot."""
    commands = []
    if cap_w:
        commands.append(f"{smi} -pl {cap_w}")
    if profile is not None:
        commands.append(f"{smi} power-profiles -sr {profile}")
    if governor:
        commands.append(f"/bin/sh -c 'for file in /{GOVERNORS}; do echo {governor} > $file; done'")
    if not commands:
        return None
    needs_driver = (
        "After=nvidia-persistenced.service\nWants=nvidia-persistenced.service\n" if cap_w or profile is not None else ""
    )
    return (
        MANAGED
        + "[Unit]\nDescription=Power limit and profile of the GPUs, CPU governor\n"
        + needs_driver
        + "\n[Service]\nType=oneshot\nRemainAfterExit=yes\nTimeoutStartSec=120\n"
        + "".join(f"ExecStart={command}\n" for command in commands)
        + "\n[Install]\nWantedBy=multi-user.target\n"
    )


def persistence_drop_in(vendor_unit):
    """Drop-in for a vendor's unit that starts the daemon without persistence mode (Ubuntu's does), else None."""
    for line in vendor_unit.splitlines():
        if line.startswith("ExecStart=") and "--no-persistence-mode" in line:
            command = " ".join(word for word in line.split("=", 1)[1].split() if word != "--no-persistence-mode")
            return MANAGED + f"[Service]\nExecStart=\nExecStart={command}\n"
    return None


def missing_arguments(cmdline, wanted):
    """Those of `wanted` that are not on the kernel line."""
    there = cmdline.split()
    return [entry for entry in wanted if entry["argument"] not in there]


def grub_file(arguments):
    return MANAGED + f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {" ".join(arguments)}"\n' if arguments else None


def not_in_grub(config, arguments):
    """Arguments that some kernel of the generated grub.cfg would boot without."""
    lines = [line.split() for line in config.splitlines() if re.match(r"\s*linux(efi)?\s", line)]
    return [argument for argument in arguments if not lines or any(argument not in words for words in lines)]


def grubby_arguments(text):
    """Arguments of every kernel of `grubby --info=ALL`."""
    return [shlex.split(found)[0].split() for found in re.findall(r"^args=(\".*\")$", text, re.MULTILINE)]


# --- the node ---


def run(command, timeout_s):
    """(code, output and errors); code None when it did not end in time. Never waits for a process that no signal
    ends (a hanging driver)."""
    with tempfile.TemporaryFile() as out:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, "LC_ALL": "C.UTF-8"},
            )  # fmt: skip
        except OSError as error:
            return 127, str(error)
        deadline = time.monotonic() + timeout_s
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        code = process.poll()
        if code is None:
            os.killpg(process.pid, signal.SIGKILL)
        out.seek(0)
        return code, out.read().decode("utf-8", "replace")


class Tuning:
    """Converges the node below `root`; `changes` says what was, or in check mode would be, done."""

    def __init__(self, params, check, root="/", runner=run):
        self.params, self.check, self.root, self.runner = params, check, root, runner
        self.timeout_s = params["command_timeout_s"]
        self.changes, self.notes, self.faults, self.reasons = [], [], [], []
        self.power = {"gpus": [], "profiles": []}
        self.container = runner(["systemd-detect-virt", "--container", "--quiet"], self.timeout_s)[0] == 0
        self.booted = os.path.isdir(self.path("run/systemd/system"))

    def converge(self):
        """Raises PowerError with all faults, after everything that could be done was done."""
        params = self.params
        governor = params["governor"] if not self.container and glob.glob(self.path(GOVERNORS)) else ""
        number = None
        if params["vendor"] == "nvidia":
            number = self.before()
            self.persistence()
        elif params["cap_w"] or params["profile"]:
            raise PowerError("POWER-VENDOR: power.cap_w and power.profile are for NVIDIA GPUs; set them to 0 and empty")
        self.unit(number, governor)
        if params["vendor"] == "nvidia" and not params["waits"] and self.booted and not self.check:
            self.read_back(number)
        if self.container:
            self.notes.append("governor, hugepages, NUMA balancing and kernel line belong to the machine below")
        else:
            self.governor(governor)
            self.sysctl()
            self.kernel_line()
        if self.faults:
            raise PowerError(" / ".join(self.faults))

    # power

    def before(self):
        """Number of the power profile, or None. Refuses what the GPUs cannot take, before any change."""
        cap_w, profile = self.params["cap_w"], self.params["profile"]
        if not cap_w and not profile:
            return None
        if self.params["waits"] or not self.booted:
            self.notes.append(
                f"power limit and profile are set at the next boot: {self.params['waits'] or 'image build'}"
            )
            return None
        if self.check and shutil.which("nvidia-smi") is None:
            self.notes.append("power limit and profile are checked once the driver is installed")
            return None
        limits = self.limits()
        faults = cap_faults(limits, cap_w) if cap_w else []
        number = None
        if profile:
            try:
                number = profile_number(profile, parse_profiles(self.ask("power-profiles", "-l", may_fail=True)))
            except PowerError as error:
                faults.append(str(error))
        if faults:
            raise PowerError(" / ".join(faults))
        return number

    def limits(self):
        return parse_limits(self.ask(f"--query-gpu={LIMITS}", "--format=csv,noheader,nounits"))

    def ask(self, *words, may_fail=False):
        """Output of nvidia-smi."""
        command = ["nvidia-smi", *words]
        code, out = self.runner(command, self.timeout_s)
        if code is None:
            raise PowerError(
                f"SMI-HANG: `{' '.join(command)}` gave no answer in {self.timeout_s} s; see Xid 119 and NVRM lines in "
                "`dmesg`, reboot the node"
            )
        if code and not may_fail:
            raise PowerError(f"POWER-READ: `{' '.join(command)}` failed ({code}): {' '.join(out.split())[:200]}")
        return out

    def persistence(self):
        """Has the persistence daemon run, in persistence mode."""
        vendor = self.read(f"usr/lib/systemd/system/{PERSISTENCE}") or self.read(f"lib/systemd/system/{PERSISTENCE}")
        if vendor is None:
            if not self.check:
                self.faults.append(
                    f"PERSISTENCE: {PERSISTENCE} is not installed; install package nvidia-persistenced, or the one of "
                    "the driver that holds it"
                )
            return
        changed = self.put(f"{UNITS}/{PERSISTENCE}.d/90-aifactory.conf", persistence_drop_in(vendor))
        if changed:
            self.reload()
        self.enable(PERSISTENCE)
        if not self.booted or self.params["waits"]:
            return
        state = self.show(PERSISTENCE)
        words = (self.read(f"proc/{state['MainPID']}/cmdline") or "").split("\0")
        if state["ActiveState"] != "active" or "--no-persistence-mode" in words:
            self.restart(PERSISTENCE)

    def unit(self, number, governor):
        """Writes, enables and runs the unit; takes it away, and the limit with it, where nothing is wanted."""
        waits = bool(self.params["waits"]) or not self.booted
        before = self.read(f"{UNITS}/{UNIT}")
        set_before = re.search(r"power-profiles -sr (\d+)", before or "")
        if waits and self.params["profile"] and set_before:
            number = int(set_before.group(1))  # the GPUs cannot be asked for their profiles now
        smi = shutil.which("nvidia-smi") or "/usr/bin/nvidia-smi"
        text = power_unit(smi, self.params["cap_w"], number, governor)
        if not waits and self.params["vendor"] == "nvidia":
            # Before the unit goes, so that a run that is interrupted here is completed by the next one.
            if "-pl " in (before or "") and not self.params["cap_w"]:
                self.default_limits()
            if set_before and int(set_before.group(1)) != number:
                self.clear_profile(set_before.group(1))
        if text is None:
            if before is not None:
                if not self.check:
                    self.runner(["systemctl", "disable", "--now", UNIT], UNIT_S)
                self.put(f"{UNITS}/{UNIT}", None)
                self.reload()
            return
        if self.put(f"{UNITS}/{UNIT}", text):
            self.reload()
        self.enable(UNIT)
        if waits or (self.check and before is None):
            return
        is_off = self.is_off(number) or self.other_governors(governor)
        if before != text or self.show(UNIT)["ActiveState"] != "active" or is_off:
            self.restart(UNIT)

    def default_limits(self):
        for gpu in self.limits():
            off = gpu["default"] and abs(gpu["enforced"] - gpu["default"]) >= 1
            if off and self.change(f"GPU {gpu['index']}: {gpu['default']:g} W"):
                self.ask("-i", str(gpu["index"]), "-pl", f"{gpu['default']:g}")

    def clear_profile(self, number):
        """A request adds to those that are there, so the one of before is taken back."""
        asked = any(int(number) in block for block in self.profiles("-gr"))
        if asked and self.change(f"- power profile {number}"):
            self.ask("power-profiles", "-cr", number, may_fail=True)

    def is_off(self, number):
        """Whether the GPUs enforce something else than wanted (the driver was loaded anew, somebody set it)."""
        cap_w = self.params["cap_w"]
        if cap_w and enforced_faults(self.limits(), cap_w):
            return True
        return number is not None and any(number not in block for block in self.profiles("-gr") or [{}])

    def profiles(self, which):
        return parse_profiles(self.ask("power-profiles", which, may_fail=True))

    def read_back(self, number):
        cap_w = self.params["cap_w"]
        if cap_w:
            self.power["gpus"] = self.limits()
            self.faults += enforced_faults(self.power["gpus"], cap_w)
        if number is not None:
            self.power["profiles"] = self.profiles("-ge")
            blocks = self.power["profiles"] or [{}]
            bad = [index for index, block in enumerate(blocks) if number not in block]
            if bad:
                told = ", ".join(sorted({name for block in blocks for name in block.values()})) or "none"
                self.faults.append(
                    f"POWER-PROFILE: {self.params['profile']} was requested and {told} is enforced on GPUs "
                    f"{', '.join(map(str, bad))}; a profile of higher priority holds it (Redfish or another request): "
                    "see `nvidia-smi power-profiles -gr -ge`"
                )

    # kernel

    def governor(self, governor):
        if not governor:
            self.notes.append("the CPUs have no frequency governor to set") if self.params["governor"] else None
            return
        if not self.check and self.booted and not self.params["waits"]:
            bad = self.other_governors(governor)
            if bad:
                self.faults.append(f"GOVERNOR: CPUs run with {', '.join(bad)}, wanted: {governor}; see `{UNIT}`'s log")

    def other_governors(self, governor):
        found = {(self.read_path(path) or "").strip() for path in glob.glob(self.path(GOVERNORS))}
        return sorted(found - {governor}) if governor else []

    def sysctl(self):
        wanted = {}
        if self.params["hugepages"]:
            wanted["vm.nr_hugepages"] = str(self.params["hugepages"])
        if any(entry["argument"] == "numa_balancing=disable" for entry in self.params["kernel_arguments"]):
            wanted["kernel.numa_balancing"] = "0"
        text = MANAGED + "".join(f"{key} = {value}\n" for key, value in wanted.items()) if wanted else None
        self.put(SYSCTL, text)
        for key, value in wanted.items():
            file = "proc/sys/" + key.replace(".", "/")
            now = (self.read(file) or "").strip()
            if now and now != value and self.change(f"{key} = {value}"):
                self.runner(["sysctl", "--quiet", "--write", f"{key}={value}"], self.timeout_s)
            now = (self.read(file) or "").strip()
            if now and now != value and not self.check:
                fix = (
                    "memory is too scattered: reboot the node"
                    if key == "vm.nr_hugepages"
                    else "see `sysctl -w` by hand"
                )
                self.faults.append(f"SYSCTL: {key} is {now}, wanted: {value}; {fix}")

    def kernel_line(self):
        """Arguments go to the boot loader; what is not on the running line is a reason for a reboot."""
        wanted = self.params["kernel_arguments"]
        odd = [entry["argument"] for entry in wanted if not re.fullmatch(r"[\w.,:=+@/-]+", entry["argument"])]
        if odd:
            self.faults.append(f"KERNEL-LINE: {', '.join(odd)} is no kernel argument; write name=value without quotes")
            return
        arguments = [entry["argument"] for entry in wanted]
        if shutil.which("grubby") and os.path.isdir(self.path("boot/loader/entries")):
            self.grubby(arguments)
        elif shutil.which("update-grub"):
            self.grub(arguments)
        elif missing_arguments(self.read("proc/cmdline") or "", wanted):
            self.faults.append(
                f"KERNEL-LINE: the boot loader is neither GRUB nor grubby's; add `{' '.join(arguments)}` to the kernel "
                "line by hand and reboot"
            )
            return
        for entry in missing_arguments(self.read("proc/cmdline") or "", wanted):
            self.reasons.append(f"kernel argument {entry['argument']} is not in force yet: {entry['reason']}")
        checks = [{"kind": "argument", **entry} for entry in wanted]
        self.put(REBOOT, json.dumps(checks, indent=2) + "\n" if checks else None)

    def grub(self, arguments):
        config = "boot/grub/grub.cfg"
        changed = self.put(GRUB, grub_file(arguments))
        stale = not_in_grub(self.read(config) or "", arguments) if arguments else []
        if (changed or stale) and self.change("update-grub"):
            code, out = self.runner(["update-grub"], UNIT_S)
            stale = not_in_grub(self.read(config) or "", arguments) if arguments else []
            if code or stale:
                told = " ".join(out.split())[-200:]
                self.faults.append(
                    f"KERNEL-LINE: update-grub left /{config} without {' '.join(stale) or 'a result'} ({code}): "
                    f"{told}; see /{GRUB} and /etc/default/grub"
                )

    def grubby(self, arguments):
        ours = json.loads(self.read(GRUBBY_MEMORY) or "[]")
        kernels = grubby_arguments(self.runner(["grubby", "--info=ALL"], self.timeout_s)[1])
        add = [argument for argument in arguments if any(argument not in words for words in kernels)]
        drop = [
            argument for argument in ours if argument not in arguments and any(argument in words for words in kernels)
        ]
        if add and self.change("kernel line + " + " ".join(add)):
            self.runner(["grubby", "--update-kernel=ALL", f"--args={' '.join(add)}"], UNIT_S)
        if drop and self.change("kernel line - " + " ".join(drop)):
            self.runner(["grubby", "--update-kernel=ALL", f"--remove-args={' '.join(drop)}"], UNIT_S)
        self.put(GRUBBY_MEMORY, json.dumps(arguments) + "\n" if arguments else None)
        if add and not self.check:
            kernels = grubby_arguments(self.runner(["grubby", "--info=ALL"], self.timeout_s)[1])
            left = [
                argument for argument in arguments if not kernels or any(argument not in words for words in kernels)
            ]
            if left:
                self.faults.append(
                    f"KERNEL-LINE: grubby left a kernel without {' '.join(left)}; see `grubby --info=ALL`"
                )

    # tools

    def path(self, relative):
        return os.path.join(self.root, relative)

    def read(self, relative):
        return self.read_path(self.path(relative))

    @staticmethod
    def read_path(path):
        try:
            with open(path, encoding="utf-8", errors="replace") as stream:
                return stream.read()
        except OSError:
            return None

    def change(self, text):
        """Notes a change; true when it is to be made."""
        self.changes.append(text)
        return not self.check

    def put(self, relative, text):
        """Writes the file when it differs (None removes it); true when it did."""
        if self.read(relative) == text:
            return False
        path = self.path(relative)
        if not self.change(path if text is not None else f"- {path}"):
            return True
        if text is None:
            os.unlink(path)
            return True
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        temporary = f"{path}.aifactory-{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.rename(temporary, path)
        return True

    def show(self, unit):
        names = "ActiveState,UnitFileState,MainPID"
        out = self.runner(["systemctl", "show", f"--property={names}", unit], self.timeout_s)[1]
        state = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        return {name: state.get(name, "") for name in names.split(",")}

    def reload(self):
        if self.booted and not self.check:
            self.runner(["systemctl", "daemon-reload"], self.timeout_s)

    def enable(self, unit):
        if not self.show(unit)["UnitFileState"].startswith("enabled") and self.change(f"enable {unit}"):
            self.runner(["systemctl", "enable", unit], self.timeout_s)

    def restart(self, unit):
        if not self.change(f"start {unit}"):
            return
        self.runner(["systemctl", "reset-failed", unit], self.timeout_s)
        code, out = self.runner(["systemctl", "restart", unit], UNIT_S)
        if code == 0:
            return
        log = self.runner(["journalctl", "--unit", unit, "--lines=5", "--output=cat", "--no-pager"], self.timeout_s)[1]
        words = " | ".join(line.strip() for line in log.splitlines()[-3:] if line.strip())
        self.faults.append(
            f"UNIT: {unit} does not start ({'no answer' if code is None else code}): {words or out.strip()}"
        )


def main():
    argument = {"argument": {"type": "str", "required": True}, "reason": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "vendor": {"type": "str", "choices": ["nvidia", "amd"], "required": True},
            "cap_w": {"type": "int", "default": 0},
            "profile": {"type": "str", "default": ""},
            "governor": {"type": "str", "default": "performance"},
            "hugepages": {"type": "int", "default": 0},
            "kernel_arguments": {"type": "list", "elements": "dict", "default": [], "options": argument},
            "waits": {"type": "str", "default": ""},
            "command_timeout_s": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    node = Tuning(module.params, module.check_mode)
    try:
        node.converge()
    except PowerError as error:
        changed = bool(node.changes) and not module.check_mode
        module.fail_json(msg=str(error), changed=changed, reboot_reasons=node.reasons)
    after = "".join(f"{change}\n" for change in node.changes)
    module.exit_json(
        changed=bool(node.changes), diff={"before": "", "after": after} if after else {},
        msg="; ".join([*node.notes, *node.reasons]), power=node.power, notes=node.notes, reboot_reasons=node.reasons,
    )  # fmt: skip


if __name__ == "__main__":
    main()
