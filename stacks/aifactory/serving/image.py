"""The engine image: built once on the controller, kept by content key, loaded on nodes by its id.

Two layers: the system (`rootfs.py`) and the engine (wheel and start script), so that a host that may not run
containers can unpack the second one alone (`ENGINE_LAYER`, files under `ENGINE_ROOT`).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from aifactory import catalog, paths
from aifactory.errors import Exit, fail

from . import archive, rootfs, wheel

SYSTEM_LAYER = "system.tar.gz"
ENGINE_LAYER = "engine.tar.gz"
ENGINE_ROOT = "opt/aifactory/engine"
PACKAGES = ("base-files", "libc6", "libgomp1", "libpython3-stdlib", "libstdc++6", "python3-minimal")
_NOBODY = "65534:65534"
_NEEDED_BYTES = 700 * 2**20
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True)
class Image:
    """A built image. `image_id` is what `podman image inspect -f {{.Id}}` says once it is loaded."""

    archive: str
    sha256: str
    image_id: str
    reference: str


def build(
    engine: str,
    *,
    architecture: str | None = None,
    mirror: str | None = None,
    system: Callable[[Path], Path] | None = None,
    progress: Callable[[str], None] = lambda _: None,
    check: Callable[[], None] = lambda: None,
) -> Image:
    """The image of `engine`, from the cache or built. Safe to repeat and to run twice at once.

    `system` makes the tar of the system part in a folder, where mmdebstrap cannot (`rootfs.available`).
    `check` is called often and raises to stop the build. Raises ProblemError: no recipe, no tool, no network,
    no space. A build that ends early, even by SIGKILL, leaves nothing that a later one would take for an image.
    """
    recipe = _recipe(engine)
    architecture = architecture or native_architecture()
    name = _name(engine, architecture)
    images = folder()
    images.mkdir(parents=True, exist_ok=True)
    with _locked(images / f".{name}.lock", check):
        if (found := _cached(images / f"{name}.json")) is not None:
            return found
        _need_space(images)
        try:
            with _scratch(images, name) as scratch:
                image = _build(_Job(recipe, name, architecture, mirror, scratch, progress, check), system)
                image = _install(image, scratch, images / f"{name}.tar")
        except OSError as error:
            raise fail(
                "SRV-012",
                f"The engine image could not be written: {error.strerror}.",
                code=Exit.FAILED,
                fix="free 1 GB and run again",
            ) from error
    progress("engine image: ready")
    return image


def folder() -> Path:
    """Where image archives are kept on the controller."""
    return paths.cache() / "images"


def find(engine: str, architecture: str | None = None) -> Image | None:
    """The image when it is in the cache, undamaged."""
    return _cached(folder() / f"{_name(engine, architecture or native_architecture())}.json")


def key(engine: str, architecture: str) -> str:
    """Changes with everything that decides the image's content, except the day's Debian security updates."""
    recipe = _recipe(engine)
    parts: list[Any] = [1, architecture, suite(), PACKAGES, _config()]
    parts += [hashlib.sha256((recipe / name).read_bytes()).hexdigest() for name in ("requirements.lock", "serve.py")]
    parts += [hashlib.sha256(Path(module.__file__ or "").read_bytes()).hexdigest() for module in (archive, rootfs)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def native_architecture() -> str:
    """Debian's name of this machine's architecture. Raises ProblemError where the engine has no wheel for it."""
    machine = platform.machine().lower()
    if machine not in _ARCHITECTURES:
        raise fail(
            "SRV-015", f"There is no inference engine for {machine} (only x86-64 and 64-bit Arm).", code=Exit.PREFLIGHT
        )
    return _ARCHITECTURES[machine]


def _name(engine: str, architecture: str) -> str:
    return f"{engine}-{key(engine, architecture)}"


def _recipe(engine: str) -> Path:
    folder = Path(__file__).parent / engine.replace("-", "_")
    if not (folder / "serve.py").is_file():
        raise fail("SRV-016", f"Engine {engine} has no image that the toolkit builds.", code=Exit.BAD_INPUT)
    return folder


def suite() -> str:
    """Debian release of the image's system part."""
    return catalog.versions()["debian"].version


def _config() -> dict[str, Any]:
    return {
        "User": _NOBODY,
        "Env": ["PATH=/usr/bin", "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1"],
        "Entrypoint": ["/usr/bin/python3", f"/{ENGINE_ROOT}/serve.py"],
        "WorkingDir": "/",
        "StopSignal": "SIGTERM",
        "Labels": {"aifactory.engine": "true"},
    }


@dataclass(frozen=True)
class _Job:
    """One build: what to make, where to work, whom to tell, when to stop."""

    recipe: Path
    name: str
    architecture: str
    mirror: str | None
    scratch: Path
    progress: Callable[[str], None]
    check: Callable[[], None]


def _build(job: _Job, system: Callable[[Path], Path] | None) -> Image:
    job.progress("engine image: downloading the engine")
    lock = job.recipe / "requirements.lock"
    engine_files = wheel.files(wheel.fetch(lock, job.architecture, job.scratch, job.check))
    engine_files["serve.py"] = ((job.recipe / "serve.py").read_bytes(), 0o644)
    tar = system(job.scratch) if system else _extract(job)
    job.progress("engine image: writing the layers")
    return _write(job, tar, engine_files)


def _extract(job: _Job) -> Path:
    source = rootfs.Source(suite(), job.architecture, job.mirror)
    return rootfs.extract(PACKAGES, source, scratch=job.scratch, progress=job.progress, check=job.check)


def _install(image: Image, scratch: Path, target: Path) -> Image:
    """The archive first, then the record that says it is whole."""
    Path(image.archive).replace(target)
    image = replace(image, archive=str(target))
    (scratch / "image.json").write_text(json.dumps(asdict(image)), encoding="utf-8")
    (scratch / "image.json").replace(target.with_suffix(".json"))
    return image


def _write(job: _Job, system: Path, engine_files: dict[str, tuple[bytes, int]]) -> Image:
    layers = [
        archive.write_layer(SYSTEM_LAYER, job.scratch / SYSTEM_LAYER, rootfs.members(system), job.check),
        archive.write_layer(
            ENGINE_LAYER, job.scratch / ENGINE_LAYER, archive.tree(ENGINE_ROOT, engine_files), job.check
        ),
    ]
    path = job.scratch / "image.tar"
    engine, _, tag = job.name.rpartition("-")
    reference = f"localhost/aifactory/{engine}:{tag}"
    image_id = archive.write(path, layers, reference=reference, architecture=job.architecture, config=_config())
    with path.open("rb") as file:
        return Image(str(path), hashlib.file_digest(file, "sha256").hexdigest(), image_id, reference)


def _cached(record: Path) -> Image | None:
    """The image that `record` describes, when its archive is there with the right bytes."""
    try:
        image = Image(**json.loads(record.read_text(encoding="utf-8")))
        image = replace(image, archive=str(record.with_suffix(".tar")))  # the cache may have been moved
        with Path(image.archive).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError, TypeError):
        return None
    return image if digest == image.sha256 else None


def _need_space(images: Path) -> None:
    free = shutil.disk_usage(images).free
    if free < _NEEDED_BYTES:
        raise fail(
            "SRV-012",
            f"Building the engine image takes {_NEEDED_BYTES >> 20} MiB; {images} has {free >> 20} MiB left.",
            code=Exit.FAILED,
            fix="free some space, or set AIFACTORY_CACHE to a larger disk",
        )


@contextmanager
def _scratch(images: Path, name: str) -> Iterator[Path]:
    """A folder beside the result, removed at the end. What a killed build of the same image left goes first."""
    for stale in images.glob(f".{name}.build-*"):
        shutil.rmtree(stale, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=f".{name}.build-", dir=images))
    path.chmod(0o755)  # mmdebstrap's unprivileged mode reads it as another user
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked(path: Path, check: Callable[[], None]) -> Iterator[None]:
    """One build of an image at a time on this machine; waits, and `check` may end the wait."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                check()
                time.sleep(0.1)
        yield
    finally:
        os.close(handle)
