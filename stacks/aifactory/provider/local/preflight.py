"""What would stop a local region on this machine, found before anything is changed. Read-only, well under a second.

Rules: PRE-101 no engine · PRE-102 engine does not run · PRE-103 no permission · PRE-104 no ssh ·
PRE-105 port taken · PRE-106 address range taken · PRE-107 name taken · PRE-108 disk nearly full ·
PRE-109 too few inotify instances for so many nodes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from aifactory import naming, paths
from aifactory.errors import Problem
from aifactory.plan.model import RegionPlan
from aifactory.provider.local import driver, labels, ports, subnets
from aifactory.provider.local import engine_errors as errors
from aifactory.provider.local.engine_output import Container, Network

NEEDED_GIB = 3
"""Free space for the node image, two nodes and a model image. Source: local-region rehearsal, 2026-11: about 1.3 GB
while running, 0.4 GB of caches."""
_GIB = 1 << 30
INOTIFY_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_A_NODE = 6
"""What systemd and its kin in one node hold as root. Measured 2026-11 on Debian trixie: 61 in eleven nodes. Beyond the
limit units of a node fail to start, and the node calls itself degraded."""


def check(plan: RegionPlan, deployment: str | None) -> list[Problem]:
    """Every obstacle; what this deployment itself holds is none. `deployment` is None before the first `up`."""
    problems = []
    if shutil.which("ssh") is None:
        problems.append(Problem("PRE-104", "The ssh program is not installed.", fix="apt-get install openssh-client"))
    try:
        engine = driver.find(plan.container_engine or "auto")
        containers, networks = engine.containers({}), engine.networks()
    except errors.EngineError as error:
        return [*problems, _engine_problem(error)]
    problems += _ports(plan, deployment, containers)
    problems += _range(plan, deployment, networks)
    problems += _names(plan, deployment, containers)
    problems += _disk(plan, deployment, containers, engine.info.storage)
    problems += _watches(plan, deployment, containers)
    return problems


def _engine_problem(error: errors.EngineError) -> Problem:
    text = f"{str(error)[:1].upper()}{str(error)[1:]}."
    if isinstance(error, errors.NotInstalled):
        return Problem("PRE-101", text, path="provider.engine", fix="apt-get install podman")
    if isinstance(error, errors.NoPermission):
        return Problem(
            "PRE-103", text, path="provider.engine", fix="run as root, or add this user to the engine's group"
        )
    return Problem("PRE-102", text, path="provider.engine", fix="start it, e.g. systemctl start docker")


def _ports(plan: RegionPlan, deployment: str | None, containers: Sequence[Container]) -> Iterator[Problem]:
    own = {outside for c in containers if _is_own(c, deployment) for outside, _ in c.ports}
    for pool in plan.pools:
        for node in pool.nodes:
            for port, _ in node.publish:
                if port not in own and not ports.is_free(port):
                    holder = ports.holder(port, [c for c in containers if c.state == "running"])
                    yield Problem(
                        "PRE-105",
                        f"Port {port} of this machine, where clients are to reach {plan.region}, is taken by {holder}.",
                        path="front_door.port",
                        fix="stop it, or choose another front_door.port",
                    )


def _range(plan: RegionPlan, deployment: str | None, networks: Sequence[Network]) -> Iterator[Problem]:
    name = naming.network(plan.region)
    existing = next((n for n in networks if n.name == name), None)
    if existing and (not deployment or existing.labels.get(labels.DEPLOYMENT) != deployment):
        holder = labels.holder(existing.labels)
        yield Problem(
            "PRE-107", f"Network {name} exists already and belongs to {holder}.", path="name", fix=_REMOVE_OR_RENAME
        )
    elif taken := subnets.clash(plan.cidr, networks, name):
        yield Problem("PRE-106", f"{plan.cidr} overlaps with {taken}.", path="network.cidr", fix="choose another range")


def _names(plan: RegionPlan, deployment: str | None, containers: Sequence[Container]) -> Iterator[Problem]:
    planned = {node.name for pool in plan.pools for node in pool.nodes}
    for container in containers:
        if container.name in planned and not _is_own(container, deployment):
            yield Problem(
                "PRE-107",
                f"Container {container.name} exists already and belongs to {labels.holder(container.labels)}.",
                path="name",
                fix=_REMOVE_OR_RENAME,
            )


_REMOVE_OR_RENAME = "destroy that region where it was made, or give this one another name"


def _disk(plan: RegionPlan, deployment: str | None, containers: Sequence[Container], storage: str) -> Iterator[Problem]:
    planned = {node.name for pool in plan.pools for node in pool.nodes}
    if planned <= {c.name for c in containers if _is_own(c, deployment)}:
        return
    for what, path in (("container storage", Path(storage or "/nowhere")), ("cache", paths.cache())):
        if what == "container storage" and not path.is_dir():
            continue  # the engine runs on another machine
        there = next(p for p in (path, *path.parents) if p.is_dir())
        free = shutil.disk_usage(there).free
        if free < NEEDED_GIB * _GIB:
            yield Problem(
                "PRE-108",
                f"{free / _GIB:.1f} GiB are free for the {what} ({path}); a local region needs {NEEDED_GIB} GiB.",
                fix="free space there" + (", or point AIFACTORY_CACHE elsewhere" if what == "cache" else ""),
            )


def _watches(plan: RegionPlan, deployment: str | None, containers: Sequence[Container]) -> Iterator[Problem]:
    running = {c.name for c in containers if _is_own(c, deployment) and c.state == "running"}
    new = sum(node.name not in running for pool in plan.pools for node in pool.nodes)
    if not new or os.geteuid() != 0:  # of another user nothing can be counted
        return
    with contextlib.suppress(OSError, ValueError):
        limit, used = int(INOTIFY_LIMIT.read_text()), _inotify_of_root()
        if used + new * INOTIFY_A_NODE > limit:
            yield Problem(
                "PRE-109",
                f"{used} of {limit} inotify instances of this machine are in use; {plan.region} needs some "
                f"{new * INOTIFY_A_NODE} more.",
                fix=f"sysctl -w fs.inotify.max_user_instances={max(1024, 2 * limit)}",
            )


def _inotify_of_root() -> int:
    """inotify instances that processes of root hold, those in containers too. A tenth of a second."""
    count = 0
    for folder in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            if folder.parent.stat().st_uid == 0:
                for file in folder.iterdir():
                    with contextlib.suppress(OSError):
                        count += str(file.readlink()) == "anon_inode:inotify"
    return count


def _is_own(container: Container, deployment: str | None) -> bool:
    return bool(deployment) and container.labels.get(labels.DEPLOYMENT) == deployment
