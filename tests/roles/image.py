"""The node image of the role tests."""

from __future__ import annotations

from aifactory.provider.local.driver import ContainerEngine


def node_image(engine: ContainerEngine) -> str:
    return "localhost/g-node:trixie"
