"""The dict of each layer's role, out of the plan. Keys: playbooks/roles/<layer>/meta/argument_specs.yml.

Only what the plan decides stands here; the inventory completes it with the specification's defaults.
"""

from __future__ import annotations

from typing import Any

from aifactory import catalog
from aifactory.catalog import Gpu
from aifactory.plan import software
from aifactory.plan.model import PoolPlan, RegionPlan
from aifactory.plan.nccl import nccl

NVIDIA_REPOSITORY = "nvidia"
AMD_REPOSITORY = "amdgpu"
DOCA_REPOSITORY = software.DOCA


def role_vars(plan: RegionPlan, pool: PoolPlan) -> dict[str, dict[str, Any]]:
    """Layer → dict of its role, for the layers of the pool."""
    every: dict[str, dict[str, Any]] = {
        "host": {},
        "fabric": _fabric(plan, pool),
        "gpu": _gpu(plan, pool),
        "runtime": _runtime(plan, pool),
    }
    return {layer: every[layer] for layer in pool.layers}


def health(plan: RegionPlan, pool: PoolPlan) -> dict[str, Any]:
    """The dict of the role `health`: what the pool's nodes should be, and the catalogue's rows to judge them by."""
    if pool.gpu_kind is None:
        return {}
    gpu = catalog.gpus()[pool.gpu_kind]
    return {
        "gpus_per_node": pool.gpus_per_node,
        "vendor": gpu.vendor,
        "platform": platform(gpu),
        "nics": _nics(plan),
        "signals": [
            {"key": row.key, "vendor": row.vendor, "name": row.name, "limit": row.limit, "unit": row.unit,
             "verdict": row.verdict, "fix": row.fix, "source": catalog.source("signals", row.key, "verdict").title}
            for row in catalog.signals().values()
        ],
        "xids": [
            {"number": int(row.key), "action": row.action, "name": row.name or "",
             "source": catalog.source("xids", row.key, "action").title}
            for row in catalog.xids().values()
        ],
    }  # fmt: skip


def platform(gpu: Gpu) -> dict[str, Any]:
    """The GPU's row as roles take it: a number that is not known is 0, a text is empty."""
    return {
        "key": gpu.key,
        "name": gpu.name,
        "pci_ids": list(gpu.pci_ids),
        "architecture": gpu.architecture,
        "memory_gb": gpu.memory_gb or 0,
        "power_w": gpu.power_w or 0,
        "nvlink_links": gpu.nvlink_links or 0,
        "nvlink_link_gb_s": gpu.nvlink_link_gb_s or 0,
        "nvlink_expected": bool(gpu.nvlink_links),
        "pcie_gt_s": gpu.pcie_gt_s or 0,
        "pcie_width": gpu.pcie_width or 0,
        "first_driver": gpu.minimum_driver or gpu.first_driver or "",
        "open_modules": gpu.open_modules,
        "open_modules_required": gpu.open_modules_required,
        "needs_fabric_manager": gpu.needs_fabric_manager,
        "needs_nvlsm": gpu.needs_nvlsm,
        "needs_imex": gpu.needs_imex,
        "modprobe": dict(gpu.modprobe),
        "kernel_arguments": [{"argument": key, "reason": why} for key, why in gpu.kernel_arguments.items()],
    }


def _gpu(plan: RegionPlan, pool: PoolPlan) -> dict[str, Any]:
    if pool.gpu_kind is None:
        return {}
    gpu = catalog.gpus()[pool.gpu_kind]
    taken: dict[str, Any] = {
        "gpus_per_node": pool.gpus_per_node,
        "kind": gpu.key,
        "vendor": gpu.vendor,
        "platform": platform(gpu),
        "known": [
            {"pci_id": pci_id, "key": row.key, "name": row.name}
            for row in catalog.gpus().values()
            for pci_id in row.pci_ids
        ],
        "nics": _nics(plan),
        "repository": _repository(plan, NVIDIA_REPOSITORY if gpu.vendor == "nvidia" else AMD_REPOSITORY),
        "imex": {
            "enabled": gpu.needs_imex,
            "nodes": _rack(pool) if gpu.needs_imex else [],
            "channel0": gpu.needs_imex and plan.tuning.imex_channel0,
        },
        "power": {"cap_w": plan.power.cap_w_per_gpu or 0, "profile": plan.power.profile or ""},
        "tuning": {"cpu_governor": plan.tuning.cpu_governor, "hugepages": plan.tuning.hugepages},
    }
    if gpu.vendor == "nvidia" and plan.driver:
        taken["driver"] = {
            "branch": plan.driver.branch.value,
            "version": plan.driver.version.value or "",
            "cuda_major": plan.driver.cuda_major or 0,
            "end_of_life": plan.driver.end_of_life or "",
            "modules": plan.driver.modules,
        }
    if gpu.vendor == "amd":
        taken["driver"] = {"version": plan.rocm_version or ""}
    return taken


def _rack(pool: PoolPlan) -> list[dict[str, str]]:
    """Who shares memory with whom: every node of the pool with its rack, in the one order that all nodes write."""
    known = [(dict(node.labels).get("rack", pool.name), node.address) for node in pool.nodes if node.address]
    return [{"rack": rack, "address": address} for rack, address in sorted(known)]


def _nics(plan: RegionPlan) -> dict[str, Any]:
    fabric = plan.fabric
    if fabric.stack.value == "none":
        return {}
    return {
        "count": fabric.nics_per_node.value or 0,
        "gbit_s": fabric.line_rate_gbit_s.value or 0,
        "kind": fabric.kind.value,
    }


def _fabric(plan: RegionPlan, pool: PoolPlan) -> dict[str, Any]:
    if pool.gpu_kind is None:
        return {}
    gpu, fabric = catalog.gpus()[pool.gpu_kind], plan.fabric
    taken: dict[str, Any] = {"kind": fabric.kind.value, "stack": fabric.stack.value}
    if fabric.stack.value != "none":
        taken |= {
            "nics_per_node": fabric.nics_per_node.value or 0,
            "gbit_s": fabric.line_rate_gbit_s.value or 0,
            "gpu_pci_ids": list(gpu.pci_ids),
            "needs_nvlsm": gpu.needs_nvlsm,
        }
    if fabric.stack.value == "doca":
        taken["repository"] = _doca(plan)
    if fabric.efa_installer:
        version, sha256, url = fabric.efa_installer
        taken |= {"stack_version": version, "stack_sha256": sha256, "repository": {"url": url} if url else {}}
    told = nccl(gpu.key, fabric.kind.value, plan.provider, dict(fabric.roce)).role()
    if "nccl" in told:
        told["nccl"]["exclude_hcas"] = list(fabric.exclude_hcas)
    return taken | told


def _runtime(plan: RegionPlan, pool: PoolPlan) -> dict[str, Any]:
    taken: dict[str, Any] = {"engine": plan.node_container_engine}
    if pool.gpu_kind is None:
        return taken
    gpu = catalog.gpus()[pool.gpu_kind]
    return taken | {
        "gpus_per_node": pool.gpus_per_node,
        "vendor": gpu.vendor,
        "repository": _repository(plan, NVIDIA_REPOSITORY if gpu.vendor == "nvidia" else AMD_REPOSITORY),
        "rdma": plan.fabric.stack.value != "none",
        "imex_channels": gpu.needs_imex and plan.tuning.imex_channel0,
    }


def repositories(plan: RegionPlan, pool: PoolPlan) -> tuple[str, ...]:
    """Repositories of the catalogue that the pool's layers take packages from."""
    if pool.gpu_kind is None:
        return ()
    driver = NVIDIA_REPOSITORY if catalog.gpus()[pool.gpu_kind].vendor == "nvidia" else AMD_REPOSITORY
    return (driver, DOCA_REPOSITORY) if plan.fabric.stack.value == "doca" else (driver,)


def _repository(plan: RegionPlan, name: str) -> dict[str, Any]:
    """A repository of the plan; {} where it has none, which the role then refuses to trust.

    A key that nobody has said is an empty text: the distribution then has a key of its own, and nothing is trusted.
    """
    found = next((r for r in plan.repositories if r.name == name), None)
    if found is None:
        return {}
    return {
        "url": found.url,
        "fingerprint": found.fingerprint or "",
        "fingerprints": {distribution: key or "" for distribution, key in found.fingerprints},
    }


def _doca(plan: RegionPlan) -> dict[str, Any]:
    """The same, and what is DOCA's own way: its folders, the names of its keys, what it takes the place of."""
    found = next((r for r in plan.repositories if r.name == DOCA_REPOSITORY), None)
    if found is None:
        return {}
    return _repository(plan, DOCA_REPOSITORY) | {
        "key_file": found.key_file or "",
        "key_files": dict(found.key_files),
        "folders": dict(found.folders),
        "replaces": list(found.replaces),
    }
