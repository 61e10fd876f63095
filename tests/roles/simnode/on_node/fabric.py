"""NVLink fabric as the driver sees it: Fabric Manager, NVLSM and IMEX change it, a reload of the driver resets it."""

from __future__ import annotations

import time

from .core import View

NOT_TOLD = ("N/A", "N/A", "N/A", "N/A")
NO_CLUSTER = "00000000-0000-0000-0000-000000000000"
TRAINING_S = 1.0
"""What the fabric takes after its manager has started, unless a fault says otherwise."""


def kind(view: View) -> str:
    """none, fm (NVSwitches), nvlsm (NVLink 5), imex (a rack; its switches have managers of their own)."""
    return str(view.nvidia.get("fabric", "none"))


def told(view: View) -> tuple[str, str, str, str]:
    """(state, status, clique, cluster) as `nvidia-smi -q` has them."""
    if kind(view) == "none" or _is_ampere(view):
        return NOT_TOLD
    if not ready(view):
        return ("In Progress", "N/A", "N/A", "N/A")
    clique, cluster = view.nvidia.get("clique_id"), view.nvidia.get("cluster_uuid")
    if view.has("fabric-insufficient"):
        return ("Completed", "Insufficient Resources", "0", cluster or NO_CLUSTER)
    return ("Completed", "Success", str(clique or 0), cluster or NO_CLUSTER)


def ready(view: View) -> bool:
    """Whether GPUs may be used: without it `cuInit` returns 802."""
    if kind(view) == "none":
        return True
    since = 0.0 if kind(view) == "imex" else view.state.get("fabric")
    if view.has("fabric-stuck") or since is None:
        return False
    given = view.fault("fabric-delay")
    delay = float(given[0][0]) if given else TRAINING_S
    return bool(time.time() >= since + delay)


def manager_problem(view: View, version: str) -> str:
    """Why Fabric Manager ends at once; empty when it goes on."""
    loaded = view.modules.get("nvidia", {}).get("version")
    if not loaded:
        return "request to query NVSwitch device information failed with error: driver is not loaded."
    if loaded != version:
        return (
            f"fabric manager NVIDIA GPU driver interface version {version} don't match with driver version {loaded}."
            " Please update with matching NVIDIA driver package."
        )
    if kind(view) not in ("fm", "nvlsm"):
        return (
            "request to query NVSwitch device information from NVSwitch driver failed with error:"
            "WARNING Nothing to do [NV_WARN_NOTHING_TO_DO]"
        )
    return ""


def _is_ampere(view: View) -> bool:
    return any(gpu["id"].startswith("10de:20") for gpu in view.gpus)


def nvlink(view: View, index: int) -> list[float]:
    """GB/s of each link of a GPU, 0 for one that is down; [] without NVLink."""
    links = [float(view.nvidia.get("nvlink_gb_s", 0))] * int(view.nvidia.get("nvlink_links", 0))
    for which, number in view.fault("nvlink-down"):
        if int(which) == index:
            links[int(number)] = 0.0
    return links
