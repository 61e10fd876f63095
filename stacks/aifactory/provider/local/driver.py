"""One interface over the podman and docker command lines.

Every verb runs one command, answers with our dataclasses and raises the types of `engine_errors`. Verbs
that make say so when the thing is there already (NameInUse); verbs that remove take gone as done. None
of them waits for anything but the engine itself. The engine is called as it is set up for this user:
its own environment variables (DOCKER_HOST, CONTAINER_HOST) hold.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from aifactory.hosts.private_dir import private_dir
from aifactory.naming import LABEL
from aifactory.provider.local import engine_errors as errors
from aifactory.provider.local.engine_flags import EngineInfo, RunFlags, detect
from aifactory.provider.local.engine_output import Container, Image, Network, Volume, image_id
from aifactory.provider.local.engine_output import containers as parse_containers
from aifactory.provider.local.engine_output import info as parse_info
from aifactory.provider.local.engine_output import networks as parse_networks

ENGINES = ("podman", "docker")
COMMAND_TIMEOUT_S = 120.0
LOOPBACK = "127.0.0.1"
ADDRESS_WAS_SET = "3"
"""NET_ADDR_SET of the kernel's netdevice.h: somebody chose the device's MAC address."""


@dataclass(frozen=True)
class NewContainer:
    """A node before it exists. `volumes` are (volume name, mount point), `publish` (loopback, node's port)."""

    name: str
    image: str
    network: str
    address: str
    mac: str
    labels: Mapping[str, str]
    volumes: tuple[tuple[str, str], ...] = ()
    publish: tuple[tuple[int, int], ...] = ()


@dataclass
class ContainerEngine:
    """podman or docker on this machine. Safe to call from many threads."""

    info: EngineInfo
    program: str
    _flags: RunFlags | None = field(default=None, repr=False)
    _mutex: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def name(self) -> str:
        return self.info.name

    def run(
        self,
        *argv: str,
        stdin: bytes | IO[bytes] | None = None,
        timeout_s: float = COMMAND_TIMEOUT_S,
        temporary: Path | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """The command's result; raises the typed error when it failed or did not end in time."""
        done = _call([self.program, *argv], stdin, timeout_s, temporary)
        if done.returncode != 0:
            raise errors.classify(self.name, _verb(argv), done.stderr.decode(errors="replace"))
        return done

    def _lines(self, *argv: str) -> list[str]:
        return self.run(*argv).stdout.decode().split()

    def _inspect(self, *argv: str) -> list[dict[str, Any]]:
        """What is there of the named things; those that went meanwhile are left out."""
        done = _call([self.program, *argv], None, COMMAND_TIMEOUT_S)
        if done.returncode != 0:
            error = errors.classify(self.name, _verb(argv), done.stderr.decode(errors="replace"))
            if not isinstance(error, errors.NotFound | errors.ImageMissing):
                raise error
        return json.loads(done.stdout or b"[]") or []

    # -- networks

    def create_network(self, name: str, subnet: str, gateway: str, labels: Mapping[str, str]) -> None:
        self.run("network", "create", "--subnet", subnet, "--gateway", gateway, *_labels(labels), name)

    def networks(self) -> list[Network]:
        """All networks, those of others too."""
        names = self._lines("network", "ls", "--format", "{{.Name}}")
        return parse_networks(self._inspect("network", "inspect", *names)) if names else []

    def network(self, name: str) -> Network | None:
        found = parse_networks(self._inspect("network", "inspect", name))
        return found[0] if found else None

    def remove_network(self, name: str) -> None:
        """Never by force: a network in use raises StillInUse (podman's -f would take the containers along)."""
        with contextlib.suppress(errors.NotFound):
            self.run("network", "rm", name)

    # -- volumes

    def create_volume(self, name: str, labels: Mapping[str, str]) -> None:
        """docker takes an existing volume silently: look before, where it matters."""
        self.run("volume", "create", *_labels(labels), name)

    def volumes(self, labels: Mapping[str, str]) -> list[Volume]:
        """Volumes that carry all these labels (an empty value matches any)."""
        names = self._lines("volume", "ls", "-q", *_filters(labels))
        found = self._inspect("volume", "inspect", *names) if names else []
        every = [Volume(raw["Name"], dict(raw.get("Labels") or {})) for raw in found]
        return [volume for volume in every if _carries(volume.labels, labels)]

    def volume(self, name: str) -> Volume | None:
        found = self._inspect("volume", "inspect", name)
        return Volume(found[0]["Name"], dict(found[0].get("Labels") or {})) if found else None

    def remove_volume(self, name: str) -> None:
        with contextlib.suppress(errors.NotFound):
            self.run("volume", "rm", name)

    # -- images

    def image(self, reference: str) -> Image | None:
        found = self._inspect("image", "inspect", reference)
        return Image(image_id(found[0]["Id"]), tuple(found[0].get("RepoTags") or ())) if found else None

    def tags(self, repository: str) -> list[str]:
        """Full references (`repository:tag`) that the engine has."""
        lines = self._lines("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository)
        return sorted(line for line in set(lines) if line.startswith(f"{repository}:"))

    def load(self, archive: IO[bytes]) -> None:
        """Reads a docker archive (not compressed) from a file object."""
        self.run("load", "-q", stdin=archive, timeout_s=600)

    def save(self, image: str, archive: IO[bytes]) -> None:
        """Writes a docker archive."""
        argv = [self.program, "save", *(("--format", "docker-archive") if self.name == "podman" else ()), image]
        done = subprocess.run(
            argv, stdout=archive, stderr=subprocess.PIPE, env=_environment(), timeout=600, check=False
        )
        if done.returncode != 0:
            raise errors.classify(self.name, "save", done.stderr.decode(errors="replace"))

    def build(
        self, context: Path, base: str, reference: str, log: Callable[[str], None], wait: Callable[[float], None]
    ) -> None:
        """Builds the Containerfile in `context`; fetches `base` first. Minutes; `wait` may raise to stop it."""
        if self.image(base) is None:
            self.run("pull", "-q", base, timeout_s=600)
        flags = list(self.flags(base, log).base) if self.name == "podman" else []
        runtime = [flags.pop(0), flags.pop(0)] if "--runtime" in flags[:1] else []  # podman's own, not of its `build`
        argv = [self.program, *runtime, "build", "--pull=false", *flags, "-t", reference]
        argv += ["-f", str(context / "Containerfile"), str(context)]
        with tempfile.TemporaryFile() as told:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=told, stderr=told, env=_environment())
            try:
                while process.poll() is None:
                    wait(0.2)
            finally:
                process.kill()
                process.wait()
            if process.returncode != 0:
                told.seek(0)
                raise errors.classify(self.name, "build", told.read().decode(errors="replace"))

    def tag(self, image: str, reference: str) -> None:
        self.run("tag", image, reference)

    def remove_image(self, reference: str) -> None:
        """Takes the name away, and the image with its last name. In use by a container: StillInUse."""
        with contextlib.suppress(errors.ImageMissing, errors.NotFound):
            self.run("rmi", reference)

    # -- containers

    def flags(self, image: str, log: Callable[[str], None], again: bool = False) -> RunFlags:
        """What a node needs to run here, found once a machine with the given image."""
        with self._mutex:
            if self._flags is None or again:
                self._flags = detect(self.info, functools.partial(self._try, image), log, again)
            return self._flags

    def _try(self, image: str, flags: Sequence[str]) -> None:
        argv = ("run", "--rm", "--pull", "never", "--network", "none", "--label", f"{LABEL}probe=1")
        try:
            self.run(*argv, *flags, "--entrypoint", "/bin/true", image)
        except errors.EngineError as error:
            if type(error) is errors.EngineError:  # words we do not know: this set does not work, another may
                raise errors.CannotRun(str(error), error.detail) from error
            raise

    def create(self, new: NewContainer, flags: RunFlags) -> str:
        """The id of a container that has not run yet."""
        return self.run(*self.create_argv(new, flags)).stdout.decode().split()[-1]

    def create_argv(self, new: NewContainer, flags: RunFlags) -> list[str]:
        argv = ["create", "--pull", "never", "--name", new.name, "--hostname", new.name]
        argv += ["--network", new.network, "--ip", new.address, "--mac-address", new.mac]
        argv += [*flags.argv(), *self._systemd_flags(), *_labels(new.labels)]
        for volume, mount in new.volumes:
            argv += ["-v", f"{volume}:{mount}"]
        for outside, inside in new.publish:
            argv += ["-p", f"{LOOPBACK}:{outside}:{inside}"]
        return [*argv, new.image]

    def _systemd_flags(self) -> list[str]:
        """podman prepares a container for systemd itself; docker is told what to mount."""
        if self.name == "podman":
            return ["--systemd=always"]
        own_cgroups = ["--cgroupns=private"] if self.info.cgroup_version == "2" else []
        mounts = ["--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp"]  # noqa: S108
        return [*own_cgroups, *mounts, "-e", "container=docker", "--stop-signal", "SIGRTMIN+3"]

    def containers(self, labels: Mapping[str, str]) -> list[Container]:
        """Containers that carry all these labels, running or not (an empty value matches any)."""
        ids = self._lines("ps", "-a", "-q", "--no-trunc", *_filters(labels))
        every = parse_containers(self._inspect("container", "inspect", *ids)) if ids else []
        return [container for container in every if _carries(container.labels, labels)]

    def container(self, name: str) -> Container | None:
        found = parse_containers(self._inspect("container", "inspect", name))
        return found[0] if found else None

    def copy_in(self, name: str, tar: bytes) -> None:
        """Unpacks a tar at the container's root, running or not; it may hold a private key.

        podman 4.3 puts what comes over the pipe into a temporary file and forgets it there: TMPDIR is a private
        folder in memory, gone afterwards.
        """
        with private_dir() as folder:
            self.run("cp", "-", f"{name}:/", stdin=tar, temporary=folder)

    def start(self, name: str) -> None:
        self.run("start", name)

    def hold_bridge_address(self, network: str) -> None:
        """Keeps the MAC address of this machine inside the network, which must have a running container, as it is.

        A bridge whose address nobody set has the lowest one of its ports: it changes when nodes come and go, and then
        nothing from this machine reaches any node until the nodes ask for it again, up to a minute. udev sets it on
        most machines, docker on all; where nobody did and this user may, this does.
        """
        found = self.network(network)
        folder = Path("/sys/class/net") / (found.interface if found and found.interface else network)
        with contextlib.suppress(OSError, subprocess.SubprocessError):  # rootless, or an engine on another machine
            if (folder / "addr_assign_type").read_text().strip() != ADDRESS_WAS_SET:
                address = (folder / "address").read_text().strip()
                argv = ["ip", "link", "set", "dev", folder.name, "address", address]
                subprocess.run(argv, capture_output=True, timeout=10, check=False)

    def stop(self, name: str, grace_s: int = 10) -> None:
        self.run("stop", "-t", str(grace_s), name, timeout_s=grace_s + 60)

    def pause(self, name: str) -> None:
        self.run("pause", name)

    def unpause(self, name: str) -> None:
        self.run("unpause", name)

    def remove(self, name: str) -> None:
        """Kills and removes; gone already is done."""
        at_once = ("-t", "0") if self.name == "podman" else ()
        with contextlib.suppress(errors.NotFound):
            self.run("rm", "-f", *at_once, name)

    def execute(self, name: str, *argv: str, timeout_s: float = 30.0) -> subprocess.CompletedProcess[bytes]:
        """Runs a command inside; a failing command is an answer, not an error."""
        done = _call([self.program, "exec", name, *argv], None, timeout_s)
        told = done.stderr.decode(errors="replace")
        if done.returncode and re.search(r"^Error( response from daemon)?: ", told, re.MULTILINE):
            error = errors.classify(self.name, "exec", told)
            if isinstance(error, errors.NotFound | errors.WrongState):
                raise error
        return done


def find(wanted: str = "auto") -> ContainerEngine:
    """The engine asked for, ready to use. Raises NotInstalled, NotRunning, NoPermission in plain words."""
    if wanted != "auto":
        return _open(wanted)
    problems: list[errors.EngineError] = []
    for name in ENGINES:
        try:
            return _open(name)
        except errors.EngineError as error:
            problems.append(error)
    told = [p for p in problems if not isinstance(p, errors.NotInstalled)]
    if told:
        raise type(told[0])("; ".join(str(p) for p in told), told[0].detail)
    raise errors.NotInstalled("no container engine: install podman (apt-get install podman) or docker")


@functools.cache
def _open(name: str) -> ContainerEngine:
    """Asked once a process: what an engine says of itself does not change meanwhile."""
    program = shutil.which(name)
    if program is None:
        raise errors.NotInstalled(
            f"{name} is not installed (apt-get install {'podman' if name == 'podman' else 'docker.io'})"
        )
    done = _call([program, "info", "--format", "{{json .}}" if name == "docker" else "json"], None, 30.0)
    if done.returncode != 0:
        raise _not_usable(name, done.stderr.decode(errors="replace"))
    return ContainerEngine(parse_info(name, json.loads(done.stdout)), program)


def _not_usable(name: str, stderr: str) -> errors.EngineError:
    error = errors.classify(name, "info", stderr)
    if isinstance(error, errors.NoPermission):
        return errors.NoPermission(f"{name} is running, but this user may not use it: {error.detail}", error.detail)
    if isinstance(error, errors.NotRunning):
        return errors.NotRunning(f"{name} is installed, but its service is not running: {error.detail}", error.detail)
    return errors.NotRunning(f"{name} is installed, but does not work: {error.detail}", error.detail)


def _call(
    argv: Sequence[str], stdin: bytes | IO[bytes] | None, timeout_s: float, temporary: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    given: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin or subprocess.DEVNULL}
    environment = _environment() | ({"TMPDIR": str(temporary)} if temporary else {})
    try:
        return subprocess.run(argv, capture_output=True, env=environment, timeout=timeout_s, check=False, **given)
    except subprocess.TimeoutExpired as late:
        raise errors.EngineError(f"{argv[0]} {_verb(argv[1:])} did not end within {timeout_s:.0f} s") from late


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C", "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}


def _verb(argv: Sequence[str]) -> str:
    return " ".join(argv[:2]) if argv and argv[0] in {"network", "volume", "image", "container"} else argv[0]


def _labels(labels: Mapping[str, str]) -> Iterable[str]:
    for key, value in sorted(labels.items()):
        yield from ("--label", f"{key}={value}")


def _carries(found: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(found.get(key) == value if value else key in found for key, value in wanted.items())


def _filters(labels: Mapping[str, str]) -> Iterable[str]:
    """Narrows a listing, no more: podman 4.3 joins the labels of `volume ls` by or. `_carries` decides."""
    for key, value in sorted(labels.items()):
        yield from ("--filter", f"label={key}={value}" if value else f"label={key}")
