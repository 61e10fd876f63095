"""The plugin's table of resources, and a fail point: it kills itself between an answer and what follows."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from aifactory.provider import registry as product
from aifactory.provider.aws import tokens
from aifactory.provider.aws.api import Api
from aifactory.provider.registry import Registry

CLASSES = {
    tokens.NETWORK: "aifactory.provider.aws.network:Network",
    tokens.KEY: "aifactory.provider.aws.key:Key",
    tokens.IDENTITY: "aifactory.provider.aws.identity:Identity",
    tokens.BUCKET: "aifactory.provider.aws.bucket:Bucket",
    tokens.FILE_SYSTEM: "aifactory.provider.aws.file_system:FileSystem",
    tokens.PLACEMENT_GROUP: "aifactory.provider.aws.placement_group:PlacementGroup",
    tokens.LAUNCH_TEMPLATE: "aifactory.provider.aws.launch_template:LaunchTemplate",
    tokens.NODE_POOL: "aifactory.provider.aws.node_pool:NodePool",
    tokens.DOOR: "aifactory.provider.aws.door:Door",
}
DIE = "FAULTS_DIE_AFTER"
"""`action:file`: dies once the action is answered, before anything is done with the answer; the file is the bullet."""


def registry() -> Registry:
    """The product's table, and above for what it has not yet."""
    if os.environ.get(DIE):
        _fail_point(*os.environ[DIE].split(":", 1))
    return Registry(product.PACKAGE, {**CLASSES, **product.CLASSES})


def _fail_point(action: str, file: str) -> None:
    once, bullet = Api._once, Path(file)

    def dying(self: Api, service: str, name: str, params: Any) -> dict[str, Any]:
        answer = once(self, service, name, params)
        if name == action and bullet.exists():
            bullet.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    Api._once = dying  # type: ignore[method-assign]
