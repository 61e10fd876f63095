"""The engine image for real: Debian packages, the pinned wheel, podman. Shares the toolkit's cache, so cold it takes
half a minute.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from aifactory import catalog
from aifactory.provider.local import driver, engine_errors
from aifactory.serving import image, wheel

LOCK = Path(image.__file__).parent / "llama_cpp" / "requirements.lock"


@pytest.fixture(scope="module")
def engine() -> driver.ContainerEngine:
    try:
        return driver.find()
    except engine_errors.EngineError as error:
        pytest.skip(f"no container engine: {error}")


@pytest.fixture(scope="module")
def built() -> image.Image:
    return image.build("llama-cpp", progress=print)


@pytest.mark.containers
def test_container_engine_takes_the_archive_and_reports_the_same_id(
    engine: driver.ContainerEngine, built: image.Image
) -> None:
    with Path(built.archive).open("rb") as archive:
        engine.load(archive)
    try:
        found = engine.image(built.image_id)
        assert found is not None
        assert found.id.removeprefix("sha256:") == built.image_id
        assert engine.image(built.reference) == found
    finally:
        engine.remove_image(built.reference)


@pytest.mark.containers
def test_image_has_no_shell_and_nothing_of_this_machine(tmp_path: Path, built: image.Image) -> None:
    script = f"tar -xOf {built.archive} {image.SYSTEM_LAYER} | tar -tz"
    names = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "usr/bin/python3" in names
    assert [n for n in names if n.startswith(("usr/bin/", "usr/sbin/")) and "python3" not in n] == [
        "usr/bin/",
        "usr/sbin/",
    ]
    assert not {"etc/resolv.conf", "etc/hostname", "bin/sh"} & set(names)
    assert any(n.endswith("libgomp1") or "libgomp1/" in n for n in names)


def test_lock_names_one_version_without_an_index() -> None:
    lines = [line for line in LOCK.read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0].split()[0] == f"xllamacpp=={catalog.versions()['xllamacpp'].version}"
    assert all(line.strip().startswith("--hash=sha256:") for line in lines[1:])
    assert "index" not in LOCK.read_text().split("\n", 2)[2]
    assert "http" not in LOCK.read_text()


def test_lock_has_a_wheel_for_each_architecture() -> None:
    assert LOCK.read_text().count("--hash") == len(wheel._PLATFORMS)


def test_wheel_with_another_hash_is_refused(tmp_path: Path) -> None:
    from aifactory.errors import ProblemError

    wrong = tmp_path / "requirements.lock"
    wrong.write_text(LOCK.read_text().replace("sha256:c54e", "sha256:0000").replace("sha256:e2a3", "sha256:0000"))
    with pytest.raises(ProblemError, match="SRV-014"):
        wheel.fetch(wrong, image.native_architecture(), tmp_path, lambda: None)
    assert list(tmp_path.glob("*.whl")) == []
