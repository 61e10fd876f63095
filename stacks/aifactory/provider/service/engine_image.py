"""`service:EngineImage`: the inference engine's container image and the models that the toolkit makes itself."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from aifactory import catalog
from aifactory.errors import ProblemError
from aifactory.provider import tokens
from aifactory.provider.host.play_resource import has_unknown
from aifactory.provider.journal import Journal
from aifactory.provider.resource import UNKNOWN, CheckFailure, Context, Diff, Refused, Resource, prop
from aifactory.provider.service import container_system
from aifactory.serving import golden, image, rootfs


@dataclass(frozen=True, kw_only=True)
class EngineImageInputs:
    region: str = prop(doc="Region that serves with it.")
    engine: str = prop(doc="Key of the engines catalogue.", replaces=True)
    models: tuple[str, ...] = prop(
        (), doc="Keys of the models catalogue to have at hand, where the toolkit makes them."
    )
    architecture: str = prop("", doc="Architecture of the nodes, amd64 or arm64; empty = this machine's.")
    container_engine: str = prop("auto", doc="Container engine that helps where mmdebstrap or root is missing.")
    recipe: str = prop("", doc="Key of the recipe: what decides the image's content.", check=True)
    token: str = prop("", doc="Identity of the resource.", check=True)


@dataclass(frozen=True, kw_only=True)
class EngineImageOutputs:
    """File names are relative to the toolkit's cache, so that they mean the same on another controller."""

    archive: str = prop(doc="File of the image archive under images/.")
    archive_sha256: str = prop(doc="Its digest.")
    image_id: str = prop(doc="Image id as the container engines report it.")
    model_files: dict[str, str] = prop(doc="Model → file under models/.")
    nonce: str = prop(doc="Changes with every create.")


class EngineImage(Resource[EngineImageInputs, EngineImageOutputs]):
    """create and update block for some 15 s on a cold cache, nothing on a warm one, and are safe to repeat.

    The files are a cache that regions share: delete leaves them, and a diff that misses one makes it again.
    """

    token: ClassVar[str] = tokens.SERVICE_ENGINE_IMAGE
    Inputs: ClassVar[type] = EngineImageInputs
    Outputs: ClassVar[type] = EngineImageOutputs

    def check(
        self, ctx: Context, news: EngineImageInputs, olds: EngineImageInputs | None
    ) -> tuple[EngineImageInputs, list[CheckFailure]]:
        """Fills in the recipe's key, so that a new release of the toolkit updates the image."""
        if has_unknown([news.engine, news.models, news.architecture]):
            return replace(news, recipe=UNKNOWN), []
        failures = [
            CheckFailure(f"models[{i}]", f"{m} is no model")
            for i, m in enumerate(news.models)
            if m not in catalog.models()
        ]
        try:
            return replace(news, recipe=image.key(news.engine, _architecture(news))), failures
        except ProblemError as error:
            return news, [*failures, CheckFailure("engine", error.problems[0].message)]

    def diff(
        self, ctx: Context, id: str, olds: EngineImageInputs, outs: EngineImageOutputs, news: EngineImageInputs
    ) -> Diff:
        """Also looks whether the files are there."""
        plain = super().diff(ctx, id, olds, outs, news)
        missing = [] if (image.folder() / outs.archive).is_file() else ["archive"]
        if not all((golden.folder() / file).is_file() for file in outs.model_files.values()):
            missing.append("model_files")
        return replace(plain, output_updates=tuple(missing))

    def preview(self, ctx: Context, news: EngineImageInputs, outs: EngineImageOutputs | None) -> EngineImageOutputs:
        """Known where an image of this recipe is in the cache already."""
        nonce = outs.nonce if outs else UNKNOWN
        if news.recipe is UNKNOWN or has_unknown(news.models):
            return EngineImageOutputs(
                archive=UNKNOWN, archive_sha256=UNKNOWN, image_id=UNKNOWN, model_files=UNKNOWN, nonce=nonce
            )
        built = image.find(news.engine, _architecture(news))
        if built is None:
            return EngineImageOutputs(
                archive=UNKNOWN, archive_sha256=UNKNOWN, image_id=UNKNOWN, model_files=_model_files(news), nonce=nonce
            )
        return _outputs(news, built, nonce)

    def create(self, ctx: Context, news: EngineImageInputs) -> tuple[str, EngineImageOutputs]:
        journal = Journal(news.region, news.token)
        with journal.held(ctx):
            return news.token, self._make(ctx, news, journal.new_nonce())

    def update(
        self, ctx: Context, id: str, olds: EngineImageInputs, outs: EngineImageOutputs, news: EngineImageInputs
    ) -> EngineImageOutputs:
        return self._make(ctx, news, outs.nonce)

    def _make(self, ctx: Context, news: EngineImageInputs, nonce: str) -> EngineImageOutputs:
        begun, architecture = time.monotonic(), _architecture(news)
        try:
            if _model_files(news):
                golden.ensure(golden.folder())
            built = image.build(
                news.engine,
                architecture=architecture,
                mirror=os.environ.get("AIFACTORY_DEBIAN_MIRROR"),
                system=None
                if rootfs.available()
                else container_system.builder(ctx, news.container_engine, architecture),
                progress=ctx.progress,
                check=ctx.check_cancelled,
            )
        except ProblemError as error:
            raise Refused(str(error)) from error
        ctx.log(f"engine image {built.image_id[:12]} ready in {time.monotonic() - begun:.0f} s")
        return _outputs(news, built, nonce)

    def read(
        self, ctx: Context, id: str, olds: EngineImageInputs | None, outs: EngineImageOutputs | None
    ) -> tuple[EngineImageInputs, EngineImageOutputs] | None:
        """What the state says: missing files are the diff's to find. Nothing to import."""
        return None if olds is None or outs is None else (olds, outs)

    def delete(self, ctx: Context, id: str, olds: EngineImageInputs, outs: EngineImageOutputs) -> None:
        journal = Journal(olds.region, olds.token)
        with journal.held(ctx):
            if journal.owns(outs.nonce):
                journal.remove()


def _architecture(inputs: EngineImageInputs) -> str:
    return inputs.architecture or image.native_architecture()


def _model_files(inputs: EngineImageInputs) -> dict[str, str]:
    """The models that the toolkit makes from code: those whose recorded digest is that of the golden model."""
    made = [m for m in inputs.models if catalog.models()[m].sha256 == golden.SHA256]
    return dict.fromkeys(made, golden.FILE)


def _outputs(inputs: EngineImageInputs, built: image.Image, nonce: str) -> EngineImageOutputs:
    return EngineImageOutputs(
        archive=Path(built.archive).name,
        archive_sha256=built.sha256,
        image_id=built.image_id,
        model_files=_model_files(inputs),
        nonce=nonce,
    )
