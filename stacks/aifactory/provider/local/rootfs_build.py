"""Runs mmdebstrap so that nothing is left of it, however it ends.

It works in a process and mount namespace of its own, on a tmpfs that only that namespace sees: when
this process dies, the kernel ends the build and forgets the tmpfs. The result goes into a file that
has no name. Where memory is short, a folder under /var/tmp takes the place of the tmpfs; the next
build removes what a killed one left there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from aifactory.provider.resource import Context, Refused

TMPFS_MIB = 1400
"""Size limit of the build's tmpfs; a trixie build peaks at some 600 MiB."""
MEMORY_NEEDED_MIB = 2400
"""Available memory below which the build goes to disk."""

_MOUNT_POINT = "/mnt"
"""Exists everywhere, and apt's own user may walk into it; hidden only inside the build's mount namespace."""
_ON_DISK = Path("/var/tmp")  # noqa: S108
_PREFIX = "aifactory-rootfs-"

_STAGES = (
    ("running apt-get update", "fetching package lists"),
    ("downloading packages", "fetching packages"),
    ("extracting archives", "unpacking"),
    ("installing essential", "installing the base system"),
    ("installing remaining", "installing systemd, sshd, Python"),
    ("running --customize-hook", "setting up sshd and the login"),
    ("creating tarball", "packing"),
)
_UNREACHABLE = re.compile(
    r"could not resolve|could not connect|unable to connect|connection (refused|timed out|failed)"
    r"|cannot initiate|network is unreachable",
    re.IGNORECASE,
)
_NO_SUITE = re.compile(r"does not have a Release file|404\s+Not Found|not known on", re.IGNORECASE)


def available() -> bool:
    """Whether this machine can build this way: root, mmdebstrap, and util-linux for the namespaces."""
    return os.geteuid() == 0 and all(shutil.which(p) for p in ("mmdebstrap", "unshare", "setpriv"))


def build(ctx: Context, argv: list[str], out: IO[bytes], where: str) -> None:
    """Runs mmdebstrap into `out`. May take minutes; safe to repeat.

    `where` names the folder of `out` for messages. Raises Refused with the reason in plain words, Cancelled.
    """
    with _workplace() as (prefix, folder):
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *prefix, *argv],
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE,
            env={**os.environ, "TMPDIR": folder, "LC_ALL": "C"},
            start_new_session=True,  # mmdebstrap signals its whole process group when its output cannot be written
        )  # fmt: skip
        told: list[str] = []
        reader = threading.Thread(target=_listen, args=(ctx, process, told), daemon=True)
        reader.start()
        try:
            while process.poll() is None:
                ctx.wait(0.1)
        finally:
            process.kill()  # the namespace goes with its first process
            process.wait()
            reader.join()
        if process.returncode != 0:
            raise Refused(explain("\n".join(told), where))


def explain(output: str, where: str) -> str:
    """What went wrong, from what mmdebstrap and apt wrote."""
    reasons = [line.strip() for line in output.splitlines() if re.match(r"\s*(E:|W: Failed|Err:)", line)]
    why = reasons[-1] if reasons else "\n".join(output.splitlines()[-3:])
    if re.search(os.strerror(errno.ENOSPC), output, re.IGNORECASE):
        return no_space(where)
    if _UNREACHABLE.search(output):
        first = next((line.strip() for line in output.splitlines() if _UNREACHABLE.search(line)), why)
        return (
            f"the Debian mirror cannot be reached, so the node image was not built: {first}\n"
            "check this machine's network and proxy, or name another mirror in AIFACTORY_DEBIAN_MIRROR"
        )
    if _NO_SUITE.search(output):
        return f"the mirror does not have this Debian release, so the node image was not built: {why}"
    return f"mmdebstrap failed, so the node image was not built: {why}"


def no_space(where: str) -> str:
    return (
        f"the disk is full: the node image needs some 400 MiB under {where} while it is built, 60 MiB afterwards; "
        "free space there, or point AIFACTORY_CACHE elsewhere"
    )


def _listen(ctx: Context, process: subprocess.Popen[bytes], told: list[str]) -> None:
    for raw in process.stderr or ():
        line = raw.decode(errors="replace").rstrip()
        told.append(line)
        del told[:-200]
        for sign, stage in _STAGES:
            if line.startswith(f"I: {sign}"):
                ctx.progress(f"node image: {stage}")


@contextlib.contextmanager
def _workplace() -> Iterator[tuple[list[str], str]]:
    """(command that opens the namespaces, folder that the build then works in)."""
    _sweep()
    namespace = ["unshare", "--fork", "--pid", "--mount", "--mount-proc", "--kill-child", "--"]
    if _available_mib() >= MEMORY_NEEDED_MIB:
        mount = f'mount -t tmpfs -o size={TMPFS_MIB}m,mode=0755 aifactory {_MOUNT_POINT} && exec "$@"'
        yield [*namespace, "sh", "-c", mount, "sh"], _MOUNT_POINT
        return
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_ON_DISK))
    folder.chmod(0o755)
    try:
        yield namespace, str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _available_mib() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0


def _sweep() -> None:
    """Removes folders of builds whose process is gone."""
    for folder in _ON_DISK.glob(f"{_PREFIX}*"):
        pid = folder.name.removeprefix(_PREFIX).split("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)
