"""Why a node must be restarted, read from the node itself: what its layers need against what it runs.

Layers leave their needs in /etc/aifactory/reboot.d/<layer>.json, a list of checks; the play `reboot` and the layers
themselves read them again each time, so a restart that is no longer needed is not done, and one that is needed is
found whoever caused the need. Kinds of checks:

  {"kind": "nvidia"}                                  the loaded driver is the installed one, modules and libraries
  {"kind": "module", "name": "mlx5_core"}             a loaded kernel module is the one on disk
  {"kind": "absent", "name": "nouveau", "reason": …}  a kernel module is not loaded
  {"kind": "option", "module": "nvidia", "name": "NVreg_X", "value": "1"}      the driver was loaded with an option
  {"kind": "argument", "argument": "iommu=pt", "reason": …}                    the kernel was started with an argument
  {"kind": "kernel"}                                  the kernel that runs is the one that boots

What cannot be read is compared with nothing. Standard library only.
"""

from __future__ import annotations

import glob
import json
import os
import re

FOLDER = "/etc/aifactory/reboot.d"
MODINFO_TIMEOUT_S = 20
LIBRARIES = ("usr/lib/*-linux-gnu", "usr/lib64")


def declared(root="/"):
    """Layer → its checks. Raises ValueError that names a file that is not a list of checks."""
    found = {}
    for path in sorted(glob.glob(root + FOLDER + "/*.json")):
        with open(path, encoding="utf-8") as file:
            try:
                checks = json.load(file)
            except ValueError:
                checks = None
        if not isinstance(checks, list) or not all(isinstance(check, dict) for check in checks):
            raise ValueError(f"{path} is not a list of checks: remove it and run the layer again")
        found[os.path.basename(path)[:-5]] = checks
    return found


def reasons(checks, run, root="/"):
    """Sentences, one for each check that a restart would mend. Raises ValueError for a kind that is not known."""
    found = []
    for check in checks:
        kind = KINDS.get(check.get("kind"))
        if kind is None:
            raise ValueError(f"a check of kind {check.get('kind')!r} is not known")
        found += kind(check, run, root)
    return found


def module_version(name, root="/"):
    """Version of a kernel module that is loaded; None when it is not, or has none."""
    return text(f"{root}/sys/module/{name}/version")


def installed_version(name, run, field="version"):
    """What is on disk for the kernel that runs; None when there is no such module."""
    code, out, _err = run(["modinfo", "-F", field, name], MODINFO_TIMEOUT_S)
    return out.strip() or None if code == 0 else None


def library_version(root="/"):
    """Version of the driver's user-space libraries; None without them, the newest when there are several."""
    names = [p for folder in LIBRARIES for p in glob.glob(f"{root}/{folder}/libnvidia-ml.so.[0-9]*.[0-9]*")]
    names += [p for folder in LIBRARIES for p in glob.glob(f"{root}/{folder}/libcuda.so.[0-9]*.[0-9]*")]
    return max((re.sub(r".*\.so\.", "", name) for name in names), key=natural, default=None)


def boot_kernel(run, root="/"):
    """The kernel that the boot loader starts next; None when that cannot be told (a container, a boot over the net)."""
    code, out, _err = run(["grubby", "--default-kernel"], MODINFO_TIMEOUT_S)
    if code == 0 and out.strip():
        return re.sub(r".*/vmlinuz-", "", out.strip())
    default = re.findall(r"^GRUB_DEFAULT=(.*)$", text(f"{root}/etc/default/grub") or "", re.MULTILINE)
    if default and default[-1].strip("\"' ") != "0":
        return None
    kernels = [os.path.basename(path)[len("vmlinuz-") :] for path in glob.glob(root + "/boot/vmlinuz-*")]
    return max(kernels, key=natural, default=None)


def running_kernel(run):
    return run(["uname", "-r"], MODINFO_TIMEOUT_S)[1].strip()


def _nvidia(_check, run, root):
    loaded = module_version("nvidia", root)
    if loaded is None:
        return []
    found, disk, library = [], installed_version("nvidia", run), library_version(root)
    if disk and disk != loaded:
        found.append(f"driver {loaded} is loaded, {disk} is installed")
    if library and library != loaded and not found:
        found.append(f"driver {loaded} is loaded, its libraries are {library} (Driver/library version mismatch)")
    proc = text(f"{root}/proc/driver/nvidia/version") or ""
    licence = installed_version("nvidia", run, "license") or ""
    if "NVRM version" in proc and licence and ("Open Kernel Module" in proc) != ("GPL" in licence):
        kinds = ("open", "proprietary") if "GPL" in licence else ("proprietary", "open")
        found.append(f"the {kinds[1]} kernel modules are loaded, the {kinds[0]} ones are installed")
    return found


def _module(check, run, root):
    name = check["name"]
    if not os.path.isdir(f"{root}/sys/module/{name}"):
        return []
    for field, file in (("srcversion", "srcversion"), ("version", "version")):
        loaded, disk = text(f"{root}/sys/module/{name}/{file}"), installed_version(name, run, field)
        if loaded and disk:
            return [] if loaded == disk else [f"module {name}: {field} {loaded} is loaded, {disk} is on disk"]
    return []


def _absent(check, _run, root):
    loaded = os.path.isdir(f"{root}/sys/module/{check['name']}")
    return [f"module {check['name']} is loaded: {check['reason']}"] if loaded else []


def _option(check, _run, root):
    """The driver lists its settings without their prefix: `CreateImexChannel0: 0`, texts in quotes."""
    name = check["name"].partition("NVreg_")[2] or check["name"]
    listed = text(f"{root}/proc/driver/{check['module']}/params") or ""
    now = re.findall(rf"^{re.escape(name)}: *(.*?) *$", listed, re.MULTILINE)
    now = now or [value for value in [text(f"{root}/sys/module/{check['module']}/parameters/{check['name']}")] if value]
    if not now or _plain(now[0]) == _plain(check["value"]):
        return []
    return [f"module {check['module']} is loaded with {check['name']}={_plain(now[0])}, wanted {check['value']}"]


def _argument(check, _run, root):
    given = (text(f"{root}/proc/cmdline") or "").split()
    if not given or check["argument"] in given:
        return []
    return [f"the kernel was started without {check['argument']} ({check['reason']})"]


def _kernel(_check, run, root):
    boot, now = boot_kernel(run, root), running_kernel(run)
    return [f"kernel {now} runs, {boot} boots next"] if boot and now and boot != now else []


KINDS = {
    "nvidia": _nvidia,
    "module": _module,
    "absent": _absent,
    "option": _option,
    "argument": _argument,
    "kernel": _kernel,
}


def _plain(value):
    """Y and N are how the kernel shows 1 and 0."""
    value = str(value).strip("\"'")
    return {"Y": "1", "N": "0"}.get(value, value)


def text(path):
    """Content of a small file, stripped; None when it is not there or cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def natural(version):
    """Sort key of a version: numbers as numbers."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.findall(r"\d+|[^\d.+~-]+", version)]
