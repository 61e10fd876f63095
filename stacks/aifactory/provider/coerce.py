"""From a decoded tree to typed values: numbers by the field's type, defaults, and what is wrong with the rest.

On the wire every number is a float, a tuple is a list, a missing field and null are the same. Failures name a
path and a type, never a value: what came may be a secret.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aifactory.provider.resource import UNKNOWN
from aifactory.provider.wire import LARGEST_INTEGER, Foreign, Path, Secret, show


@dataclass(frozen=True)
class Failure:
    """What is wrong with the value at `path`. `hidden` when that is, holds or may be a secret."""

    path: Path
    reason: str
    hidden: bool = False


@dataclass
class Loaded:
    """The instance that a tree gave; with failures, `value` must not be used.

    `secrets` are the paths that came wrapped or that the dataclass declares secret.
    """

    value: Any = None
    failures: list[Failure] = field(default_factory=list)
    secrets: set[Path] = field(default_factory=set)


def load(cls: type, tree: Mapping[str, Any], *, lenient: bool = False) -> Loaded:
    """An instance of the dataclass `cls`.

    Strict: every failure is gathered. Lenient, for what an older or newer version left in the state: unknown
    keys are ignored and what is missing or of the wrong type becomes empty, so that a delete is never stuck.
    """
    loader = _Loader(lenient)
    loaded = loader.loaded
    loaded.value = loader.load(cls, tree, ())
    loaded.failures = [dataclasses.replace(f, hidden=f.hidden or _hidden(f, loaded)) for f in loaded.failures]
    return loaded


def _hidden(failure: Failure, loaded: Loaded) -> bool:
    """Whether the path is a secret's, leads through one or has one below it."""
    path = failure.path
    return any(secret[: len(path)] == path or path[: len(secret)] == secret for secret in loaded.secrets)


@functools.cache
def hints(cls: type) -> dict[str, Any]:
    """Resolved types of a dataclass's fields."""
    return typing.get_type_hints(cls)


class _Loader:
    """One `load`. Every method returns the value, or adds a failure and returns None."""

    def __init__(self, lenient: bool) -> None:
        self.lenient = lenient
        self.loaded = Loaded()

    def fail(self, path: Path, reason: str, *, hidden: bool = False) -> None:
        self.loaded.failures.append(Failure(path, reason, hidden))

    def wrong(self, path: Path, wanted: str, value: Any) -> None:
        self.fail(path, f"must be {wanted}, is {_kind(value)}")

    def load(self, kind: Any, value: Any, path: Path) -> Any:
        """`value` as a `kind`; lenient: empty where it is none."""
        if not self.lenient:
            return self.strictly(kind, value, path)
        before = len(self.loaded.failures)
        result = self.strictly(kind, value, path)
        if len(self.loaded.failures) > before:
            del self.loaded.failures[before:]
            return empty(kind)
        return result

    def strictly(self, kind: Any, value: Any, path: Path) -> Any:  # noqa: PLR0911
        if isinstance(value, Secret):
            self.loaded.secrets.add(path)
            value = value.value
        if value is UNKNOWN:
            return UNKNOWN
        if isinstance(value, Foreign):
            return self.fail(path, f"is {value.kind}, which this provider does not take")
        if kind is Any or kind is object:
            return self.anything(value, path)
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in (typing.Union, types.UnionType):
            return self.union(arguments, value, path)
        if origin is typing.Literal:
            return value if value in arguments else self.not_among(path, [str(a) for a in arguments], value)
        if origin in (tuple, list):
            return self.sequence(origin, arguments, value, path)
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return self.mapping(arguments, value, path)
        if dataclasses.is_dataclass(kind):
            return self.record(typing.cast(type, kind), value, path)
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            found = next((member for member in kind if member.value == value), None)
            return found if found is not None else self.not_among(path, [str(m.value) for m in kind], value)
        return self.scalar(kind, value, path)

    def scalar(self, kind: Any, value: Any, path: Path) -> Any:  # noqa: PLR0911
        number = isinstance(value, float | int) and not isinstance(value, bool)
        if number and not math.isfinite(value):
            return self.fail(path, "must be a finite number")
        if kind is int and number:
            if value != int(value):
                return self.fail(path, "must be a whole number")
            if abs(value) > LARGEST_INTEGER:
                return self.fail(path, "is too large to be exact (2^53 or more)")
            return int(value)
        if kind is float and number:
            return float(value)
        if kind in (str, bool) and isinstance(value, kind):
            return value
        names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
        if kind not in names:
            raise TypeError(f"{show(path)}: the wire cannot carry a field of type {kind}")
        return self.wrong(path, names[kind], value)

    def record(self, cls: type, value: Any, path: Path) -> Any:
        if not isinstance(value, Mapping):
            return self.wrong(path, "an object", value)
        before, fields, given = len(self.loaded.failures), dataclasses.fields(cls), {}
        for f in fields:
            if f.metadata.get("secret"):
                self.loaded.secrets.add((*path, f.name))
            if value.get(f.name) is not None:
                given[f.name] = self.load(hints(cls)[f.name], value[f.name], (*path, f.name))
            elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
                given[f.name] = self.missing(hints(cls)[f.name], (*path, f.name))
        self.unknown_keys(value, [f.name for f in fields], path)
        return cls(**given) if len(self.loaded.failures) == before else None

    def missing(self, kind: Any, path: Path) -> Any:
        if optional(kind):
            return None
        return empty(kind) if self.lenient else self.fail(path, "is required")

    def unknown_keys(self, value: Mapping[str, Any], names: list[str], path: Path) -> None:
        if self.lenient:
            return
        for key in value:
            # Names that begin with two underscores are the engine's and the SDKs' own. Hidden, since the value
            # under a misspelt key may be the secret of the right one.
            if key not in names and not key.startswith("__"):
                self.fail((*path, key), "is not a property here" + _suggest(key, names), hidden=True)

    def union(self, kinds: Iterable[Any], value: Any, path: Path) -> Any:
        rest = [k for k in kinds if k is not types.NoneType]
        if value is None:
            return None if len(rest) < len(tuple(kinds)) else self.fail(path, "is required")
        for kind in rest[:-1]:
            trial = _Loader(lenient=False)
            result = trial.strictly(kind, value, path)
            if not trial.loaded.failures:
                self.loaded.secrets |= trial.loaded.secrets
                return result
        return self.strictly(rest[-1], value, path)

    def sequence(self, origin: type, arguments: tuple[Any, ...], value: Any, path: Path) -> Any:
        if not isinstance(value, list):
            return self.wrong(path, "a list", value)
        if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
            if len(value) != len(arguments):
                return self.fail(path, f"must have {len(arguments)} items, has {len(value)}")
            kinds: Iterable[Any] = arguments
        else:
            kinds = [arguments[0]] * len(value)
        return origin(self.load(k, item, (*path, i)) for i, (k, item) in enumerate(zip(kinds, value, strict=True)))

    def mapping(self, arguments: tuple[Any, ...], value: Any, path: Path) -> Any:
        if not isinstance(value, Mapping):
            return self.wrong(path, "an object", value)
        return {key: self.load(arguments[1], item, (*path, key)) for key, item in value.items()}

    def anything(self, value: Any, path: Path) -> Any:
        """Untyped values: whole floats become integers, since nothing says otherwise."""
        if isinstance(value, float):
            return int(value) if value.is_integer() and abs(value) <= LARGEST_INTEGER else value
        if isinstance(value, list):
            return [self.strictly(Any, item, (*path, i)) for i, item in enumerate(value)]
        if isinstance(value, Mapping):
            return {key: self.strictly(Any, item, (*path, key)) for key, item in value.items()}
        return value

    def not_among(self, path: Path, allowed: list[str], value: Any) -> None:
        self.fail(path, f"must be one of {', '.join(allowed)}" + _suggest(str(value), allowed))


def optional(kind: Any) -> bool:
    """Whether None is a value of the type."""
    return kind is Any or types.NoneType in typing.get_args(kind)


def _suggest(word: str, choices: Iterable[str]) -> str:
    from aifactory.catalog.suggest import nearest

    found = nearest(word, choices, 1)
    return f"; did you mean {found[0]}?" if found else ""


def _kind(value: Any) -> str:
    for kind, name in ((bool, "true or false"), (float | int, "a number"), (str, "text"), (list, "a list")):
        if isinstance(value, kind):
            return name
    return "null" if value is None else "an object"


def empty(kind: Any) -> Any:  # noqa: PLR0911
    """The value that says nothing: "", 0, (), {}, None, or a dataclass of such."""
    if optional(kind):
        return None
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return arguments[0]
    if origin in (typing.Union, types.UnionType):
        return empty(arguments[0])
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return tuple(empty(a) for a in arguments)
    if dataclasses.is_dataclass(kind):
        return load(typing.cast(type, kind), {}, lenient=True).value
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return next(iter(kind))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {}
    return (origin or kind)()
