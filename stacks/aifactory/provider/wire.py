"""Plain Python ↔ the engine's wire: `decode` on the way in, `dump` on the way out.

A secret and an unknown value arrive in wrappings of the engine's own; `decode` shows them as Secret and UNKNOWN.
provider/coerce.py makes typed values of the tree. Path parts are names and list indexes.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import struct_pb2  # type: ignore[import-untyped]

from aifactory.provider.resource import UNKNOWN

SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105
REFUSED = {
    "c44067f5952c0a294b673a41bacd8c17": "an asset",
    "0def7320c3a5731c473e5ecbe6d01bc7": "an archive",
    "5cf8f73096256a8f31e491e813e4eb8e": "a resource",
    "d0e6a833031e9bbcd3f4e8bde6ca49a4": "an output value",
}
UNKNOWN_STRING = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""Signatures of the engine. Source: pulumi/runtime/rpc.py of the SDK 3.259.0, read 2025-11-24."""

LARGEST_INTEGER = 2**53 - 1
"""Above it a float is not exact; larger numbers travel as text."""

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Secret:
    """A wrapped value of a decoded tree."""

    value: Any


@dataclass(frozen=True)
class Foreign:
    """Something of the engine's that no resource of ours takes (an asset)."""

    kind: str


def show(path: Path) -> str:
    """`nodes[1].labels["a.b"]`, as the engine writes paths."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isidentifier():
            text += f".{part}" if text else part
        else:
            text += '["' + part.replace('"', '\\"') + '"]'
    return text


def decode(message: struct_pb2.Struct) -> dict[str, Any]:
    """The message as plain Python, with Secret, Foreign and UNKNOWN where they stand."""
    return {key: _decode(value) for key, value in message.fields.items()}


def _decode(value: struct_pb2.Value) -> Any:  # noqa: PLR0911
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        fields = value.struct_value.fields
        if SIGNATURE not in fields:
            return {key: _decode(item) for key, item in fields.items()}
        signature = fields[SIGNATURE].string_value
        if signature != SECRET:
            return Foreign(REFUSED.get(signature, "a value of an unknown kind"))
        inner = _decode(fields["value"])
        return inner if inner is UNKNOWN else Secret(inner)
    if kind == "list_value":
        return [_decode(item) for item in value.list_value.values]
    if kind == "string_value":
        return UNKNOWN if value.string_value == UNKNOWN_STRING else value.string_value
    if kind in ("number_value", "bool_value"):
        return getattr(value, kind)
    return None


def dump(instance: Any, secrets: Iterable[Path] = (), *, preview: bool = False) -> struct_pb2.Struct:
    """A dataclass (or a mapping) as a message: None is left out, secrets are wrapped.

    Secret is what its field declares and what stands at a path of `secrets`. UNKNOWN is sent in a preview
    and left out otherwise (the engine refuses it). Raises TypeError for what the wire cannot carry: a bug.
    """
    message = struct_pb2.Struct()
    dumper = _Dumper(frozenset(secrets), preview)
    (dumper.mapping if isinstance(instance, Mapping) else dumper.record)(instance, message, ())
    return message


class _Dumper:
    def __init__(self, secrets: frozenset[Path], preview: bool) -> None:
        self.secrets, self.preview = secrets, preview

    def record(self, instance: Any, message: struct_pb2.Struct, path: Path) -> None:
        for f in dataclasses.fields(instance):
            value = getattr(instance, f.name)
            if value is not None:
                self.field(value, message, (*path, f.name), secret=bool(f.metadata.get("secret")))

    def mapping(self, values: Mapping[str, Any], message: struct_pb2.Struct, path: Path) -> None:
        if SIGNATURE in values:
            raise TypeError(f"{show(path)} has a key that is the engine's own")
        for key, value in values.items():
            self.field(value, message, (*path, str(key)))

    def field(self, value: Any, message: struct_pb2.Struct, path: Path, *, secret: bool = False) -> None:
        if value is not UNKNOWN or self.preview:
            self.value(value, message.fields[str(path[-1])], path, secret=secret)

    def value(self, value: Any, target: struct_pb2.Value, path: Path, *, secret: bool = False) -> None:
        if value is UNKNOWN:
            target.string_value = UNKNOWN_STRING
        elif secret or path in self.secrets:
            target.struct_value.fields[SIGNATURE].string_value = SECRET
            self.bare(value, target.struct_value.fields["value"], path)
        else:
            self.bare(value, target, path)

    def bare(self, value: Any, target: struct_pb2.Value, path: Path) -> None:
        if isinstance(value, enum.Enum):
            value = value.value
        if value is None:
            target.null_value = struct_pb2.NULL_VALUE
        elif isinstance(value, bool):
            target.bool_value = value
        elif isinstance(value, int | float):
            if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
                raise TypeError(f"{show(path)} is too large for the wire; declare it as text")
            target.number_value = value
        elif isinstance(value, str):
            target.string_value = value
        elif isinstance(value, tuple | list):
            target.list_value.SetInParent()
            for index, item in enumerate(value):
                self.item(item, target.list_value, (*path, index))
        elif isinstance(value, Mapping):
            target.struct_value.SetInParent()
            self.mapping(value, target.struct_value, path)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            target.struct_value.SetInParent()
            self.record(value, target.struct_value, path)
        else:
            raise TypeError(f"{show(path)} is a {type(value).__name__}, which the wire cannot carry")

    def item(self, item: Any, target: struct_pb2.ListValue, path: Path) -> None:
        # Nothing can be left out of a list without moving the rest: unknown is null there.
        self.value(None if item is UNKNOWN and not self.preview else item, target.values.add(), path)


def secret_texts(tree: Any, *, inside: bool = False) -> Iterator[str]:
    """Every text within a wrapped secret of a decoded tree."""
    if isinstance(tree, Secret):
        yield from secret_texts(tree.value, inside=True)
    elif isinstance(tree, Mapping):
        for item in tree.values():
            yield from secret_texts(item, inside=inside)
    elif isinstance(tree, list):
        for item in tree:
            yield from secret_texts(item, inside=inside)
    elif inside and isinstance(tree, str):
        yield tree


def changed(old: Any, new: Any, path: Path = ()) -> Iterator[Path]:
    """Paths of the smallest parts that differ between two typed values."""
    if dataclasses.is_dataclass(old) and type(old) is type(new):
        for f in dataclasses.fields(old):
            yield from changed(getattr(old, f.name), getattr(new, f.name), (*path, f.name))
    elif isinstance(old, tuple | list) and isinstance(new, tuple | list):
        for index in range(max(len(old), len(new))):
            pair = [side[index] if index < len(side) else None for side in (old, new)]
            yield from changed(pair[0], pair[1], (*path, index))
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from changed(old.get(key), new.get(key), (*path, str(key)))
    elif old != new:
        yield path


def at(value: Any, path: Path) -> Any:
    """What stands at `path` of a typed value; None where nothing does."""
    for part in path:
        if dataclasses.is_dataclass(value):
            value = getattr(value, str(part), None)
        elif isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, tuple | list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return value
