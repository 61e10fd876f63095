"""The dict of each layer's role, out of the plan. Keys: playbooks/roles/<layer>/meta/argument_specs.yml.

Only what the plan decides stands here; the inventory completes it with the specification's defaults.
"""

from __future__ import annotations

from typing import Any

from aifactory.plan.model import PoolPlan, RegionPlan


def role_vars(plan: RegionPlan, pool: PoolPlan) -> dict[str, dict[str, Any]]:
    """Layer → dict of its role, for the layers of the pool."""
    with_gpus = pool.gpu_kind is not None
    every: dict[str, dict[str, Any]] = {
        "host": {},
        "gpu": {
            "gpus_per_node": pool.gpus_per_node,
            "kind": pool.gpu_kind or "",
            "driver_branch": plan.driver.branch.value if plan.driver and with_gpus else "",
        },
        "fabric": {
            "kind": plan.fabric.kind.value if with_gpus else "none",
            "nics_per_node": (plan.fabric.nics_per_node.value or 0) if with_gpus else 0,
        },
        "runtime": {"engine": plan.node_container_engine},
    }
    return {layer: every[layer] for layer in pool.layers}
