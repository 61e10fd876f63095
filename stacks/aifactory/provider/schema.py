"""The package's Pulumi schema, made from the resources' dataclasses: one truth for wire, docs and code generation."""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from collections.abc import Mapping
from typing import Any

from aifactory.provider import coerce, settings
from aifactory.provider.registry import Registry
from aifactory.provider.resource import Resource

SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}


def text(registry: Registry, version: str) -> str:
    return json.dumps(document(registry, version))


def document(registry: Registry, version: str) -> dict[str, Any]:
    """The schema as plain data. Imports every resource of the registry."""
    builder = _Builder(registry.package)
    resources = {resource.token: builder.resource(resource) for resource in registry.all()}
    setting = {settings.KEY: {"type": "string", "description": "Id of the region's deployment; set once a stack."}}
    return {
        "name": registry.package,
        "version": version,
        "description": "Resources of a sovereign AI region.",
        "license": "Apache-2.0",
        "config": {"variables": setting},
        "provider": {"inputProperties": setting, "requiredInputs": [settings.KEY]},
        "resources": resources,
        "types": builder.types,
    }


class _Builder:
    def __init__(self, package: str) -> None:
        self.package = package
        self.types: dict[str, Any] = {}
        self._classes: dict[str, type] = {}

    def resource(self, resource: Resource[Any, Any]) -> dict[str, Any]:
        inputs, required_inputs = self.properties(resource.Inputs)
        outputs, required = self.properties(resource.Outputs)
        return {
            "description": (resource.__doc__ or "").strip(),
            "inputProperties": inputs,
            "requiredInputs": required_inputs,
            # The state of a resource as code generation sees it; the names of outputs win.
            "properties": outputs,
            "required": required,
        }

    def properties(self, cls: type) -> tuple[dict[str, Any], list[str]]:
        """The properties of a dataclass, and which of them must be given."""
        found, required = {}, []
        for f in dataclasses.fields(cls):
            kind = coerce.hints(cls)[f.name]
            found[f.name] = {**self.kind(kind), **_metadata(f)}
            has_default = f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
            if not has_default and not coerce.optional(kind):
                required.append(f.name)
        return found, required

    def kind(self, kind: Any) -> dict[str, Any]:
        if kind is Any or kind is object:
            return {"$ref": "pulumi.json#/Any"}
        if kind in SCALARS:
            return {"type": SCALARS[kind]}
        if dataclasses.is_dataclass(kind):
            return {"$ref": f"#/types/{self.reference(typing.cast(type, kind))}"}
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return {"type": "string"}
        return self.composed(kind)

    def composed(self, kind: Any) -> dict[str, Any]:
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in (typing.Union, types.UnionType):
            options = [self.kind(a) for a in arguments if a is not types.NoneType]
            return options[0] if len(options) == 1 else {"oneOf": options}
        if origin is typing.Literal:
            return {"type": SCALARS[type(arguments[0])]}
        if origin in (tuple, list):
            alike = all(a in (arguments[0], Ellipsis) for a in arguments)
            return {"type": "array", "items": self.kind(arguments[0] if alike else Any)}
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return {"type": "object", "additionalProperties": self.kind(arguments[1])}
        raise TypeError(f"the schema cannot say {kind}")

    def reference(self, cls: type) -> str:
        """The token of a nested dataclass; defines it at its first use."""
        token = f"{self.package}:{_area(cls)}:{cls.__name__}"
        if self._classes.setdefault(token, cls) is not cls:
            raise TypeError(f"two classes would be {token}: {cls.__qualname__}, {self._classes[token].__qualname__}")
        if token not in self.types:
            self.types[token] = {"type": "object"}
            properties, required = self.properties(cls)
            self.types[token].update(
                description=(cls.__doc__ or "").strip().partition("\n")[0], properties=properties, required=required
            )
        return token


def _area(cls: type) -> str:
    """`local` for aifactory.provider.local.network, `hosts` for aifactory.hosts.fleet."""
    parts = cls.__module__.split(".")
    return parts[-2] if len(parts) > 2 else "index"


def _metadata(f: dataclasses.Field[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if doc := f.metadata.get("doc"):
        found["description"] = doc
    if f.metadata.get("secret"):
        found["secret"] = True
    if f.metadata.get("replaces"):
        found["willReplaceOnChanges"] = True
    if isinstance(f.default, str | bool | int | float) and not isinstance(f.default, enum.Enum):
        found["default"] = f.default
    return found
