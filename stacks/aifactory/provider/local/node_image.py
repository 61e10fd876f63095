"""`aifactory:local:NodeImage`: the root file system of the nodes, in the engine under a name of this resource's own.

The image itself is shared: it is built once a machine into the cache, and two regions use the same one.
What a resource owns is a name, `localhost/aifactory-node:<token>-<nonce>`. Delete takes the name away;
the engine keeps the image while another resource names it, and the cache keeps the archive.
"""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass, replace

from aifactory.provider import identity
from aifactory.provider.local import driver, image_archive
from aifactory.provider.local.driver import ContainerEngine
from aifactory.provider.local.engine_errors import EngineError, ImageMissing, NoSpace, StillInUse
from aifactory.provider.local.image_recipe import Recipe
from aifactory.provider.resource import UNKNOWN, CheckFailure, Context, Diff, Refused, Resource, prop
from aifactory.provider.tokens import LOCAL_NODE_IMAGE

REPOSITORY = "localhost/aifactory-node"
_TOKEN_CHARACTERS = 16
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class NodeImageInputs:
    engine: str = prop(doc="Container engine that runs the nodes.", replaces=True)
    suite: str = prop(doc="Debian release, by code name.")
    token: str = prop("", doc="Identity of the resource.", check=True)


@dataclass(frozen=True)
class NodeImageOutputs:
    image: str = prop(doc="Image id in the engine, `sha256:<hex>`.")
    reference: str = prop(doc="Name of the image in the engine.")
    digest: str = prop(doc="Digest of the root file system.")
    nonce: str = prop(doc="Fence of delete and update; part of the name.")


class NodeImage(Resource[NodeImageInputs, NodeImageOutputs]):
    """Create and update take seconds with a warm cache, else as long as the build."""

    token = LOCAL_NODE_IMAGE
    Inputs = NodeImageInputs
    Outputs = NodeImageOutputs

    def check(
        self, ctx: Context, news: NodeImageInputs, olds: NodeImageInputs | None
    ) -> tuple[NodeImageInputs, list[CheckFailure]]:
        if news.suite is not UNKNOWN and not re.fullmatch(r"[a-z]{3,20}", news.suite):
            return news, [CheckFailure("suite", f"{news.suite} is not the code name of a Debian release")]
        return news, []

    def diff(self, ctx: Context, id: str, olds: NodeImageInputs, outs: NodeImageOutputs, news: NodeImageInputs) -> Diff:
        """Also asks the engine for the image; a newer toolkit's recipe alone changes nothing."""
        plain = super().diff(ctx, id, olds, outs, news)
        if plain.replaces:
            return plain
        found = _engine(olds.engine).image(outs.reference)
        return replace(plain, output_updates=("image",) if found is None or found.id != outs.image else ())

    def preview(self, ctx: Context, news: NodeImageInputs, outs: NodeImageOutputs | None) -> NodeImageOutputs:
        return NodeImageOutputs(UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)

    def create(self, ctx: Context, news: NodeImageInputs) -> tuple[str, NodeImageOutputs]:
        """Refused (unreachable mirror, full disk …) leaves nothing behind."""
        outputs = _bring(ctx, _engine(news.engine), news)
        return f"node-image-{news.token[:_TOKEN_CHARACTERS]}", outputs

    def read(
        self, ctx: Context, id: str, olds: NodeImageInputs | None, outs: NodeImageOutputs | None
    ) -> tuple[NodeImageInputs, NodeImageOutputs] | None:
        """None when the name is gone. Images are not imported."""
        if olds is None or outs is None:
            return None
        found = _engine(olds.engine).image(outs.reference)
        return (olds, replace(outs, image=found.id)) if found else None

    def update(
        self, ctx: Context, id: str, olds: NodeImageInputs, outs: NodeImageOutputs, news: NodeImageInputs
    ) -> NodeImageOutputs:
        """Nodes that run keep the image they were made from; `generation` of a pool rebuilds them."""
        engine = _engine(news.engine)
        names = _names(engine, news.token)
        if names and outs.reference not in names:
            ctx.log(f"image {outs.reference} belongs to a newer create; left alone")
            return outs
        return _bring(ctx, engine, news)

    def delete(self, ctx: Context, id: str, olds: NodeImageInputs, outs: NodeImageOutputs) -> None:
        """Only names of this resource, and only if no newer create has put its own in their place."""
        engine = _engine(olds.engine)
        names = _names(engine, olds.token)
        if outs.reference in names:
            _drop(ctx, engine, names)


def _bring(ctx: Context, engine: ContainerEngine, news: NodeImageInputs) -> NodeImageOutputs:
    """Builds or finds the archive, loads it where the engine lacks it, and names it anew."""
    recipe = Recipe(
        suite=news.suite,
        architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
        mirror=os.environ.get("AIFACTORY_DEBIAN_MIRROR", ""),
        base=os.environ.get("AIFACTORY_DEBIAN_IMAGE", ""),
    )
    before = _names(engine, news.token)
    nonce = identity.new_nonce()
    reference = f"{_prefix(news.token)}{nonce}"
    archive = _named(ctx, engine, recipe, reference)
    _drop(ctx, engine, before)
    return NodeImageOutputs(archive.image_id, reference, archive.digest, nonce)


def _named(ctx: Context, engine: ContainerEngine, recipe: Recipe, reference: str) -> image_archive.Archive:
    """The archive, after its image is in the engine under `reference`. A damaged archive is built again, once."""
    for last in (False, True):
        archive, builder = image_archive.ensure(ctx, engine, recipe)
        try:
            if engine.image(archive.image_id) is None:
                ctx.progress(f"node image: loading into {engine.name}")
                _load(engine, archive)
            engine.tag(archive.image_id, reference)
            return archive
        except NoSpace as error:
            raise Refused(f"the disk is full: {error}") from error
        except (_Damaged, ImageMissing) as error:
            if last:
                raise Refused(str(error)) from error
            if isinstance(error, _Damaged):  # else another region took the image's last name away in between
                ctx.log("the node image in the cache is damaged; building it again")
                image_archive.forget(recipe, builder)
        except EngineError as error:
            raise Refused(str(error)) from error
    raise Refused(f"{engine.name} does not keep the node image")


class _Damaged(Exception):
    """The archive cannot be read, or is not the image that it says it is."""


def _load(engine: ContainerEngine, archive: image_archive.Archive) -> None:
    try:
        image_archive.load(engine, archive)
    except NoSpace:
        raise
    except EngineError as error:
        raise _Damaged(str(error)) from error
    if engine.image(archive.image_id) is None:
        raise _Damaged(f"{archive.file} does not hold image {archive.image_id}")


def _drop(ctx: Context, engine: ContainerEngine, names: list[str]) -> None:
    for name in names:
        try:
            engine.remove_image(name)
        except StillInUse as error:  # nodes of an earlier image run on; the next update or delete tries again
            ctx.log(f"image {name} is kept: {error.detail}")
        except EngineError as error:
            raise Refused(str(error)) from error


def _names(engine: ContainerEngine, token: str) -> list[str]:
    try:
        return [tag for tag in engine.tags(REPOSITORY) if tag.startswith(_prefix(token))]
    except EngineError as error:
        raise Refused(str(error)) from error


def _prefix(token: str) -> str:
    return f"{REPOSITORY}:{token[:_TOKEN_CHARACTERS]}-"


def _engine(name: str) -> ContainerEngine:
    try:
        return driver.find(name)
    except EngineError as error:
        raise Refused(str(error)) from error
