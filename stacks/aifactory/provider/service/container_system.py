"""The engine image's system part from a Debian container image, for machines without mmdebstrap or root.

Same packages, same suite; they come through the container engine, and `serving.rootfs` strips the result the same way.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from aifactory.errors import Exit, fail
from aifactory.provider.local import driver, engine_errors
from aifactory.provider.resource import Context
from aifactory.serving import image

BASE_VARIABLE = "AIFACTORY_DEBIAN_IMAGE"


def builder(ctx: Context, container_engine: str, architecture: str) -> Callable[[Path], Path]:
    """Makes the system's tar in a folder; give it to `image.build`. Raises ProblemError for a foreign architecture."""
    if architecture != image.native_architecture():
        raise fail(
            "SRV-019",
            f"An engine image for {architecture} can only be built here with mmdebstrap, as root.",
            code=Exit.PREFLIGHT,
            fix="apt-get install mmdebstrap and run as root",
        )
    return lambda scratch: build(ctx, container_engine, scratch)


def build(ctx: Context, container_engine: str, scratch: Path) -> Path:
    """Minutes on a cold store; leaves no container and no image. Raises ProblemError with what to do, Cancelled."""
    base = os.environ.get(BASE_VARIABLE) or f"debian:{image.suite()}-slim"
    reference = f"localhost/aifactory-engine-system:{scratch.name.rpartition('-')[2].lower()}"
    ctx.progress(f"engine image: installing its packages into {base}")
    try:
        engine = driver.find(container_engine)
        with _image(ctx, engine, base, reference):
            return _export(engine, reference, scratch)
    except engine_errors.EngineError as error:
        raise fail(
            "SRV-018",
            f"The engine image could not be built: {error}",
            code=Exit.FAILED,
            fix=f"apt-get install mmdebstrap and run as root, or name a Debian image in {BASE_VARIABLE}",
        ) from error


def containerfile(base: str, packages: Sequence[str]) -> str:
    return (
        f"FROM {base}\n"
        "RUN apt-get update \\\n"
        f" && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {' '.join(packages)}\n"
    )


@contextlib.contextmanager
def _image(ctx: Context, engine: driver.ContainerEngine, base: str, reference: str) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Containerfile").write_text(containerfile(base, image.PACKAGES), encoding="utf-8")
        try:
            engine.build(Path(folder), base, reference, ctx.log, ctx.wait)
            yield
        finally:
            with contextlib.suppress(engine_errors.EngineError):
                engine.remove_image(reference)


def _export(engine: driver.ContainerEngine, reference: str, scratch: Path) -> Path:
    """The image's file system as one tar."""
    container = engine.run("create", reference, "/bin/true").stdout.decode().strip()
    try:
        tar = scratch / "rootfs.tar"
        with tar.open("wb") as out:
            done = subprocess.run(
                [engine.program, "export", container], stdout=out, stderr=subprocess.PIPE, check=False
            )
        if done.returncode:
            raise engine_errors.classify(engine.name, "export", done.stderr.decode(errors="replace"))
        return tar
    finally:
        engine.run("rm", container)
