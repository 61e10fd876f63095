"""What a plan may ask for and this version cannot bring up yet: said before the engine starts."""

from __future__ import annotations

from collections.abc import Iterator

from aifactory.components.access import makes_nodes
from aifactory.errors import Problem
from aifactory.plan.model import RegionPlan


def problems(plan: RegionPlan) -> tuple[Problem, ...]:
    """Everything that stops this plan from being brought up by this version; empty = it can be."""
    return tuple(_found(plan))


def _found(plan: RegionPlan) -> Iterator[Problem]:
    if makes_nodes(plan) and not plan.container_engine:
        yield Problem(
            "UP-001",
            f"This version plans regions of provider {plan.provider} but does not make their nodes.",
            path="provider.kind",
            allowed="local, static",
        )
    for index, pool in enumerate(plan.pools):
        if pool.gpus_per_node:
            yield Problem(
                "UP-002",
                f"This version does not configure GPUs: pool {pool.name} has {pool.gpus_per_node} a node.",
                path=f"pools[{index}].shape",
                allowed="shapes without GPUs",
            )
    for index, service in enumerate(plan.services):
        if service.model_file is None or service.model_sha256 is None:
            yield Problem(
                "UP-003",
                f"This version serves only models that it makes itself; {service.model} is not one.",
                path=f"services[{index}].model",
            )
