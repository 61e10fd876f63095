"""The node image as one compressed file in the cache, and its way into an engine.

`images/node-<key>.tar.zst` is a docker archive whose configuration we write ourselves, so its image id
is the same wherever and however often it is loaded. `node-<key>.json` beside it says which id that is.
Both appear whole or not at all; one build at a time holds the lock.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from aifactory import paths
from aifactory.provider.local import image_recipe, rootfs_build
from aifactory.provider.local.driver import ContainerEngine
from aifactory.provider.local.engine_errors import EngineError, NoSpace
from aifactory.provider.resource import Context, Refused

COMPRESSORS = (("zstd", ".tar.zst", ("-q", "-3", "-T0")), ("gzip", ".tar.gz", ("-1",)))


@dataclass(frozen=True)
class Archive:
    """`file` is a name inside the folder; `digest` is that of the root file system's tar."""

    file: str
    image_id: str
    digest: str


def folder() -> Path:
    return paths.cache() / "images"


def ensure(ctx: Context, engine: ContainerEngine, recipe: image_recipe.Recipe) -> tuple[Archive, str]:
    """The archive of this recipe, built if it is not in the cache, and who built it. Seconds to minutes.

    Raises Refused (unreachable mirror, full disk …) or Cancelled; nothing is left behind then.
    """
    builder = "mmdebstrap" if rootfs_build.available() else "containerfile"
    key = recipe.key(builder)
    try:
        folder().mkdir(parents=True, exist_ok=True)
        with _lock(ctx, key):
            if found := _read(key):
                return found, builder
            _sweep(key)
            return _build(ctx, engine, recipe, key, builder), builder
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Refused(rootfs_build.no_space(str(folder()))) from error
        raise


def load(engine: ContainerEngine, archive: Archive) -> None:
    """Puts the image into the engine, without a name. Raises EngineError; a damaged archive too."""
    program = "zstd" if archive.file.endswith(".zst") else "gzip"
    with subprocess.Popen([program, "-dc", folder() / archive.file], stdout=subprocess.PIPE) as unpack:
        try:
            assert unpack.stdout  # noqa: S101 - asked for above
            engine.load(unpack.stdout)
        finally:
            unpack.kill()


def forget(recipe: image_recipe.Recipe, builder: str) -> None:
    """Takes a damaged archive out of the cache."""
    (folder() / f"node-{recipe.key(builder)}.json").unlink(missing_ok=True)


def _build(ctx: Context, engine: ContainerEngine, recipe: image_recipe.Recipe, key: str, builder: str) -> Archive:
    program, suffix, options = next(c for c in COMPRESSORS if shutil.which(c[0]))
    part = folder() / f".node-{key}.part"
    ctx.progress(f"node image: building Debian {recipe.suite} (once a machine, about half a minute)")
    try:
        with part.open("wb") as out, _compressed([program, *options], out) as sink:
            if builder == "mmdebstrap":
                image_id, digest = _with_mmdebstrap(ctx, recipe, sink)
            else:
                image_id, digest = _with_engine(ctx, engine, recipe, sink)
        archive = Archive(f"node-{key}{suffix}", image_id, digest)
        part.replace(folder() / archive.file)
        _write(key, archive)
        return archive
    finally:
        part.unlink(missing_ok=True)


def _with_mmdebstrap(ctx: Context, recipe: image_recipe.Recipe, sink: IO[bytes]) -> tuple[str, str]:
    with tempfile.TemporaryFile(dir=folder()) as rootfs:
        rootfs_build.build(ctx, image_recipe.mmdebstrap_argv(recipe), rootfs, str(folder()))
        ctx.progress("node image: compressing")
        rootfs.seek(0)
        digest = hashlib.file_digest(rootfs, "sha256").hexdigest()
        config = _config(recipe, digest)
        image_id = hashlib.sha256(config).hexdigest()
        manifest = [{"Config": f"{image_id}.json", "RepoTags": None, "Layers": ["layer.tar"]}]
        with tarfile.open(fileobj=sink, mode="w|") as tar:
            _add(tar, "manifest.json", json.dumps(manifest).encode())
            _add(tar, f"{image_id}.json", config)
            layer = tarfile.TarInfo("layer.tar")
            layer.size = rootfs.seek(0, os.SEEK_END)
            rootfs.seek(0)
            tar.addfile(layer, rootfs)
    return f"sha256:{image_id}", f"sha256:{digest}"


def _config(recipe: image_recipe.Recipe, digest: str) -> bytes:
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return json.dumps(
        {
            "created": now,
            "architecture": recipe.architecture,
            "os": "linux",
            "config": {"Cmd": ["/sbin/init"], "StopSignal": "SIGRTMIN+3"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            "history": [{"created": now, "created_by": f"aifactory, mmdebstrap {recipe.suite}"}],
        }
    ).encode()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _with_engine(
    ctx: Context, engine: ContainerEngine, recipe: image_recipe.Recipe, sink: IO[bytes]
) -> tuple[str, str]:
    """For machines without mmdebstrap or root: the same content from a Debian base image."""
    reference = f"localhost/aifactory-node:build-{recipe.key('containerfile')}"
    try:
        with tempfile.TemporaryDirectory() as context:
            for name, text in image_recipe.containerfile(recipe).items():
                (Path(context) / name).write_text(text, encoding="utf-8")
            engine.build(Path(context), recipe.base_image, reference, ctx.log, ctx.wait)
        image = engine.image(reference)
        if image is None:
            raise Refused(f"{engine.name} built the node image and lost it again; run once more")
        ctx.progress("node image: compressing")
        engine.save(image.id, sink)  # by its id: a name would come back with every load
    except NoSpace as error:
        raise Refused(f"the disk is full: {error}") from error
    except EngineError as error:
        raise Refused(f"the node image could not be built: {error}") from error
    finally:
        with contextlib.suppress(EngineError):
            engine.remove_image(reference)
    return image.id, image.id


@contextlib.contextmanager
def _compressed(argv: list[str], out: IO[bytes]) -> Iterator[IO[bytes]]:
    """A file object whose content arrives compressed in `out`. Raises OSError (ENOSPC) when it could not be written."""
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.PIPE)
    assert process.stdin is not None  # noqa: S101 - asked for above
    assert process.stderr is not None  # noqa: S101
    try:
        yield process.stdin
        process.stdin.close()
        _check(process, process.stderr.read().decode(errors="replace"))
    except BrokenPipeError:
        _check(process, process.stderr.read().decode(errors="replace"))
        raise
    finally:
        process.kill()
        process.wait()


def _check(process: subprocess.Popen[bytes], told: str) -> None:
    if process.wait() != 0:
        full = os.strerror(errno.ENOSPC).lower() in told.lower()
        raise OSError(errno.ENOSPC if full else errno.EIO, f"compressing the node image failed: {told.strip()}")


@contextlib.contextmanager
def _lock(ctx: Context, key: str) -> Iterator[None]:
    """One build of a key at a time on this machine; the kernel lets go when the holder dies."""
    with (folder() / f".node-{key}.lock").open("w") as file:
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    ctx.progress("node image: another run is building it, waiting")
                    told = True
                ctx.wait(0.2)
        yield


def _read(key: str) -> Archive | None:
    try:
        archive = Archive(**json.loads((folder() / f"node-{key}.json").read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return archive if (folder() / archive.file).is_file() else None


def _write(key: str, archive: Archive) -> None:
    part = folder() / f".node-{key}.json.part"
    part.write_text(json.dumps(asdict(archive), indent=1), encoding="utf-8")
    part.replace(folder() / f"node-{key}.json")


def _sweep(key: str) -> None:
    """What a build that was killed while compressing left."""
    for name in (f".node-{key}.part", f".node-{key}.json.part"):
        (folder() / name).unlink(missing_ok=True)
