"""`simnode boot`: what firmware and kernel do before systemd is there. `simnode refresh`: takes up changed faults."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

from . import core, kernel, sysfs
from .core import RUN

GRUB = Path("/boot/grub/grub.cfg")
BOOTS = Path("/var/log/simnode-boots")
"""One line a boot, its id."""
DEFAULT_ARGUMENTS = "BOOT_IMAGE=/boot/vmlinuz-{kernel} root=UUID=5f0c0f6e-8a6d-4c0e-9b57-1f0a3a9d2b11 ro"


def run(_name: str, arguments: list[str]) -> int:
    if arguments[:1] == ["boot"]:
        boot()
    elif arguments[:1] == ["modules-load"]:
        for module in modules_load():
            kernel.load(module, {}, quiet=True)
    elif arguments[:1] != ["refresh"]:  # main has refreshed already
        print("usage: simnode boot | refresh | modules-load", file=sys.stderr)
        return 2
    return 0


def boot() -> None:
    if sysfs.covered():
        return
    RUN.mkdir(exist_ok=True, mode=0o755)
    (RUN / "started").touch()
    core.KERNEL_LOG.touch()
    _volatile_faults_end()
    sysfs.cover()
    boot_id = f"{uuid.uuid4()}\n"
    with BOOTS.open("a", encoding="utf-8") as boots:
        boots.write(boot_id)
    sysfs.cover_file("/proc/sys/kernel/random/boot_id", boot_id.encode())
    sysfs.cover_file("/proc/cmdline", f"{arguments()}\n".encode())
    core.kernel_says(f"Linux version {core.KERNEL} (simulated)")
    sysfs.make_links(core.view())
    sysfs.tell_udev()
    _load_modules()
    sysfs.apply(core.view())
    sysfs.refresh()


def arguments() -> str:
    """Kernel arguments: those of the boot menu where update-grub has written one."""
    if GRUB.exists():
        for line in GRUB.read_text(encoding="utf-8").splitlines():
            if line.strip().startswith("linux"):
                return line.strip().partition("/")[2].partition(" ")[2].strip() or ""
    return DEFAULT_ARGUMENTS.format(kernel=core.KERNEL).partition(" ")[2] + " quiet"


def modules_load() -> list[str]:
    """Modules named in /etc/modules-load.d and its kin."""
    found = []
    for folder in ("/etc/modules-load.d", "/usr/lib/modules-load.d"):
        for path in sorted(Path(folder).glob("*.conf")):
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []  # Debian's link may dangle
            found += [line.strip() for line in lines if line.strip() and line.strip()[0] not in "#;"]
    return found


def _volatile_faults_end() -> None:
    if core.FAULTS.exists():
        lines = core.FAULTS.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not line.split() or line.split()[0] not in core.VOLATILE]
        core.FAULTS.write_text("".join(kept), encoding="utf-8")


def _load_modules() -> None:
    """What udev and systemd-modules-load bring in: drivers of the devices that are there, /etc/modules-load.d."""
    view = core.view()
    vendors = {device["id"].partition(":")[0] for device in [*view.gpus, *view.nics]}
    wanted = [name for vendor in sorted(vendors) for name in sysfs.INBOX.get(vendor, ())]
    if view.has("nouveau") and core.NVIDIA in vendors:
        wanted.append("nouveau")
    wanted += [name for vendor, name in ((core.NVIDIA, "nvidia"), (core.AMD, "amdgpu")) if vendor in vendors]
    wanted += modules_load()
    for name in wanted:
        if not kernel.blacklisted(name):
            kernel.load(name, {}, quiet=True)
