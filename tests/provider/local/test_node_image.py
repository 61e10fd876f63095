"""local:NodeImage. Real: mmdebstrap against the Debian mirror, a full file system, kill -9, podman."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aifactory.provider.local import image_archive, image_recipe, rootfs_build
from aifactory.provider.local.node_image import REPOSITORY, NodeImage
from aifactory.provider.local.node_pool import NodePool
from aifactory.provider.resource import Cancelled, Refused

from tests.provider.harness import CheckFailed, Engine
from tests.provider.local import ground as real
from tests.provider.local.ground import Ground, ssh

pytestmark = pytest.mark.containers
VALUES = {"engine": "podman", "suite": "trixie"}

needs_mmdebstrap = pytest.mark.skipif(
    not rootfs_build.available(), reason="needs root and mmdebstrap (apt-get install mmdebstrap)"
)


@pytest.fixture
def image(request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = _engine(request.node.name)
    yield engine
    engine.destroy()


def _engine(who: str) -> Engine:
    return Engine(NodeImage(), deployment=f"t-{who}-{os.getpid()}")


@pytest.fixture
def shared_cache(monkeypatch: pytest.MonkeyPatch, node_image: str) -> str:
    """The id of the image in the cache that all tests share."""
    monkeypatch.setenv("AIFACTORY_CACHE", str(real.SHARED_CACHE))
    return node_image


def names(engine: Engine) -> list[str]:
    """Names in podman of one resource's image."""
    assert engine.state
    token = engine.state.inputs.token[:16]
    return [t for t in real.find_podman().tags(REPOSITORY) if t.startswith(f"{REPOSITORY}:{token}-")]


def test_create_warm_gives_the_same_id_every_time(image: Engine, shared_cache: str) -> None:
    outs = image.up(VALUES).outputs
    assert outs.image == shared_cache
    assert outs.reference.endswith(f"-{outs.nonce}")
    assert names(image) == [outs.reference]
    assert image.up(VALUES).outputs == outs
    assert image.operations == ["create"]


def test_create_again_after_a_kill_takes_the_name_over(image: Engine, shared_cache: str) -> None:
    first = image.up(VALUES)
    image.forget()
    second = image.up(VALUES)
    assert names(image) == [second.outputs.reference]
    image.resource.delete(image.context(), first.id, first.inputs, first.outputs)
    assert names(image) == [second.outputs.reference]


def test_delete_keeps_the_image_of_another_region(image: Engine, shared_cache: str) -> None:
    image.up(VALUES)
    other = _engine("other-region")
    other.up(VALUES)
    kept = names(other)
    image.destroy()
    assert names(other) == kept
    other.destroy()


def test_up_removed_image_is_loaded_again(image: Engine, shared_cache: str) -> None:
    first = image.up(VALUES).outputs
    real.find_podman().remove_image(first.reference)
    diff, _ = image.preview(VALUES)
    assert diff is not None
    assert diff.output_updates == ("image",)
    assert image.up(VALUES).outputs.image == first.image
    assert image.operations == ["create", "update"]


def test_refresh_notices_that_it_is_gone(image: Engine, shared_cache: str) -> None:
    real.find_podman().remove_image(image.up(VALUES).outputs.reference)
    assert image.refresh() is None


def test_damaged_archive_is_built_again(
    image: Engine, shared_cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second build is a copy of the good archive, to save half a minute."""
    files = [f for f in (real.SHARED_CACHE / "images").glob("node-*.json") if shared_cache in f.read_text()]
    good = max(files, key=lambda f: f.stat().st_mtime)
    archive = image_archive.Archive(**json.loads(good.read_text()))
    monkeypatch.setenv("AIFACTORY_CACHE", str(tmp_path))
    image_archive.folder().mkdir()
    shutil.copy(good, image_archive.folder())
    damaged = json.loads(good.read_text()) | {"image_id": f"sha256:{'1' * 64}"}
    (image_archive.folder() / good.name).write_text(json.dumps(damaged))
    (image_archive.folder() / archive.file).write_bytes(b"not an archive")

    def build(*_: object) -> image_archive.Archive:
        shutil.copy(real.SHARED_CACHE / "images" / archive.file, image_archive.folder())
        return archive

    monkeypatch.setattr(image_archive, "_build", build)
    assert image.up(VALUES).outputs.image == archive.image_id
    assert "damaged" in image.lines.log[0]


@needs_mmdebstrap
def test_create_unreachable_mirror_says_so_and_leaves_nothing(
    image: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIFACTORY_DEBIAN_MIRROR", "http://127.0.0.1:9/debian")
    with pytest.raises(Refused) as refused:
        image.up(VALUES)
    first, second = str(refused.value).splitlines()
    assert first.startswith("the Debian mirror cannot be reached, so the node image was not built: ")
    assert "127.0.0.1" in first
    assert "AIFACTORY_DEBIAN_MIRROR" in second
    assert _left(tmp_path / "cache") == []


@needs_mmdebstrap
def test_create_unknown_suite_says_so(image: Engine, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="the mirror does not have this Debian release"):
        image.up({**VALUES, "suite": "nosuchrelease"})
    assert _left(tmp_path / "cache") == []


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache on a file system of 48 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "t", folder], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("needs root to mount a small file system")
    monkeypatch.setenv("AIFACTORY_CACHE", str(folder))
    yield folder
    subprocess.run(["umount", folder], check=True)


@needs_mmdebstrap
def test_create_full_disk_says_where_and_leaves_nothing(
    image: Engine, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_recipe, "PACKAGES", ("ca-certificates",))  # large enough, and sooner there
    monkeypatch.setattr(image_recipe, "SETUP", "true\n")
    with pytest.raises(Refused) as refused:
        image.up(VALUES)
    assert str(refused.value).startswith(
        f"the disk is full: the node image needs some 400 MiB under {small_disk}/images"
    )
    assert "AIFACTORY_CACHE" in str(refused.value)
    assert _left(small_disk) == []
    assert shutil.disk_usage(small_disk).used < 1 << 20


_BUILD = """
import sys
from tests.provider.harness import Engine, Lines
from aifactory.provider.local.node_image import NodeImage
engine = Engine(NodeImage(), deployment="t-killed")
engine.lines.progress = type("Told", (list,), {"append": lambda self, line: print(line, flush=True)})()
engine.up({"engine": "podman", "suite": "trixie"})
"""


@needs_mmdebstrap
def test_killed_build_leaves_no_process_no_mount_and_no_file(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _BUILD], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
    ) as builder:
        assert builder.stdout
        for line in builder.stdout:
            if "fetching packages" in line:
                break
        running = _descendants(builder.pid)
        assert any("mmdebstrap" in name for name in running.values())
        os.kill(builder.pid, signal.SIGKILL)
    end = time.monotonic() + 10
    while (alive := [p for p in running if Path(f"/proc/{p}").exists()]) and time.monotonic() < end:
        time.sleep(0.05)
    assert alive == []
    assert "aifactory /mnt" not in Path("/proc/mounts").read_text()
    assert sum(f.stat().st_size for f in (tmp_path / "cache").rglob("*")) < 1 << 16


@needs_mmdebstrap
def test_cancelled_build_ends_at_once_and_leaves_nothing(image: Engine, tmp_path: Path) -> None:
    stop = threading.Timer(1.5, image.cancel.set)
    stop.start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        image.up(VALUES)
    assert time.monotonic() - started < 6
    assert _left(tmp_path / "cache") == []


@needs_mmdebstrap
def test_build_short_of_memory_works_on_disk(image: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rootfs_build, "_available_mib", lambda: 100)
    monkeypatch.setattr(rootfs_build, "_ON_DISK", tmp_path / "var")
    tmp_path.chmod(0o755)
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "aifactory-rootfs-999999999-old").mkdir()
    monkeypatch.setenv("AIFACTORY_DEBIAN_MIRROR", "http://127.0.0.1:9/debian")
    with pytest.raises(Refused, match="mirror cannot be reached"):
        image.up(VALUES)
    assert list((tmp_path / "var").iterdir()) == []


def test_check_suite_that_is_none_is_named(image: Engine) -> None:
    with pytest.raises(CheckFailed, match="suite: trixie main is not the code name"):
        image.up({**VALUES, "suite": "trixie main"})


def test_containerfile_builds_a_node_that_lets_its_user_in(
    ground: Ground, image: Engine, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Real: podman build and a node of its image. Its base is a node image without the login, not Debian's own."""
    base = f"localhost/{ground.region}-base:1"
    _without_login(ground, base)
    request.addfinalizer(lambda: ground.podman.remove_image(base))
    monkeypatch.setattr(rootfs_build, "available", lambda: False)
    monkeypatch.setenv("AIFACTORY_DEBIAN_IMAGE", base)
    outs = image.up(VALUES).outputs
    host = ground.engine(NodePool()).up(ground.values(1, image=outs.image)).outputs.hosts[0]
    assert ssh(ground, host, "sudo id -un").stdout == "root\n"
    assert [t for t in ground.podman.tags(REPOSITORY) if ":build-" in t] == []
    ground.clear()


def _without_login(ground: Ground, base: str) -> None:
    name = f"{ground.region}-base"
    flags = ground.podman.flags(ground.image, print).argv()
    label = ("--label", f"aifactory.region={ground.region}")
    ground.podman.run("run", "--name", name, "--network", "none", *label, *flags, ground.image, "userdel", "-r", "ops")
    ground.podman.run("commit", "-q", name, base)
    ground.podman.remove(name)


def _left(folder: Path) -> list[str]:
    """Files that stayed, lock files aside."""
    return [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"]


def _descendants(pid: int) -> dict[int, str]:
    found: dict[int, str] = {}
    queue = [pid]
    while queue:
        parent = queue.pop()
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            for child in map(int, task.read_text().split()):
                found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                queue.append(child)
    return found
