"""Which flags a container needs to run on this machine: tried once, remembered, never assumed.

Machines differ: podman's default limits may be above what the machine allows, a runtime may not know
the machine's cgroups, `--privileged` may be forbidden. The candidates are run with the node image's
own `/bin/true`, without a network, and the first set that works is kept under the cache, keyed by
everything that it depends on.
"""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from aifactory import paths
from aifactory.provider.local.engine_errors import CannotRun

NOFILE_MOST, NPROC_MOST = 65536, 32768
"""Plenty for a node; a hard limit above them is not passed on (some machines refuse it although it is their own)."""
NOFILE_LEAST, NPROC_LEAST = 1024, 4096


@dataclass(frozen=True)
class EngineInfo:
    """What the engine says of itself; the flags depend on all of it."""

    name: str
    version: str
    kernel: str
    cgroup_version: str
    runtime: str
    rootless: bool
    storage: str = ""
    """Folder of images and containers on this machine; empty or not there where the engine is elsewhere."""


@dataclass(frozen=True)
class RunFlags:
    """`base` goes on every container; without `privileged` a node cannot run containers of its own."""

    base: tuple[str, ...]
    privileged: bool

    def argv(self) -> tuple[str, ...]:
        return (*self.base, "--privileged") if self.privileged else self.base


def candidates(info: EngineInfo, nofile_hard: int, nproc_hard: int, has_runc: bool) -> Iterator[tuple[str, ...]]:
    """Sets of base flags, the plainest first."""
    limits: list[tuple[str, ...]] = [()]
    for nofile, nproc in ((NOFILE_MOST, NPROC_MOST), (NOFILE_LEAST, NPROC_LEAST)):
        files, processes = _within(nofile, nofile_hard), _within(nproc, nproc_hard)
        limits.append(("--ulimit", f"nofile={files}:{files}", "--ulimit", f"nproc={processes}:{processes}"))
    runtimes: list[tuple[str, ...]] = [()]
    if info.name == "podman" and info.runtime != "runc" and has_runc:
        runtimes.append(("--runtime", "runc"))
    for limit in limits:
        for runtime in runtimes:
            yield (*runtime, *limit)


def _within(wanted: int, hard: int) -> int:
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def probe(info: EngineInfo, try_run: Callable[[Sequence[str]], None]) -> RunFlags:
    """The first set that runs a container, privileged sets first.

    `try_run` raises CannotRun for a set that does not work. Raises CannotRun with every answer when none does.
    """
    nofile, nproc = resource.getrlimit(resource.RLIMIT_NOFILE)[1], resource.getrlimit(resource.RLIMIT_NPROC)[1]
    bases = tuple(candidates(info, nofile, nproc, shutil.which("runc") is not None))
    answers = []
    for privileged in (True, False):
        for base in bases:
            flags = RunFlags(base, privileged)
            try:
                try_run(flags.argv())
            except CannotRun as error:
                answers.append(f"{' '.join(flags.argv()) or '(no flags)'}: {error.detail}")
            else:
                return flags
    raise CannotRun(f"{info.name} cannot run a container on this machine:\n  " + "\n  ".join(answers), answers[-1])


def detect(
    info: EngineInfo, try_run: Callable[[Sequence[str]], None], log: Callable[[str], None], again: bool = False
) -> RunFlags:
    """The remembered flags, else those that `probe` finds (and remembers). `again` forgets first."""
    file = _file(info)
    if not again and (known := _read(file)):
        return known
    flags = probe(info, try_run)
    if flags.base or not flags.privileged:
        log(f"{info.name} {info.version}: nodes run with {' '.join(flags.argv()) or 'no flags, unprivileged'}")
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{id(flags)}.part")
    part.write_text(json.dumps({"engine": asdict(info), "flags": asdict(flags)}, indent=1), encoding="utf-8")
    part.replace(file)
    return flags


def _file(info: EngineInfo) -> Path:
    limits = [resource.getrlimit(kind)[1] for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC)]
    key = hashlib.sha256(json.dumps([asdict(info), limits], sort_keys=True).encode()).hexdigest()[:16]
    return paths.cache() / "engines" / f"{info.name}-{key}.json"


def _read(file: Path) -> RunFlags | None:
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))["flags"]
        return RunFlags(tuple(raw["base"]), bool(raw["privileged"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # not there, or of another version: probing again costs a second
