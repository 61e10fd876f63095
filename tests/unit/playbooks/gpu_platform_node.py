"""A described node for the tests of gpu_platform: its files in a folder, its programs answered from the description."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from aifactory import catalog, paths

from tests.roles import platforms_tree

Platform = platforms_tree.Platform
Found = dict[str, Any]


def module() -> Any:
    """The module's functions."""
    spec = importlib.util.spec_from_file_location("gpu_platform", paths.PLAYBOOKS / "library/gpu_platform.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


gpu_platform: Any = module()


def expected(platform: Platform) -> Found:
    """What the plan promises of the description's shape; unknown is 0."""
    shape, gpu = catalog.shapes()[platform["shape"]], catalog.gpus()[platform["kind"]]
    known = [{"pci_id": i, "key": row.key, "name": row.name} for row in catalog.gpus().values() for i in row.pci_ids]
    row = {
        "key": gpu.key,
        "name": gpu.name,
        "pci_ids": list(gpu.pci_ids),
        "needs_nvlsm": gpu.needs_nvlsm,
        "pcie_gt_s": gpu.pcie_gt_s or 0,
        "pcie_width": gpu.pcie_width or 0,
    }
    nics = {"count": shape.nics or 0, "gbit_s": shape.nic_gbit_s or 0, "kind": platform.get("fabric", shape.fabric)}
    return {"gpus_per_node": shape.gpus, "platform": row, "nics": nics, "known": known}


def programs(platform: Platform, absent: Iterable[str] = ()) -> Callable[[list[str]], tuple[int | None, str]]:
    """Stands in for gpu_platform.run."""

    def run(command: list[str]) -> tuple[int | None, str]:
        name = command[0]
        if name in absent:
            return None, ""
        if name == "lspci":
            listing = platforms_tree.lspci_text if command[1:] == ["-Dnn"] else platforms_tree.lspci_bridges_text
            return 0, listing(platform)
        answers = {
            "uname": (0, f"{platform['kernel']} {platform['arch']}\n"),
            "mokutil": (0, f"SecureBoot {platform['secure_boot']}\n"),
            "systemd-detect-virt": (0 if platform["virtual"] else 1, ""),
        }
        return answers[name]

    return run


class Node:
    """The description `name` with faults, in a folder."""

    def __init__(self, folder: Path, name: str, faults: Iterable[str] = (), **changes: Any) -> None:
        self.platform = {**platforms_tree.with_faults(platforms_tree.load(name), faults), **changes}
        self.folder = folder
        self.absent: set[str] = set()
        platforms_tree.materialize(self.platform, folder)

    def read(self, promised: Found | None = None) -> Found:
        before = gpu_platform.run
        gpu_platform.run = programs(self.platform, self.absent)
        try:
            found: Found = gpu_platform.read(
                str(self.folder), expected(self.platform) if promised is None else promised
            )
        finally:
            gpu_platform.run = before
        return found

    def judge(self, promised: Found | None = None, unsigned_modules: bool = False) -> list[Found]:
        promised = expected(self.platform) if promised is None else promised
        told: list[Found] = gpu_platform.judge(self.read(promised), promised, unsigned_modules)
        return told

    def checks(self, promised: Found | None = None) -> list[tuple[str, str]]:
        """(check, place) of every mismatch."""
        return [(entry["check"], entry["place"]) for entry in self.judge(promised)]
