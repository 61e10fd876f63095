"""What is installed on nodes with GPUs: one driver version, and where packages come from."""

from __future__ import annotations

from aifactory import catalog
from aifactory.catalog import Driver, Repository
from aifactory.plan.lookup import row
from aifactory.plan.model import Derived, DriverPlan, PoolPlan, RepositoryPlan, TuningPlan
from aifactory.region.spec import Region, Software, Tuning
from aifactory.region.spec import Repository as RepositorySpec

DOCA = "doca"
"""Key of its repository, and the word for it in `fabric.stack`."""
GOVERNOR = "performance"
"""Source: Azure/azhpc-images sets it, the health checks of oci-hpc v3.1.0 look for it (23 Nov 2026)."""


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


def repositories(spec: Region, pools: tuple[PoolPlan, ...]) -> tuple[RepositoryPlan, ...]:
    """The vendors' repositories that nodes with these GPUs and their fabric take packages from, mirrors in place."""
    return tuple(
        _repository(row, spec.software.repositories.get(key))
        for key, row in catalog.repositories().items()
        if _is_used(row, spec, pools)
    )


def _is_used(row: Repository, spec: Region, pools: tuple[PoolPlan, ...]) -> bool:
    if row.key == DOCA:
        return bool(vendors(pools)) and spec.fabric.stack == DOCA
    return row.vendor in vendors(pools)


def _repository(row: Repository, own: RepositorySpec | None) -> RepositoryPlan:
    """A key that the region file names stands for all distributions, because a region knows its own."""
    key = own.fingerprint if own else None
    return RepositoryPlan(
        name=row.key,
        url=((own.url if own else None) or row.url).rstrip("/"),
        layout=row.layout,
        key_file=row.key_file,
        fingerprint=key or row.fingerprint,
        fingerprints=() if key else tuple(sorted(row.fingerprints.items())),
        key_files=tuple(sorted(row.key_files.items())),
        folders=tuple(sorted(row.folders.items())),
        replaces=row.replaces,
    )


def tuning(asked: Tuning) -> TuningPlan:
    """Settings of nodes with GPUs, with the governor that is taken when none is asked for."""
    return TuningPlan(asked.cpu_governor or GOVERNOR, asked.hugepages, asked.imex_channel0)


def vendors(pools: tuple[PoolPlan, ...]) -> frozenset[str]:
    """Makers of the pools' GPUs."""
    return frozenset(catalog.gpus()[p.gpu_kind].vendor for p in pools if p.gpu_kind)
