"""The image archive, written without a container engine. Real: tar, gzip, digests (podman has its own test)."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from aifactory.serving import archive


def build(folder: Path) -> tuple[str, Path]:
    folder.mkdir()
    files = {"b.py": (b"print(1)\n", 0o644), "lib/a.so": (b"\x7fELF", 0o755)}
    layer = archive.write_layer("one.tar.gz", folder / "one", archive.tree("opt/x", files), lambda: None)
    config = {"Entrypoint": ["/opt/x/b.py"]}
    image_id = archive.write(
        folder / "image.tar", [layer], reference="localhost/t:1", architecture="amd64", config=config
    )
    return image_id, folder / "image.tar"


def test_same_content_same_bytes_and_id(tmp_path: Path) -> None:
    first, second = build(tmp_path / "a"), build(tmp_path / "b")
    assert first[0] == second[0]
    assert first[1].read_bytes() == second[1].read_bytes()


def test_image_id_is_the_digest_of_the_configuration(tmp_path: Path) -> None:
    image_id, path = build(tmp_path / "a")
    with tarfile.open(path) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        config = tar.extractfile(manifest[0]["Config"]).read()  # type: ignore[union-attr]
    assert manifest[0] == {"Config": f"{image_id}.json", "RepoTags": ["localhost/t:1"], "Layers": ["one.tar.gz"]}
    assert hashlib.sha256(config).hexdigest() == image_id


def test_diff_id_is_the_digest_of_the_unpacked_layer(tmp_path: Path) -> None:
    image_id, path = build(tmp_path / "a")
    with tarfile.open(path) as tar:
        config = json.load(tar.extractfile(f"{image_id}.json"))  # type: ignore[arg-type]
        layer = gzip.decompress(tar.extractfile("one.tar.gz").read())  # type: ignore[union-attr]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        found = {m.name: (m.mode, m.uid, m.mtime) for m in tar}
    assert list(found) == ["opt", "opt/x", "opt/x/lib", "opt/x/b.py", "opt/x/lib/a.so"]
    assert found["opt/x/lib/a.so"] == (0o755, 0, archive.EPOCH_S)


def test_check_that_raises_stops_the_layer(tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        archive.write_layer("l", tmp_path / "l", archive.tree("x", {"a": (b"", 0o644)}), stop)
