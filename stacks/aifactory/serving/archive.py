"""A container image written as the archive that `podman load` and `docker load` take; no engine needed.

Same content, same image id: file times, owners and order are fixed, and the id is the digest of the image's
configuration, which holds the digests of the uncompressed layers.
Source: Docker Image Specification v1.2 (manifest.json, config, layers), checked 2026-11.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

EPOCH = "2026-01-01T00:00:00Z"
EPOCH_S = 1767225600
_COMPRESSION = 1  # gzip level: 3 s and 60 MB for the engine image; 6 takes 9 s and saves 3 MB

Member = tuple[tarfile.TarInfo, IO[bytes] | None]


@dataclass(frozen=True)
class Layer:
    """One layer on disk: its name inside the archive, the compressed file, the digest of the uncompressed tar."""

    name: str
    file: Path
    diff_id: str


def write_layer(name: str, file: Path, members: Iterable[Member], check: Callable[[], None]) -> Layer:
    """Writes `members` as a compressed tar. `check` is called between members and may raise to stop."""
    digest = hashlib.sha256()
    with file.open("wb") as raw, gzip.GzipFile("", "wb", _COMPRESSION, raw, mtime=0) as packed:
        stream: Any = _Hashing(packed, digest)
        tar = tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 (closed only when whole)
        for info, content in members:
            check()
            tar.addfile(_fixed(info), content)
        tar.close()
    return Layer(name, file, f"sha256:{digest.hexdigest()}")


def write(path: Path, layers: Iterable[Layer], *, reference: str, architecture: str, config: Mapping[str, Any]) -> str:
    """Writes the whole archive to `path` and returns the image id that the engines will report (64 hex digits)."""
    layers = list(layers)
    body = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "created": EPOCH,
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [{"created": EPOCH, "created_by": f"aifactory {layer.name}"} for layer in layers],
        },
        sort_keys=True,
    ).encode()
    image_id = hashlib.sha256(body).hexdigest()
    manifest = [{"Config": f"{image_id}.json", "RepoTags": [reference], "Layers": [layer.name for layer in layers]}]
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for layer in layers:
            with layer.file.open("rb") as content:
                tar.addfile(_info(layer.name, layer.file.stat().st_size), content)
        for name, data in ((f"{image_id}.json", body), ("manifest.json", json.dumps(manifest).encode())):
            tar.addfile(_info(name, len(data)), io.BytesIO(data))
    return image_id


def tree(root: str, files: Mapping[str, tuple[bytes, int]]) -> Iterator[Member]:
    """Folder `root`, its parents and `files` (path inside it → content, mode), folders first, all sorted."""
    folders = {root}
    for name in [root, *(f"{root}/{name}" for name in files)]:
        folders.update(str(parent) for parent in Path(name).parents if str(parent) != ".")
    for folder in sorted(folders):
        info = tarfile.TarInfo(folder)
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        yield info, None
    for name, (data, mode) in sorted(files.items()):
        info = _info(f"{root}/{name}", len(data))
        info.mode = mode
        yield info, io.BytesIO(data)


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, EPOCH_S
    return info


def _fixed(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = EPOCH_S
    info.pax_headers = {}
    return info


class _Hashing:
    """A writable file that also feeds a digest."""

    def __init__(self, target: gzip.GzipFile, digest: Any) -> None:
        self._target, self._digest = target, digest

    def tell(self) -> int:
        return self._target.tell()

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return self._target.write(data)
