"""The product's own node image, under a name of this session's: built once a machine, from then on in the cache."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from aifactory.provider.local.driver import ContainerEngine
from aifactory.provider.local.node_image import NodeImage, NodeImageInputs

from tests.provider import harness


@contextmanager
def node_image(engine: ContainerEngine) -> Iterator[str]:
    resource = NodeImage()
    inputs = NodeImageInputs(engine=engine.name, suite="trixie", token=secrets.token_hex(16))
    context = harness.context(resource, name="node-image")
    identity, outputs = resource.create(context, inputs)
    try:
        yield outputs.reference
    finally:
        resource.delete(context, identity, inputs, outputs)
