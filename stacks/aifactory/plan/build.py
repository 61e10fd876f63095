"""The plan of a region: one pure function from the region file (and the catalogue) to `RegionPlan`.

No file but the catalogue's own data, no network, no clock, no environment: the same spec gives the same plan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from aifactory.errors import Problem, ProblemError
from aifactory.plan import aws, cost, defaults, fabric, front_door, model, nodes, power, services, software
from aifactory.plan.model import Derived, PoolPlan, RegionPlan
from aifactory.region.loader import LoadedRegion, digest
from aifactory.region.spec import AwsProvider, LocalProvider, Region, StaticProvider

LOGIN = "ops"
"""Login of nodes that the toolkit makes; static hosts bring their own."""

T = TypeVar("T")


def of(loaded: LoadedRegion) -> RegionPlan:
    """The plan of a region file; what cannot be planned is told with its place in the file."""
    try:
        return plan(loaded.spec)
    except ProblemError as error:
        raise ProblemError(loaded.placed(error.problems), error.code) from None


def plan(spec: Region) -> RegionPlan:
    """What the region will be. Raises one ProblemError with everything that cannot be planned."""
    own = nodes.front(spec, front_door.port(spec).value)
    pools = nodes.pools(spec, own)
    problems: list[Problem] = []
    placed = _gather(problems, lambda: services.services(spec, pools))
    draw = _gather(problems, lambda: power.region_power(pools, spec.power))
    driver = _gather(problems, lambda: (software.driver(spec.software, pools),))
    door = _gather(problems, lambda: front_door.front_door(spec, pools, placed or ()))
    network = fabric.fabric(spec, pools)
    cloud = _gather(problems, lambda: (aws.aws(spec, pools, network, door),))
    if problems or placed is None or draw is None or driver is None or cloud is None:
        raise ProblemError(problems)
    if door and own.first_port is not None:
        pools = nodes.publish_door(pools, door.nodes, own.first_port)
    ssh = spec.provider.ssh if isinstance(spec.provider, StaticProvider) else None
    jump = spec.provider.ssh if isinstance(spec.provider, AwsProvider) else ssh
    planned = RegionPlan(
        version=model.VERSION,
        region=spec.name,
        spec_digest=digest(spec),
        country=spec.jurisdiction.country,
        provider=spec.provider.kind,
        container_engine=spec.provider.engine if isinstance(spec.provider, LocalProvider) else "",
        cidr=spec.network.cidr,
        ssh_user=ssh.user if ssh else LOGIN,
        ssh_private_key=ssh.private_key if ssh else None,
        ssh_bastion=jump.bastion if jump else None,
        ssh_bastion_host_key=jump.bastion_host_key if jump else None,
        node_container_engine=spec.software.container_engine,
        driver=driver[0],
        rocm_version=spec.software.rocm_version,
        repositories=software.repositories(spec, pools),
        tuning=software.tuning(spec.tuning),
        pools=pools,
        fabric=network,
        storage=fabric.storage(spec.storage),
        services=placed,
        front_door=door,
        power=draw,
        cost=cost.cost(spec, pools),
        acceptance_level=_level(spec, pools),
        aws=cloud[0],
        defaults_taken=(),
    )
    return replace(planned, defaults_taken=defaults.taken(spec, planned))


def _gather(problems: list[Problem], step: Callable[[], T]) -> T | None:
    try:
        return step()
    except ProblemError as error:
        problems.extend(error.problems)
        return None


def _level(spec: Region, pools: tuple[PoolPlan, ...]) -> Derived[str]:
    if spec.acceptance.level is not None:
        return Derived(spec.acceptance.level, "as asked")
    if any(p.gpus_per_node for p in pools):
        return Derived("l2", "there are GPUs")
    return Derived("l1", "there are no GPUs")
