"""Finds the command by the name that the program was called by."""

from __future__ import annotations

import os
import sys
from importlib import import_module

COMMANDS = {
    "pci": ("lspci",),
    "kernel": (
        "modprobe", "insmod", "rmmod", "lsmod", "modinfo", "depmod", "dkms", "dmesg", "journalctl", "mokutil",
        "update-initramfs", "update-grub", "nvidia-modprobe", "systemd-detect-virt",
    ),
    "boot": ("simnode",),
    "smi": ("nvidia-smi",),
    "daemons": (
        "nvidia-persistenced", "nv-fabricmanager", "nvidia-fabricmanager-start.sh", "nvlsm", "nvidia-imex",
        "nvidia-imex-ctl", "nv-hostengine",
    ),
    "rdma": (
        "ibv_devinfo", "ibv_devices", "ibstat", "ibstatus", "ibdev2netdev", "rdma", "mlnx_qos", "cma_roce_tos",
        "fi_info", "sminfo", "ofed_info", "show_gids", "mst", "mlxconfig",
    ),
    "ctk": ("nvidia-ctk", "nvidia-cdi-hook", "nvidia-container-cli", "nvidia-container-runtime"),
    "dcgm": ("dcgmi",),
    "amd": ("amd-smi", "rocm-smi", "rocminfo", "amd-ctk"),
}  # fmt: skip
ALWAYS = (
    "simnode", "lspci", "modprobe", "insmod", "rmmod", "lsmod", "modinfo", "depmod", "dmesg", "journalctl", "mokutil",
    "update-initramfs", "update-grub", "systemd-detect-virt",
)  # fmt: skip
"""Commands that every node has from the start; the others come with a package."""


def names(*groups: str) -> list[str]:
    return [name for group in groups or COMMANDS for name in COMMANDS[group]]


def main(argv: list[str]) -> int:
    name = os.path.basename(argv[0])  # noqa: PTH119
    group = next((group for group, found in COMMANDS.items() if name in found), None)
    if group is None:
        print(f"simnode: no such command: {name}", file=sys.stderr)
        return 127
    os.umask(0o022)
    from . import sysfs

    sysfs.refresh()
    try:
        return int(import_module(f"on_node.{group}").run(name, argv[1:]) or 0)
    except BrokenPipeError:
        os.close(sys.stdout.fileno())
        return 0
