"""The system part of an engine image: a few Debian packages, unpacked and stripped; no shell, no package manager.

Packages come through mmdebstrap with the distribution's own signatures. They are extracted, not installed, so
that an image for another architecture needs no emulation.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aifactory.errors import Exit, ProblemError, fail

from . import process
from .archive import EPOCH_S, Member

Progress = Callable[[str], None]
Check = Callable[[], None]

_DROPPED = re.compile(  # also what mmdebstrap copies from the building machine (resolv.conf, hostname)
    r"usr/bin/(?!python3)|usr/sbin/.|usr/share/(?!doc(/|$)|common-licenses)|usr/share/doc/.*/(?!copyright$)"
    r"|usr/lib/[^/]+/gconv/|usr/lib/python3[^/]*/(test|pydoc_data|idlelib)/"
    r"|usr/lib/(apt|binfmt\.d|dpkg|init|mime|systemd|sysusers\.d|tmpfiles\.d|udev)(/|$)"
    r"|usr/libexec/.|var/(cache|lib|log)/.|(dev|proc|run|sys|tmp)/.|\.dockerenv|etc/(apt|dpkg)(/|$)|etc/(resolv\.conf|hostname|hosts|fstab)$"
)


@dataclass(frozen=True)
class Source:
    """Where packages come from: suite, Debian's architecture name, and a mirror other than the distribution's own."""

    suite: str
    architecture: str
    mirror: str | None = None


def available() -> bool:
    """Whether this machine can unpack packages this way."""
    return os.geteuid() == 0 and shutil.which("mmdebstrap") is not None


def extract(packages: Sequence[str], source: Source, *, scratch: Path, progress: Progress, check: Check) -> Path:
    """A tar of the packages and all they depend on, in `scratch`. Raises ProblemError(FAILED) with what to do."""
    if shutil.which("mmdebstrap") is None:
        raise fail(
            "SRV-010",
            "mmdebstrap is not installed; it unpacks the engine image.",
            code=Exit.PREFLIGHT,
            fix="apt-get install mmdebstrap",
        )
    tar = scratch / "rootfs.tar"
    command = [
        "mmdebstrap",
        "--variant=extract",
        f"--architectures={source.architecture}",
        f"--include={','.join(packages)}",
    ]
    command += [
        '--aptopt=APT::Install-Recommends "false"',
        '--aptopt=Acquire::Languages "none"',
        '--aptopt=Acquire::Retries "2"',
    ]
    command += ['--aptopt=Acquire::http::Timeout "20"', '--aptopt=Acquire::https::Timeout "20"', source.suite, str(tar)]
    if source.mirror:
        command.append(f"deb {source.mirror} {source.suite} main")
    code, lines = process.run(
        command, environment=_environment(scratch), check=check, line=lambda line: _tell(line, progress)
    )
    if code:
        raise _problem(lines)
    return tar


def members(tar: Path) -> Iterator[Member]:
    """What the image keeps of `tar`, in a fixed order of names."""
    with tarfile.open(tar) as source:
        kept = {info.name.removeprefix("./").rstrip("/"): info for info in source}
        for name in sorted(kept):
            info = kept[name]
            if (
                name in ("", ".")
                or _DROPPED.match(name)
                or not (info.isfile() or info.isdir() or info.issym() or info.islnk())
            ):
                continue
            info.name = name
            info.linkname = info.linkname.removeprefix("./") if info.islnk() else info.linkname
            yield info, source.extractfile(info) if info.isfile() else None


def _environment(scratch: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "http_proxy", "https_proxy", "no_proxy")}
    return {**kept, "LC_ALL": "C", "TMPDIR": str(scratch), "SOURCE_DATE_EPOCH": str(EPOCH_S)}


def _tell(line: str, progress: Progress) -> None:
    if line.startswith("I: ") and "tempdir" not in line:
        progress(f"engine image: {line[3:].strip().rstrip('.')}")


def _problem(lines: Sequence[str]) -> ProblemError:
    text = "\n".join(lines)
    last = next(
        (line for line in reversed(lines) if line.startswith(("E: ", "W: "))), lines[-1] if lines else "no output"
    )
    if re.search("no space left on device", text, re.IGNORECASE):
        return fail(
            "SRV-012",
            "The disk is full: the engine image could not be built.",
            code=Exit.FAILED,
            fix="free 1 GB and run again",
        )
    if re.search(
        r"Could not (connect|resolve)|Failed to fetch|Temporary failure|Unable to connect|Connection failed", text
    ):
        return fail(
            "SRV-011",
            f"The Debian mirror cannot be reached: {last.removeprefix('E: ')}",
            code=Exit.FAILED,
            fix="check the network, a proxy (http_proxy), or name a mirror in AIFACTORY_DEBIAN_MIRROR; then run again",
        )
    tail = "\n".join(lines[-8:])
    return fail("SRV-013", f"mmdebstrap could not build the engine image:\n{tail}", code=Exit.FAILED)
