"""Which class serves which type token. Modules are imported at a type's first use: the plugin must start fast."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Mapping
from typing import Any

from aifactory.provider import tokens
from aifactory.provider.resource import Refused, Resource

PACKAGE = "aifactory"

CLASSES: Mapping[str, str] = {
    tokens.LOCAL_NETWORK: "aifactory.provider.local.network:Network",
    tokens.LOCAL_NODE_IMAGE: "aifactory.provider.local.node_image:NodeImage",
    tokens.LOCAL_NODE_POOL: "aifactory.provider.local.node_pool:NodePool",
    tokens.STATIC_NODE_POOL: "aifactory.provider.static.node_pool:NodePool",
    tokens.HOST_KEYS: "aifactory.provider.host.keys:Keys",
    tokens.HOST_CONFIGURATION: "aifactory.provider.host.configuration:Configuration",
    tokens.SERVICE_ENGINE_IMAGE: "aifactory.provider.service.engine_image:EngineImage",
    tokens.SERVICE_SERVICE: "aifactory.provider.service.service:Service",
    tokens.SERVICE_FRONT_DOOR: "aifactory.provider.service.front_door:FrontDoor",
    tokens.SERVICE_ACCEPTANCE: "aifactory.provider.service.acceptance:Acceptance",
    tokens.AWS_NETWORK: "aifactory.provider.aws.network:Network",
    tokens.AWS_KEY: "aifactory.provider.aws.key:Key",
    tokens.AWS_IDENTITY: "aifactory.provider.aws.identity:Identity",
    tokens.AWS_BUCKET: "aifactory.provider.aws.bucket:Bucket",
    tokens.AWS_FILE_SYSTEM: "aifactory.provider.aws.file_system:FileSystem",
    tokens.AWS_PLACEMENT_GROUP: "aifactory.provider.aws.placement_group:PlacementGroup",
    tokens.AWS_LAUNCH_TEMPLATE: "aifactory.provider.aws.launch_template:LaunchTemplate",
    tokens.AWS_NODE_POOL: "aifactory.provider.aws.node_pool:NodePool",
    tokens.AWS_DOOR: "aifactory.provider.aws.door:Door",
}
"""Type token → `module:Class`."""


class Registry:
    """The resources of one package, each made once a process and shared by the threads."""

    def __init__(self, package: str, classes: Mapping[str, str]) -> None:
        self.package, self.classes = package, dict(classes)
        self._made: dict[str, Resource[Any, Any]] = {}
        self._mutex = threading.Lock()

    def get(self, token: str) -> Resource[Any, Any]:
        """The resource of a type token. Raises Refused, with the nearest tokens, where there is none."""
        with self._mutex:
            if token not in self._made:
                self._made[token] = self._make(token)
            return self._made[token]

    def all(self) -> list[Resource[Any, Any]]:
        """Every resource, in the order of the table; imports them all."""
        return [self.get(token) for token in self.classes]

    def _make(self, token: str) -> Resource[Any, Any]:
        if token not in self.classes:
            from aifactory.catalog.suggest import nearest

            close = ", ".join(nearest(token, self.classes)) or ", ".join(self.classes)
            raise Refused(f"{self.package} has no resource type {token}; nearest: {close}")
        module, _, name = self.classes[token].partition(":")
        cls = getattr(importlib.import_module(module), name)
        if cls.token != token:
            raise TypeError(f"{self.classes[token]} says that it is {cls.token}, the table says {token}")
        made: Resource[Any, Any] = cls()
        return made


def default() -> Registry:
    return Registry(PACKAGE, CLASSES)


def resources() -> list[Resource[Any, Any]]:
    """Every resource of the provider."""
    return default().all()
