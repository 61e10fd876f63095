"""The engine image built through a container engine, as on a machine without mmdebstrap.

Real: podman build, apt, the pinned wheel, the image run. Its base is the toolkit's node image, not Debian's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aifactory.errors import ProblemError
from aifactory.provider.local import driver, engine_errors
from aifactory.provider.resource import Refused
from aifactory.provider.service import container_system
from aifactory.provider.service.engine_image import EngineImage
from aifactory.serving import image, rootfs

from tests.provider.harness import Engine, context
from tests.roles.image import node_image

pytestmark = [pytest.mark.containers, pytest.mark.timeout(400)]


@pytest.fixture
def engine() -> driver.ContainerEngine:
    try:
        return driver.find()
    except engine_errors.EngineError as error:
        pytest.skip(f"no container engine: {error}")


@pytest.fixture
def resource(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engine:
    monkeypatch.setattr(rootfs, "available", lambda: False)
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path / "home"))
    return Engine(EngineImage())


VALUES: dict[str, Any] = {"region": "t-region", "engine": "llama-cpp"}


@pytest.fixture
def base(engine: driver.ContainerEngine) -> Iterator[str]:
    with node_image(engine) as image_id:
        yield image_id


def test_image_has_an_engine_that_runs_and_nothing_stays(
    engine: driver.ContainerEngine, base: str, resource: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(container_system.BASE_VARIABLE, base)
    monkeypatch.setenv("AIFACTORY_CACHE", str(tmp_path / "cache"))
    outputs = resource.up(VALUES).outputs
    assert b"aifactory-engine-system" not in engine.run("ps", "-a", "--format", "{{.Image}} {{.Command}}").stdout
    assert engine.tags("localhost/aifactory-engine-system") == []
    with (image.folder() / outputs.archive).open("rb") as archive:
        engine.load(archive)
    try:
        flags = engine.flags(outputs.image_id, print).argv()
        run = ("run", "--rm", "--network", "none", *flags, "--entrypoint", "/usr/bin/python3", outputs.image_id)
        script = (
            f"import sys; sys.path.insert(0, '/{image.ENGINE_ROOT}'); import xllamacpp; print(xllamacpp.__version__)"
        )
        assert engine.run(*run, "-c", script).stdout.decode().strip()
        assert b"--api-key-file" in engine.run(*run, f"/{image.ENGINE_ROOT}/serve.py", "--help").stdout
    finally:
        engine.remove_image(outputs.image_id)


def test_base_that_cannot_be_fetched_is_said(resource: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(container_system.BASE_VARIABLE, "127.0.0.1:9/debian:none")
    monkeypatch.setenv("AIFACTORY_CACHE", str(tmp_path / "cache"))
    with pytest.raises(Refused, match="SRV-018") as caught:
        resource.up(VALUES)
    assert container_system.BASE_VARIABLE in str(caught.value)
    assert [p.name for p in image.folder().iterdir() if not p.name.endswith(".lock")] == []


def test_foreign_architecture_is_refused() -> None:
    foreign = "arm64" if image.native_architecture() == "amd64" else "amd64"
    with pytest.raises(ProblemError, match="SRV-019"):
        container_system.builder(context(), "auto", foreign)
