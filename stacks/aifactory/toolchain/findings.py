"""`aifactory doctor`: what this machine has, which version and where, and the command that mends what it lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aifactory import paths
from aifactory.errors import ProblemError
from aifactory.toolchain import enginelocks, gotool, locate, lock

GIB = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `fix` is a command or one sentence; empty when all is well."""

    name: str
    ok: bool
    detail: str
    fix: str = ""
    version: str = ""
    where: str = ""


def doctor() -> list[Finding]:
    """Everything the toolkit needs on this machine, in the order in which it is needed. Changes nothing."""
    engine = locate.on_path() or locate.in_cache()
    return [
        _python(),
        _venv(),
        *_engine(engine),
        _go(engine),
        _containers(),
        _node_image_builder(),
        _tool("ssh", ("ssh", "-V"), {"debian": "openssh-client", "fedora": "openssh-clients"}, "openssh client"),
        _tool("ssh-keygen", None, {"debian": "openssh-client", "fedora": "openssh-clients"}, "openssh client"),
        *_space(engine),
        _passphrase(),
        *_locks(),
    ]


# -- how to install ----------------------------------------------------------------------------------------------


def system() -> str:
    """`debian`, `fedora` or `other`, from /etc/os-release."""
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "other"
    rows = dict(line.split("=", 1) for line in lines if "=" in line)
    words = {word.strip('"') for key in ("ID", "ID_LIKE") for word in rows.get(key, "").strip('"').split()}
    if words & {"debian", "ubuntu"}:
        return "debian"
    return "fedora" if words & {"fedora", "rhel"} else "other"


def install(packages: dict[str, str], generic: str) -> str:
    """The command of this system that installs them: `packages` by system, `generic` in words for any other."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    match system():
        case "debian":
            return f"{sudo}apt-get install --no-install-recommends {packages['debian']}"
        case "fedora":
            return f"{sudo}dnf install {packages['fedora']}"
        case _:
            return f"install {generic} with this system's package manager"


def _first_line(*argv: str) -> str | None:
    """First line that a program prints, None when it cannot be run or ends badly."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    text = (done.stdout or done.stderr).strip()
    return text.splitlines()[0] if done.returncode == 0 and text else None


# -- the parts ---------------------------------------------------------------------------------------------------


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    ok = (3, 11) <= sys.version_info[:2] < (3, 14)
    fix = "" if ok else install({"debian": "python3 python3-venv", "fedora": "python3.13"}, "Python 3.11 to 3.13")
    return Finding("python", ok, f"{version}, {sys.executable}", fix, version, sys.executable)


def _venv() -> Finding:
    folder = paths.REPO / ".venv"
    plugin = folder / "bin" / "pulumi-resource-aifactory"
    if not os.access(plugin, os.X_OK):
        return Finding("venv", False, f"{plugin} is missing: the engine looks for the provider there", "make setup")
    if (folder / ".unfinished").exists():
        return Finding("venv", False, f"{folder}: its installation was interrupted", "make setup")
    return Finding("venv", True, str(folder), where=str(folder))


def _engine(engine: locate.Toolchain | None) -> Iterator[Finding]:
    locked = lock.load()
    if engine is None:
        found = shutil.which("pulumi")
        detail = "not on PATH and not built yet"
        if found:
            version = lock.version_text(locate.program_version(found)) or "broken"
            detail = f"{found} is {version}, or has no {locate.LANGUAGE_HOST} beside it; wanted {_range(locked)}"
        yield Finding("engine", False, detail, "make setup")
        return
    tested = "" if engine.version == locked.pulumi_version else f" (the tests run with {locked.pulumi_version})"
    detail = f"pulumi {engine.version} from {engine.source}, {engine.pulumi}{tested}"
    yield Finding("engine", True, detail, version=engine.version, where=str(engine.pulumi))
    host = shutil.which(locate.LANGUAGE_HOST) if engine.ambient_host else str(engine.bin_dir / locate.LANGUAGE_HOST)
    yield Finding("language host", True, str(host), where=str(host))


def _range(locked: lock.Lock) -> str:
    return f"{lock.version_text(locked.at_least)} or newer, below {lock.version_text(locked.below)}"


def _go(engine: locate.Toolchain | None) -> Finding:
    try:
        go = gotool.find_go(lock.load().binaries[0].folder)
    except ProblemError as error:
        if engine is not None:
            return Finding("go", True, "not needed: the engine is there")
        problem = error.problems[0]
        return Finding("go", False, problem.message, problem.fix or "")
    return Finding("go", True, f"{go.version}, {go.command}", version=go.version, where=str(go.command))


def _containers() -> Finding:
    """Only local regions need one. A client without its service counts as not there."""
    looks = {
        "podman": ("podman", "info", "--format", "{{.Version.Version}}"),
        "docker": ("docker", "info", "--format", "{{.ServerVersion}}"),
    }
    states = []
    for name, argv in looks.items():
        where = shutil.which(name)
        if where is None:
            states.append(f"{name} is not installed")
            continue
        version = _first_line(*argv)
        if version is not None:
            return Finding("container engine", True, f"{name} {version}, {where}", version=version, where=where)
        states.append(f"{name} ({where}) is installed but does not answer")
    if "does not answer" in states[0]:
        fix = "podman info  shows why"
    elif "does not answer" in states[1]:
        fix = ("" if os.geteuid() == 0 else "sudo ") + "systemctl start docker"
    else:
        packages = "podman netavark aardvark-dns"
        fix = install({"debian": f"{packages} runc iptables uidmap", "fedora": packages}, "podman or docker")
    return Finding("container engine", False, "; ".join(states) + " (local regions need one)", fix)


def _node_image_builder() -> Finding:
    return _tool(
        "mmdebstrap", ("mmdebstrap", "--version"), {"debian": "mmdebstrap", "fedora": "mmdebstrap"}, "mmdebstrap"
    )


def _tool(name: str, version: tuple[str, ...] | None, packages: dict[str, str], generic: str) -> Finding:
    where = shutil.which(name)
    if where is None:
        return Finding(name, False, "not on PATH", install(packages, generic))
    text = (_first_line(*version) or "") if version else ""
    return Finding(name, True, ", ".join(part for part in (text, where) if part), version=text, where=where)


def _space(engine: locate.Toolchain | None) -> Iterator[Finding]:
    needs = (
        ("cache", paths.cache(), 3 if engine else 8, "free space there, or set AIFACTORY_CACHE to another folder"),
        ("home", paths.home(), 1, "free space there; it holds the regions' state"),
    )
    for name, folder, gib, fix in needs:
        there = next(p for p in (folder, *folder.parents) if p.exists())
        free = shutil.disk_usage(there).free / GIB
        writable = os.access(there, os.W_OK)
        ok = writable and free >= gib
        detail = f"{folder}: {free:.0f} GiB free, {gib} wanted" if writable else f"{folder}: not writable"
        yield Finding(f"space for {name}", ok, detail, "" if ok else fix, where=str(folder))


def _passphrase() -> Finding:
    path = paths.home() / "passphrase"
    stacks = any((paths.home() / "state" / ".pulumi" / "stacks").glob("*/*.json*"))
    if not path.exists():
        if stacks:
            detail = f"{path} is gone; the secrets in the regions' state cannot be read without it"
            return Finding("passphrase", False, detail, f"put it back from your backup: {path}, mode 600")
        return Finding("passphrase", True, "made with the first region")
    if path.stat().st_mode & 0o077:
        return Finding("passphrase", False, f"{path} can be read by others", f"chmod 600 {path}", where=str(path))
    return Finding(
        "passphrase", True, f"{path} (keep a copy: without it the state's secrets are lost)", where=str(path)
    )


def _locks() -> Iterator[Finding]:
    found = enginelocks.find(paths.home() / "state")
    if not found:
        yield Finding("locks", True, "none")
    for one in found:
        owner = f"{one.region}: pid {one.pid} of {one.user} on {one.host}"
        if one.here and one.owner_lives:
            yield Finding("locks", True, f"{owner} is at work")
        elif one.here:
            yield Finding("locks", True, f"{owner} is no more; the next command on the region breaks its lock")
        else:
            fix = f'when that run is dead: eval "$(aifactory env {one.region})" && pulumi cancel -s {one.region} --yes'
            yield Finding("locks", False, f"{owner}, which cannot be looked at from here", fix)
