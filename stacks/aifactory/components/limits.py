"""What a plan may ask for and this version cannot bring up yet: said before the engine starts."""

from __future__ import annotations

from collections.abc import Iterator

from aifactory import catalog
from aifactory.components.access import makes_nodes
from aifactory.components.role_vars import repositories
from aifactory.errors import Problem
from aifactory.plan.model import AwsPlan, RegionPlan
from aifactory.region.spec import AwsProvider, Ingress, Region, Slo

MADE = ("object", "lustre")
"""Storage that a cloud makes."""


def problems(plan: RegionPlan) -> tuple[Problem, ...]:
    """Everything that stops this plan from being brought up by this version; empty = it can be."""
    return tuple(_found(plan))


def unheeded(spec: Region) -> tuple[Problem, ...]:
    """Everything that the file asks for and this version would leave undone without a word; empty = nothing."""
    found: list[tuple[str, str, str | None]] = []
    if spec.platform.kind != "hosts":
        found.append(("platform.kind", "runs services on hosts only", "hosts"))
    cloud = isinstance(spec.provider, AwsProvider)
    if spec.network.egress and not cloud:
        found.append(("network.egress", "does not restrict what leaves the nodes", None))
    if spec.network.ingress != Ingress() and not cloud:
        found.append(("network.ingress.api", "does not restrict who reaches the front door", None))
    for i, item in enumerate(spec.storage):
        if not cloud or item.kind not in MADE:
            found.append((f"storage[{i}]", "neither makes nor mounts storage of this kind here", None))
        elif item.mount is not None:
            found.append((f"storage[{i}].mount", "makes the file system and does not mount it on nodes", None))
    found += [
        (f"services[{i}].slo", "does not measure service level objectives", None)
        for i, service in enumerate(spec.services)
        if service.slo != Slo()
    ]
    if spec.acceptance.level not in (None, "l0", "l1"):
        found.append(("acceptance.level", "proves SSH, units and a completion", "l0, l1"))
    return tuple(
        Problem("UP-004", f"This version {does}.", path=path, allowed=allowed, fix=None if allowed else "leave it out")
        for path, does, allowed in found
    )


def _found(plan: RegionPlan) -> Iterator[Problem]:
    if makes_nodes(plan) and not plan.container_engine and plan.aws is None:
        yield Problem(
            "UP-001",
            f"This version plans regions of provider {plan.provider} but does not make their nodes.",
            path="provider.kind",
            allowed="local, static, aws",
        )
    if plan.aws is not None:
        yield from _cloud(plan, plan.aws)
    signed = {r.name for r in plan.repositories if r.fingerprint}
    for index, pool in enumerate(plan.pools):
        for name in sorted(set(repositories(plan, pool)) - signed):
            yield Problem(
                "UP-002",
                f"Nobody has said which key signs the packages of {name}, which pool {pool.name} needs.",
                path=f"pools[{index}].shape",
                fix=f"software.repositories.{name}.fingerprint: the key's 40 hex digits; read them with "
                "gpg --show-keys FILE and compare them with what the vendor publishes",
            )
    for index, pool in enumerate(plan.pools):
        if pool.gpu_kind and catalog.gpus()[pool.gpu_kind].vendor == "amd" and plan.rocm_version is None:
            yield Problem(
                "UP-005",
                f"Nobody has said which ROCm pool {pool.name} gets: this version has no default for AMD GPUs.",
                path=f"pools[{index}].shape",
                fix='software.rocm_version: a version that AMD supports on the hosts\' distribution, as "6.4.4"',
            )
    for index, service in enumerate(plan.services):
        if service.model_file is None or service.model_sha256 is None:
            yield Problem(
                "UP-003",
                f"This version serves only models that it makes itself; {service.model} is not one.",
                path=f"services[{index}].model",
            )


def _cloud(plan: RegionPlan, aws: AwsPlan) -> Iterator[Problem]:
    if not aws.ssh_from:
        yield Problem(
            "UP-006",
            "Nobody may reach the nodes' SSH, so nothing on them could be configured.",
            path="provider.ssh.source",
            fix="the network of the jump host, or of this machine: source: [10.30.0.0/24]",
        )
    for index, (pool, made) in enumerate(zip(plan.pools, aws.pools, strict=True)):
        if made.image.value is None:
            yield Problem(
                "UP-007",
                f"Nobody has said which image the nodes of pool {pool.name} start from.",
                path="front_door.image" if pool.purpose == "front" else f"pools[{index}].image",
                fix="the id of an image in that cloud region with cloud-init and Python 3: ami-…",
            )
