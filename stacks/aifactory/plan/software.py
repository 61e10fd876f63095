"""What is installed on nodes with GPUs: one driver version, and where packages come from."""

from __future__ import annotations

from aifactory import catalog
from aifactory.catalog import Driver
from aifactory.plan.lookup import row
from aifactory.plan.model import Derived, DriverPlan, PoolPlan, RepositoryPlan
from aifactory.region.spec import Software


def driver(software: Software, pools: tuple[PoolPlan, ...]) -> DriverPlan | None:
    """The NVIDIA driver of the region; None where no pool has NVIDIA GPUs."""
    if "nvidia" not in vendors(pools):
        return None
    asked = software.driver_branch
    if asked is None and software.driver_version:
        asked = software.driver_version.partition(".")[0]
    branch = catalog.default_driver()
    if asked is not None:
        branch = row(catalog.drivers(), asked, what="driver", path="software.driver_branch")
    return DriverPlan(
        branch=_branch(branch, asked is not None),
        version=_version(software.driver_version, branch),
        cuda_major=int(branch.cuda.partition(".")[0]) if branch.cuda else None,
        end_of_life=branch.end_of_life.isoformat() if branch.end_of_life else None,
        ended=branch.ended,
        modules=software.kernel_modules,
    )


def _branch(branch: Driver, asked: bool) -> Derived[str]:
    until = f"{branch.end_of_life:%B %Y}" if branch.end_of_life else ""
    if branch.ended:
        end = f" in {until}" if until else ""
        return Derived(branch.branch, f"as asked, but its support has ended{end}: it gets no security fixes")
    why = "as asked" if asked else "the long-term branch of the catalogue"
    return Derived(branch.branch, f"{why}, supported until {until}" if until else why)


def _version(asked: str | None, branch: Driver) -> Derived[str | None]:
    if asked is not None:
        return Derived(asked, "as asked")
    if branch.version is None:
        return Derived(None, f"the newest of branch {branch.branch} that the repository has")
    return Derived(branch.version, f"the newest of branch {branch.branch} in the catalogue")


def repositories(software: Software, pools: tuple[PoolPlan, ...]) -> tuple[RepositoryPlan, ...]:
    """The vendors' repositories that nodes with these GPUs take packages from, mirrors in their places."""
    planned = []
    for key, repository in catalog.repositories().items():
        if repository.vendor not in vendors(pools):
            continue
        mirror = software.repositories.get(key)
        planned.append(
            RepositoryPlan(
                name=key,
                url=(mirror.url if mirror else repository.url).rstrip("/"),
                layout=repository.layout,
                key_file=repository.key_file,
                fingerprint=(mirror.fingerprint if mirror else None) or repository.fingerprint,
            )
        )
    return tuple(planned)


def vendors(pools: tuple[PoolPlan, ...]) -> frozenset[str]:
    """Makers of the pools' GPUs."""
    return frozenset(catalog.gpus()[p.gpu_kind].vendor for p in pools if p.gpu_kind)
