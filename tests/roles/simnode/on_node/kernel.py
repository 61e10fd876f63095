"""Kernel modules, DKMS, the kernel log, Secure Boot, initial RAM disk and boot menu."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from . import core, sysfs
from .core import KERNEL, MODULES, View

INBOX = (
    "mlx5_core", "mlx5_ib", "ib_core", "ib_uverbs", "ib_umad", "ib_ipoib", "ib_cm", "rdma_cm", "rdma_ucm", "efa",
    "nouveau", "amdgpu", "overlay", "br_netfilter", "dummy", "vfio_pci", "msr", "ipmi_devintf", "ipmi_si",
)  # fmt: skip
NEEDS = {
    "mlx5_ib": ("mlx5_core", "ib_core", "ib_uverbs"), "ib_umad": ("ib_core",), "ib_uverbs": ("ib_core",),
    "efa": ("ib_core", "ib_uverbs"), "rdma_ucm": ("rdma_cm", "ib_uverbs"), "rdma_cm": ("ib_core", "ib_cm"),
    "ib_ipoib": ("ib_core",), "nvidia_uvm": ("nvidia",), "nvidia_modeset": ("nvidia",),
    "nvidia_drm": ("nvidia", "nvidia_modeset"), "nvidia_peermem": ("nvidia", "ib_core"),
}  # fmt: skip
DKMS = Path("/var/lib/dkms")
DKMS_TARGET = MODULES / "updates/dkms"
OPEN_ONLY = {"2901", "3182", "2941", "31c2", "2bb1", "2bb4", "2bb5", "2bb9", "2e12", "2342", "2348"}
"""GPUs that the proprietary kernel module does not drive."""
FIRST_DRIVER = {"3182": (580, 82, 7), "31c2": (580, 82, 7)}
"""GPUs newer than the oldest driver in the tests' repository."""
MODPROBE_FOLDERS = ("/etc/modprobe.d", "/run/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d")


def run(name: str, arguments: list[str]) -> int:
    return {
        "modprobe": modprobe, "insmod": modprobe, "rmmod": rmmod, "lsmod": lsmod, "modinfo": modinfo,
        "depmod": depmod, "dkms": dkms, "dmesg": dmesg, "journalctl": journalctl, "mokutil": mokutil,
        "update-initramfs": update_initramfs, "update-grub": update_grub, "nvidia-modprobe": nvidia_modprobe,
        "systemd-detect-virt": detect_virt,
    }[name](arguments)  # fmt: skip


# -- modules


def plain(name: str) -> str:
    return name.replace("-", "_")


def configuration() -> list[list[str]]:
    """Lines of modprobe's configuration, in words; a file of a name hides the same name further back."""
    files: dict[str, Path] = {}
    for folder in MODPROBE_FOLDERS:
        for path in Path(folder).glob("*.conf"):
            files.setdefault(path.name, path)
    lines = [line for _, path in sorted(files.items()) for line in path.read_text(encoding="utf-8").splitlines()]
    return [words for line in lines if (words := line.split("#")[0].split())]


def blacklisted(name: str) -> bool:
    return any(words[0] == "blacklist" and plain(words[1]) == plain(name) for words in configuration() if words[1:])


def options(name: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for words in configuration():
        if words[0] == "options" and plain(words[1]) == plain(name):
            found.update(dict(word.partition("=")[::2] for word in words[2:]))
    return found


def module_file(name: str) -> tuple[str, dict[str, Any]] | None:
    """(file, what is in it); inbox modules have a name of a file only."""
    path = DKMS_TARGET / f"{name.replace('_', '-') if name.startswith('nvidia') else name}.ko"
    if path.exists():
        return str(path), json.loads(path.read_text(encoding="utf-8"))
    if core.view().has("no-module", name):
        return None
    if name in INBOX:
        return str(MODULES / f"kernel/drivers/{name}.ko.xz"), {"license": "GPL"}
    if (sysfs.REAL / "module" / name).exists():
        return "(builtin)", {"license": "GPL"}
    return None


class LoadError(Exception):
    pass


def load(name: str, given: dict[str, str], *, quiet: bool = False) -> None:
    """Loads a module and what it needs. Raises LoadError with modprobe's words, unless `quiet`."""
    try:
        _load(plain(name), given)
    except LoadError:
        if not quiet:
            raise


def _load(name: str, given: dict[str, str]) -> None:
    found = module_file(name)
    if found is None:
        raise LoadError(f"modprobe: FATAL: Module {name} not found in directory {MODULES}")
    if found[0] == "(builtin)":
        return
    view = core.view()
    if name in view.modules:
        return
    for needed in NEEDS.get(name, ()):
        _load(needed, {})
    content = found[1]
    refused = _refused(view, name, content)
    if refused:
        raise LoadError(f"modprobe: ERROR: could not insert '{name}': {refused}")
    parameters = {**options(name), **given}
    with core.changing() as now:
        now.modules[name] = {"version": content.get("version", ""), "parameters": parameters, "size": 16384}
        now.modules[name]["srcversion"] = srcversion(name, content)
        for needed in NEEDS.get(name, ()):
            if needed in now.modules:
                now.modules[needed]["used"] = now.modules[needed].get("used", 0) + 1
        if name == "nvidia":
            now.modules[name] |= {"open": content["open"], "peermem": content["peermem"], "size": 14761984}
            now.state["limits"], now.state["fabric"] = {}, None
            _nvidia_says(now, content)
        if name == "nvidia_uvm":
            now.modules[name]["parameters"].setdefault("uvm_disable_hmm", "N")
    sysfs.refresh()


def _refused(view: View, name: str, content: dict[str, Any]) -> str:
    """Why the kernel does not take the module; empty when it does."""
    if "signed" in content and view.secure_boot and not view.has("mok-enrolled"):
        core.kernel_says(f"Loading of module {name} is rejected: the key is not in a keyring of the kernel")
        return "Key was rejected by service"
    gpus = [gpu for gpu in view.usable if gpu["id"].startswith(core.NVIDIA)]
    if name == "nvidia" and "nouveau" in view.modules:
        core.kernel_says("NVRM: GPU is already bound to nouveau.")
        return "No such device"
    if name == "nvidia" and not gpus:
        core.kernel_says("NVRM: No NVIDIA GPU found.")
        return "No such device"
    if name == "nvidia_peermem" and not view.modules.get("nvidia", {}).get("peermem"):
        return "Invalid argument"
    return ""


def _nvidia_says(view: View, content: dict[str, Any]) -> None:
    flavour = "Open Kernel Module for x86_64" if content["open"] else "x86_64 Kernel Module"
    core.kernel_says("nvidia-nvlink: Nvlink Core is being initialized, major device number 234")
    core.kernel_says(f"NVRM: loading NVIDIA UNIX {flavour}  {content['version']}  Release Build")
    for gpu in view.usable:
        problem = unsupported(gpu, content)
        if problem:
            core.kernel_says(f"NVRM: {problem}")


def unsupported(gpu: dict[str, Any], module: dict[str, Any]) -> str:
    """Why the loaded module does not drive the GPU; empty when it does."""
    number = gpu["id"].partition(":")[2]
    version = tuple(int(part) for part in module["version"].split("."))
    if number not in OPEN_ONLY and number.endswith("fff"):
        return f"The NVIDIA GPU {gpu['bdf']} (PCI ID: {gpu['id']}) is not supported by this driver release."
    if version < FIRST_DRIVER.get(number, (0,)):
        release = f"the NVIDIA {module['version']} driver release"
        return (
            f"The NVIDIA GPU {gpu['bdf']} (PCI ID: {gpu['id']}) installed in this system is not supported by {release}."
        )
    if number in OPEN_ONLY and not module.get("open", True):
        return (
            f"installed in this system requires use of the NVIDIA open kernel modules. ({gpu['bdf']})"
            " RmInitAdapter failed! (0x22:0x56:884)"
        )
    return ""


def modprobe(arguments: list[str]) -> int:
    words = [word for word in arguments if not word.startswith("-")]
    flags = {word for word in arguments if word.startswith("-")}
    if flags & {"-V", "--version"}:
        print("kmod version 34")
        return 0
    if flags & {"-c", "--showconfig"}:
        print("\n".join(" ".join(line) for line in configuration()))
        return 0
    if not words:
        print("modprobe: ERROR: missing parameters. See -h.", file=sys.stderr)
        return 1
    quiet = bool(flags & {"-q", "--quiet"})
    if flags & {"-r", "--remove"}:
        return rmmod(words)
    every = words if flags & {"-a", "--all"} else words[:1]
    given = {} if len(every) > 1 else dict(word.partition("=")[::2] for word in words[1:])
    if flags & {"-n", "--dry-run", "--show", "--resolve-alias"}:
        return 0 if all(module_file(plain(name)) for name in every) else 1
    worst = 0
    for name in every:
        if flags & {"-b", "--use-blacklist"} and blacklisted(name):
            continue
        try:
            load(name, given)
        except LoadError as error:
            worst = 1
            if not quiet:
                print(error, file=sys.stderr)
    return worst


def depmod(_arguments: list[str]) -> int:
    """Writes the list of the modules that were built here, in place of the one that was there."""
    lines = [f"updates/dkms/{path.name}:\n" for path in sorted(DKMS_TARGET.glob("*.ko"))]
    part = MODULES / "modules.dep.part"
    part.write_text("".join(lines), encoding="utf-8")
    part.replace(MODULES / "modules.dep")
    return 0


def rmmod(arguments: list[str]) -> int:
    """Takes dependents along as `modprobe -r` does only for what is not in use."""
    worst = 0
    for name in (plain(word) for word in arguments if not word.startswith("-")):
        view = core.view()
        if name not in view.modules:
            continue
        dependents = [other for other, needed in NEEDS.items() if name in needed and other in view.modules]
        users = [daemon for daemon in ("nvidia-persistenced", "nv-fabricmanager") if core.alive(daemon)]
        if dependents or (name.startswith("nvidia") and users):
            print(f"modprobe: FATAL: Module {name} is in use.", file=sys.stderr)
            worst = 1
            continue
        with core.changing() as now:
            del now.modules[name]
            for needed in NEEDS.get(name, ()):
                if needed in now.modules:
                    now.modules[needed]["used"] -= 1
        sysfs.refresh()
    return worst


def lsmod(_arguments: list[str]) -> int:
    modules = core.view().modules
    print(f"{'Module':<20}{'Size':>10}  Used by")
    for name, loaded in reversed(modules.items()):
        users = ",".join(other for other, needed in NEEDS.items() if name in needed and other in modules)
        print(f"{name:<20}{loaded.get('size', 16384):>10}  {loaded.get('used', 0)} {users}".rstrip())
    return 0


def modinfo(arguments: list[str]) -> int:
    field, words, rest = "", [], iter(arguments)
    for word in rest:
        if word in ("-F", "--field"):
            field = next(rest, "")
        elif word.startswith("--field="):
            field = word.partition("=")[2]
        elif word in ("-k", "--set-version", "-b", "--basedir"):
            if next(rest, KERNEL) != KERNEL and word in ("-k", "--set-version"):
                print(f"modinfo: ERROR: Module {arguments[-1]} not found.", file=sys.stderr)
                return 1
        elif word in ("-n", "--filename"):
            field = "filename"
        elif not word.startswith("-"):
            words.append(word)
    worst = 0
    for word in words:
        found = module_file(plain(word))
        if found is None:
            print(f"modinfo: ERROR: Module {word} not found.", file=sys.stderr)
            worst = 1
            continue
        fields = {"filename": found[0], **_fields(plain(word), found[1])}
        if field:
            print(fields[field]) if field in fields else None
        else:
            print("\n".join(f"{key + ':':<16}{value}" for key, value in fields.items()))
    return worst


def srcversion(name: str, content: dict[str, Any]) -> str:
    """Changes with the sources that a module was built from."""
    return hashlib.sha256(f"{name}{content.get('version')}{content.get('open')}".encode()).hexdigest()[:23].upper()


def _fields(name: str, content: dict[str, Any]) -> dict[str, str]:
    fields = {"version": content.get("version", ""), "license": content.get("license", "GPL")}
    fields |= {
        "srcversion": srcversion(name, content),
        "depends": ",".join(NEEDS.get(name, ())),
        "name": name,
        "retpoline": "Y",
    }
    fields["vermagic"] = f"{KERNEL} SMP preempt mod_unload modversions "
    if "signed" in content:
        fields |= {"signer": "DKMS module signing key", "sig_hashalgo": "sha512"}
    return {key: value for key, value in fields.items() if value or key == "depends"}


def nvidia_modprobe(arguments: list[str]) -> int:
    """Loads the modules and makes the device files, as NVIDIA's setuid helper does. `-u`: unified memory too."""
    try:
        load("nvidia", {})
        if any(word.startswith("-") and "u" in word for word in arguments):
            load("nvidia_uvm", {})
    except LoadError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


# -- DKMS

FAMILY = ("nvidia", "nvidia-uvm", "nvidia-modeset", "nvidia-drm", "nvidia-peermem")


def dkms(arguments: list[str]) -> int:
    verb, module, version, kernel, rest = "", "", "", KERNEL, iter(arguments)
    for word in rest:
        if word in ("-m", "-v", "-k", "-a", "--arch"):
            value = next(rest, "")
            module, version, kernel = (
                (value, version, kernel) if word == "-m"
                else (module, value, kernel) if word == "-v"
                else (module, version, value) if word == "-k"
                else (module, version, kernel)
            )  # fmt: skip
        elif word == "--version":
            print("dkms-3.2.2")
            return 0
        elif not word.startswith("-"):
            verb, target = (word, "") if not verb else (verb, word)
            module, version = target.partition("/")[::2] if target else (module, version)
    kernel = kernel.partition("/")[0]
    if verb in ("", "status"):
        return _dkms_status(module, version, kernel if "-k" in arguments else "")
    every = [(module, version)] if module else _dkms_known()
    if verb == "add":
        (DKMS / module / version / "source").parent.mkdir(parents=True, exist_ok=True)
        (DKMS / module / version / "source").unlink(missing_ok=True)
        (DKMS / module / version / "source").symlink_to(f"/usr/src/{module}-{version}")
        return 0
    if verb in ("remove", "uninstall"):
        return _dkms_remove(module, version, entirely=verb == "remove")
    if verb in ("build", "install", "autoinstall"):
        return max((_dkms_install(*one, kernel, install=verb != "build") for one in every), default=0)
    print(f"Error! Unknown action specified: {verb}", file=sys.stderr)
    return 4


def _dkms_known() -> list[tuple[str, str]]:
    return sorted((path.parent.parent.name, path.parent.name) for path in DKMS.glob("*/*/source"))


def _dkms_status(module: str, version: str, kernel: str) -> int:
    for name, number in _dkms_known():
        if module not in ("", name) or version not in ("", number):
            continue
        built = sorted((DKMS / name / number).glob("*/x86_64"))
        if not built and not kernel:
            print(f"{name}/{number}: added")
        for place in built:
            if kernel in ("", place.parent.name):
                state = "installed" if (place / "installed").exists() else "built"
                print(f"{name}/{number}, {place.parent.name}, x86_64: {state}")
    return 0


def _dkms_install(module: str, version: str, kernel: str, *, install: bool) -> int:
    source = Path(f"/usr/src/{module}-{version}")
    if not (source / "dkms.conf").exists():
        print(f"Error! Could not find module source directory. Directory: {source} does not exist.", file=sys.stderr)
        return 2
    place = DKMS / module / version / kernel / "x86_64"
    if (place / "installed").exists():
        return 0
    if not Path(f"/lib/modules/{kernel}/build/Makefile").exists():
        print(
            f"Error! Your kernel headers for kernel {kernel} cannot be found at /lib/modules/{kernel}/build"
            f" or /lib/modules/{kernel}/source.\nPlease install the linux-headers-{kernel} package or use the"
            " --kernelsourcedir option to tell DKMS where it's located.", file=sys.stderr,
        )  # fmt: skip
        return 21
    if core.view().has("dkms-fails"):
        print(
            f"Error! Bad return status for module build on kernel: {kernel} (x86_64)\nConsult"
            f" /var/lib/dkms/{module}/{version}/build/make.log for more information.", file=sys.stderr,
        )  # fmt: skip
        return 10
    place.mkdir(parents=True, exist_ok=True)
    print(f"Building module(s)... done.\nSigning module {place}/module/{module}.ko")
    if install:
        (place / "installed").touch()
        _dkms_write(module, version, source, Path(f"/lib/modules/{kernel}/updates/dkms"))
        print("Running depmod... done.")
    return 0


def _dkms_write(module: str, version: str, source: Path, target: Path) -> None:
    """The module files; a newer version takes the place of the older."""
    target.mkdir(parents=True, exist_ok=True)
    is_open = "open" in (source / "dkms.conf").read_text(encoding="utf-8")
    content = {
        "version": version,
        "license": "Dual MIT/GPL" if is_open else "NVIDIA",
        "signed": "DKMS",
        "open": is_open,
    }
    content["peermem"] = Path("/usr/src/ofa_kernel").exists()
    for name in FAMILY if module == "nvidia" else (module,):
        (target / f"{name}.ko").write_text(json.dumps(content), encoding="utf-8")
    depmod([])
    for other in (DKMS / module).glob("*/*/x86_64/installed"):
        if other.parents[2].name != version and other.parents[1].name == target.parents[1].name:
            other.unlink()


def _dkms_remove(module: str, version: str, *, entirely: bool) -> int:
    place = DKMS / module / version
    if not place.exists():
        print(
            f"Error! There are no instances of module: {module}\n{version} located in the DKMS tree.", file=sys.stderr
        )
        return 3
    in_use = any(place.glob("*/x86_64/installed"))
    for name in (FAMILY if module == "nvidia" else (module,)) if in_use else ():
        (DKMS_TARGET / f"{name}.ko").unlink(missing_ok=True)
    depmod([])
    if entirely:
        shutil.rmtree(place)
        with contextlib.suppress(OSError):
            place.parent.rmdir()
    return 0


# -- kernel log

XIDS = {
    48: "An uncorrectable double bit error (DBE) has been detected on GPU in the framebuffer at partition 4.",
    63: "Row Remapper: New row marked for remapping, reset gpu to activate.",
    74: "NVLink: fatal error detected on link 3(0x0, 0x0, 0x10000, 0x0, 0x0, 0x0, 0x0)",
    79: "GPU has fallen off the bus.",
    94: "Contained: CE User Channel (0x9). RST: No, D-RST: No",
    95: "Uncontained: FBHUB. RST: Yes, D-RST: No",
    119: "Timeout after 6s of waiting for RPC response from GPU0 GSP! Expected function 76 (GSP_RM_CONTROL).",
    154: "GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)",
}  # fmt: skip


def log() -> list[tuple[float, str]]:
    """(seconds since the boot of the machine, text), oldest first; Xid faults stand where they were written."""
    lines = []
    for line in core.KERNEL_LOG.read_text(encoding="utf-8").splitlines() if core.KERNEL_LOG.exists() else []:
        moment, _, text = line.partition(" ")
        lines.append((float(moment), text))
    view = core.view()
    when = time.clock_gettime(time.CLOCK_BOOTTIME)
    if core.FAULTS.exists():
        when -= max(time.time() - core.FAULTS.stat().st_mtime, 0)
    every = {str(index): gpu["bdf"] for index, gpu in enumerate(view.usable)}
    for index, number in view.fault("xid"):
        text = XIDS.get(int(number), "Graphics Exception: ESR 0x404490=0x80000001")
        place = every.get(index, "0000:00:00.0").rpartition(".")[0]
        lines.append((when, f"NVRM: Xid (PCI:{place}): {number}, pid='<unknown>', name=<unknown>, {text}"))
    for (hca,) in view.fault("nic-half-width"):
        nic = next((nic for nic in view.nics if nic["hca"] == hca), None)
        if nic:
            lines.append((when, f"mlx5_core {nic['bdf']}: 126.016 Gb/s available PCIe bandwidth, limited by 32.0 GT/s"
                                f" PCIe x{nic['width']} link (capable of 252.048 Gb/s)"))  # fmt: skip
    return sorted(lines)


def dmesg(arguments: list[str]) -> int:
    flags = "".join(word[1:] for word in arguments if re.fullmatch("-[a-zA-Z]+", word))
    start = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    if "J" in flags or "--json" in arguments:
        print(json.dumps({"dmesg": [{"pri": 4, "time": moment, "msg": text} for moment, text in log()]}, indent=3))
        return 0
    for moment, text in log():
        if "t" in flags or "--notime" in arguments:
            print(text)
        elif "T" in flags or "--ctime" in arguments:
            print(f"[{time.ctime(start + moment)}] {text}")
        elif "--time-format=iso" in arguments or "iso" in arguments:
            print(f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(start + moment))},000000+00:00 {text}")
        else:
            print(f"[{moment:12.6f}] {text}")
    return 0


def journalctl(arguments: list[str]) -> int:
    """The kernel's part is ours; everything else is the node's own journal."""
    flags = "".join(word[1:] for word in arguments if re.fullmatch("-[a-zA-Z]+", word))
    if not ({"-k", "--dmesg", "_TRANSPORT=kernel"} & set(arguments) or "k" in flags):
        os.execv("/usr/bin/journalctl.real", ["journalctl", *arguments])  # noqa: S606
    form = _option(arguments, "-o", "--output") or "short"
    wanted = _option(arguments, "-g", "--grep")
    start = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip().replace("-", "")
    for moment, text in log():
        if wanted and not re.search(wanted, text, re.IGNORECASE if wanted.islower() else 0):
            continue
        if form.startswith("json"):
            micro = str(int((start + moment) * 1e6))
            entry = {"MESSAGE": text, "__REALTIME_TIMESTAMP": micro, "__MONOTONIC_TIMESTAMP": str(int(moment * 1e6))}
            print(json.dumps({**entry, "_TRANSPORT": "kernel", "SYSLOG_IDENTIFIER": "kernel", "_BOOT_ID": boot}))
        elif form == "cat":
            print(text)
        else:
            stamp = "%Y-%m-%dT%H:%M:%S+00:00" if "iso" in form else "%b %d %H:%M:%S"
            print(f"{time.strftime(stamp, time.gmtime(start + moment))} {os.uname().nodename} kernel: {text}")
    return 0


def _option(arguments: list[str], short: str, long: str) -> str:
    for position, word in enumerate(arguments):
        if word in (short, long):
            return arguments[position + 1]
        if word.startswith(f"{long}="):
            return word.partition("=")[2]
        if word.startswith(short) and len(word) > len(short) and not word.startswith("--"):
            return word.removeprefix(short)
    return ""


# -- Secure Boot, initial RAM disk, boot menu


def mokutil(arguments: list[str]) -> int:
    view = core.view()
    if "--sb-state" in arguments:
        print(f"SecureBoot {'enabled' if view.secure_boot else 'disabled'}")
        return 0
    if "--test-key" in arguments:
        key = arguments[-1]
        print(f"{key} {'is already enrolled' if view.has('mok-enrolled') else 'is not enrolled'}")
        return 1 if view.has("mok-enrolled") else 0
    if "--list-enrolled" in arguments:
        print("[key 1]\nSHA1 Fingerprint: 53:61:0c:f8:1f:bd:7e:0c:eb:67:91:3c:9e:f3:e7:94:a9:63:3e:cb")
        return 0
    print(f"mokutil: unrecognized option '{' '.join(arguments)}'", file=sys.stderr)
    return 1


def detect_virt(arguments: list[str]) -> int:
    """Whether it is a virtual machine says the description; that it is a container stays true."""
    if not {"-v", "--vm"} & set(arguments):
        os.execv("/usr/bin/systemd-detect-virt.real", ["systemd-detect-virt", *arguments])  # noqa: S606
    virtual = bool(core.view().description.get("virtual"))
    if not {"-q", "--quiet"} & set(arguments):
        print("kvm" if virtual else "none")
    return 0 if virtual else 1


def update_initramfs(_arguments: list[str]) -> int:
    """Keeps what modprobe is told, as an initial RAM disk does."""
    image = Path(f"/boot/initrd.img-{KERNEL}")
    image.parent.mkdir(exist_ok=True)
    image.write_text("\n".join(" ".join(line) for line in configuration()), encoding="utf-8")
    print(f"update-initramfs: Generating {image}")
    return 0


def update_grub(_arguments: list[str]) -> int:
    """Writes the boot menu with the arguments of /etc/default/grub and its .d folder."""
    script = (
        'for f in /etc/default/grub /etc/default/grub.d/*.cfg; do if [ -e "$f" ]; then . "$f"; fi; done\n'
        "echo $GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT"
    )
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=False)
    from .boot import DEFAULT_ARGUMENTS, GRUB  # which needs this module

    print("Generating grub configuration file ...", file=sys.stderr)
    GRUB.parent.mkdir(parents=True, exist_ok=True)
    given = DEFAULT_ARGUMENTS.format(kernel=KERNEL).partition(" ")[2]
    GRUB.write_text(
        f"menuentry 'Debian GNU/Linux' {{\n\tlinux\t/boot/vmlinuz-{KERNEL} {given} {done.stdout.strip()}\n"
        f"\tinitrd\t/boot/initrd.img-{KERNEL}\n}}\n", encoding="utf-8",
    )  # fmt: skip
    print("done", file=sys.stderr)
    return 0
