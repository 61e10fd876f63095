"""Building the engine image. Real: locks, files, archives, a full disk; the wheel and the Debian packages are small
stand-ins (tests/unit/serving/test_image_engine.py has the real ones).
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aifactory.errors import ProblemError
from aifactory.serving import image, rootfs, wheel

ENGINE = "llama-cpp"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIFACTORY_CACHE", str(tmp_path))
    return tmp_path / "images"


@pytest.fixture(autouse=True)
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Scratch folders of the builds that were begun."""
    begun: list[Path] = []

    def fetch(_requirements: Path, _architecture: str, folder: Path, _check: Callable[[], None]) -> Path:
        begun.append(folder)
        return folder / "x.whl"

    def extract(_packages: object, _source: object, *, scratch: Path, **_: object) -> Path:
        with tarfile.open(scratch / "rootfs.tar", "w") as tar:
            info = tarfile.TarInfo("./usr/bin/python3")
            info.size = 2_000_000
            tar.addfile(info, io.BytesIO(os.urandom(info.size)))
        return scratch / "rootfs.tar"

    monkeypatch.setattr(wheel, "fetch", fetch)
    monkeypatch.setattr(wheel, "files", lambda _wheel: {"xllamacpp/__init__.py": (b"", 0o644)})
    monkeypatch.setattr(rootfs, "extract", extract)
    return begun


def test_build_twice_builds_once(cache: Path, builds: list[Path]) -> None:
    first = image.build(ENGINE, architecture="amd64")
    assert image.build(ENGINE, architecture="amd64") == first
    assert image.find(ENGINE, "amd64") == first
    assert len(builds) == 1
    assert sorted(p.suffix for p in cache.iterdir() if not p.name.startswith(".")) == [".json", ".tar"]


def test_build_holds_start_script_and_engine_in_their_own_layer(cache: Path) -> None:
    built = image.build(ENGINE, architecture="amd64")
    with tarfile.open(built.archive) as outer:
        assert outer.getnames()[:2] == [image.SYSTEM_LAYER, image.ENGINE_LAYER]
        with tarfile.open(fileobj=outer.extractfile(image.ENGINE_LAYER)) as inner:
            names = inner.getnames()
    assert f"{image.ENGINE_ROOT}/serve.py" in names
    assert f"{image.ENGINE_ROOT}/xllamacpp/__init__.py" in names


@pytest.mark.parametrize("harm", ["archive cut", "archive gone", "record damaged"])
def test_build_damaged_cache_is_built_again(cache: Path, builds: list[Path], harm: str) -> None:
    built = Path(image.build(ENGINE, architecture="amd64").archive)
    if harm == "archive cut":
        built.write_bytes(built.read_bytes()[:-1])
    elif harm == "archive gone":
        built.unlink()
    else:
        built.with_suffix(".json").write_text("{")
    assert image.find(ENGINE, "amd64") is None
    assert Path(image.build(ENGINE, architecture="amd64").archive).is_file()
    assert len(builds) == 2


def test_build_cache_that_was_moved_is_found(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image.build(ENGINE, architecture="amd64")
    moved = cache.parent / "moved"
    moved.mkdir()
    cache.rename(moved / "images")
    monkeypatch.setenv("AIFACTORY_CACHE", str(moved))
    found = image.find(ENGINE, "amd64")
    assert found is not None
    assert Path(found.archive).parent == moved / "images"


def test_build_stopped_leaves_nothing(cache: Path) -> None:
    calls = iter(range(100))

    def stop() -> None:
        if next(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        image.build(ENGINE, architecture="amd64", check=stop)
    assert [p.name for p in cache.iterdir() if not p.name.endswith(".lock")] == []


def test_build_killed_next_one_clears_up(cache: Path, builds: list[Path]) -> None:
    """A real SIGKILL in the middle of a build."""
    code = (
        "import os, signal\n"
        "from aifactory.serving import image, wheel\n"
        "wheel.fetch = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"image.build({ENGINE!r}, architecture='amd64')\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert [p for p in cache.iterdir() if ".build-" in p.name]
    assert image.find(ENGINE, "amd64") is None
    image.build(ENGINE, architecture="amd64")
    assert [p for p in cache.iterdir() if ".build-" in p.name] == []


def test_build_two_at_once_build_once(cache: Path, builds: list[Path]) -> None:
    results: list[image.Image] = []
    threads = [
        threading.Thread(target=lambda: results.append(image.build(ENGINE, architecture="amd64"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(results)) == 1
    assert len(builds) == 1


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system of 1 MiB as the cache."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("cannot mount a tmpfs: run as root")
    monkeypatch.setenv("AIFACTORY_CACHE", str(disk))
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_build_too_little_space_is_said_before_it_begins(small_disk: Path, builds: list[Path]) -> None:
    with pytest.raises(ProblemError, match=r"takes 700 MiB; .* has \d MiB left"):
        image.build(ENGINE, architecture="amd64")
    assert builds == []


def test_build_disk_full_on_the_way_is_said_and_leaves_nothing(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "_NEEDED_BYTES", 0)
    with pytest.raises(ProblemError, match="SRV-012") as caught:
        image.build(ENGINE, architecture="amd64")
    assert "No space left" in str(caught.value)
    assert [p.name for p in (small_disk / "images").iterdir() if not p.name.endswith(".lock")] == []


def test_key_differs_by_architecture_and_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = image.key(ENGINE, "amd64")
    assert before == image.key(ENGINE, "amd64") != image.key(ENGINE, "arm64")
    monkeypatch.setattr(image, "PACKAGES", (*image.PACKAGES, "bash"))
    assert image.key(ENGINE, "amd64") != before


def test_engine_without_recipe_is_refused() -> None:
    with pytest.raises(ProblemError, match="SRV-016"):
        image.key("vllm", "amd64")
