"""What is installed on nodes with GPUs: driver, kernel modules, where packages come from."""

from __future__ import annotations

import re
from collections.abc import Iterator

from aifactory import catalog
from aifactory.catalog import Gpu
from aifactory.region.checks.finding import Finding
from aifactory.region.checks.serving import gpu_of
from aifactory.region.shape import shown
from aifactory.region.spec import Region, Software

CUDA = re.compile(r"[0-9]{1,2}\.[0-9]{1,2}")


def driver(region: Region) -> Iterator[Finding]:
    """SPEC-055."""
    branch, cuda = region.software.driver_branch, region.software.cuda
    if cuda is not None and not CUDA.fullmatch(cuda):
        message = f"{shown(cuda)} is not a CUDA version."
        yield Finding(("software", "cuda"), message, allowed='major.minor in quotes: "13.0".')
        cuda = None
    row = catalog.drivers().get(branch) if branch is not None else None
    if row is None:
        return
    for pool in region.pools:
        _, gpu = gpu_of(region, pool.name)
        first = gpu.first_driver if gpu else None
        if gpu and first and int(row.branch) < int(first.partition(".")[0]):
            message = f"Branch {row.branch} is older than {gpu.name}, which pool {pool.name} has."
            yield Finding(("software", "driver_branch"), message, allowed=f"{first.partition('.')[0]} or later.",
                          list_command="aifactory catalog drivers")  # fmt: skip
            break
    if cuda and row.cuda and int(cuda.partition(".")[0]) > int(row.cuda.partition(".")[0]):
        message = f"Branch {row.branch} carries CUDA {row.cuda}; a newer major version does not run on it."
        yield Finding(("software", "cuda"), message, list_command="aifactory catalog drivers")


def gpu_software(region: Region) -> Iterator[Finding]:
    """SPEC-058."""
    software = region.software
    branch = software.driver_branch or catalog.default_driver().branch
    version = software.driver_version
    gpus = [(pool.name, gpu) for pool in region.pools if (gpu := gpu_of(region, pool.name)[1])]
    of_nvidia = [(pool, gpu) for pool, gpu in gpus if gpu.vendor == "nvidia"]
    if version is not None:
        if version.partition(".")[0] != branch:
            message = f"{version} is not a version of branch {branch}."
            yield Finding(("software", "driver_version"), message, fix=f'driver_branch: "{version.partition(".")[0]}"')
        for pool, gpu in of_nvidia:
            least = needed(gpu)
            if least and numbers(version) < numbers(least):
                message = f"{version} is older than what {gpu.name} needs, which pool {pool} has."
                yield Finding(("software", "driver_version"), message, allowed=f"{least} or later.")
                break
    if software.kernel_modules == "proprietary":
        row = catalog.drivers().get(branch)
        if row and row.open_modules_only:
            message = f"Branch {branch} has open kernel modules only."
            yield Finding(("software", "kernel_modules"), message, allowed="open.")
        elif found := next(((pool, gpu) for pool, gpu in of_nvidia if gpu.open_modules_required), None):
            message = f"{found[1].name}, which pool {found[0]} has, runs with open kernel modules only."
            yield Finding(("software", "kernel_modules"), message, allowed="open.")
    yield from _repositories(software)


def _repositories(software: Software) -> Iterator[Finding]:
    known = catalog.repositories()
    for key, given in software.repositories.items():
        path = ("software", "repositories", key)
        if key not in known:
            yield Finding(
                path, f"{shown(key)} is not a repository of the catalogue.", at_key=True,
                nearest=catalog.nearest(key, known), list_command="aifactory catalog repositories",
            )  # fmt: skip
        elif given.url is None and given.fingerprint is None:
            fix = "url: root of a mirror; fingerprint: 40 hex digits of its key, read with gpg --show-keys FILE"
            yield Finding(path, f"It says nothing about {known[key].name}.", at_key=True, fix=fix)


def needed(gpu: Gpu) -> str | None:
    """The earliest driver version for a GPU; None where no source says."""
    return gpu.minimum_driver or gpu.first_driver


def numbers(version: str) -> tuple[int, ...]:
    """A driver version as numbers, to compare."""
    return tuple(int(part) for part in version.split("."))
