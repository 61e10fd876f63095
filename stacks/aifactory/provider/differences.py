"""A resource's Diff in the engine's terms: every changed path, with its kind, shown exactly as it changes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from pulumi.runtime.proto import provider_pb2 as pb

from aifactory.provider import wire
from aifactory.provider.resource import Diff

MOST_PATHS = 60
"""A property with more changed parts than this is shown as a whole."""

Kind = pb.PropertyDiff


def answer(diff: Diff, olds: Any, news: Any, ignored: Iterable[str]) -> pb.DiffResponse:
    """The engine's DiffResponse; paths at or below one of `ignored` do not count."""
    ignored = tuple(ignored)
    detailed: dict[str, pb.PropertyDiff] = {}
    replaces = [p for p in diff.replaces if not _ignored(p, ignored)]
    for given, is_replace in ((diff.updates, False), (replaces, True)):
        for name in given:
            for path in _smallest(name, olds, news):
                if not _ignored(path, ignored):
                    detailed[path] = Kind(kind=_kind(path, olds, news, is_replace), inputDiff=True)
    for path in diff.output_updates:
        detailed[path] = Kind(kind=Kind.UPDATE, inputDiff=False)
    if not detailed:
        return pb.DiffResponse(changes=pb.DiffResponse.DIFF_NONE, hasDetailedDiff=True)
    return pb.DiffResponse(
        changes=pb.DiffResponse.DIFF_SOME,
        replaces=replaces,
        diffs=list(dict.fromkeys(_root(path) for path in detailed)),
        detailedDiff=detailed,
        hasDetailedDiff=True,
        deleteBeforeReplace=diff.delete_before_replace,
    )


def _smallest(name: str, olds: Any, news: Any) -> Iterator[str]:
    """The changed paths below a top-level property; itself where it is a path already or holds too many."""
    old, new = (getattr(side, name, None) for side in (olds, news))
    paths = list(wire.changed(old, new, (name,)))
    if not 0 < len(paths) <= MOST_PATHS:
        yield name
    else:
        yield from (wire.show(path) for path in paths)


def _kind(path: str, olds: Any, news: Any, is_replace: bool) -> pb.PropertyDiff.Kind.ValueType:
    parts = _parts(path)
    old, new = wire.at(olds, parts), wire.at(news, parts)
    if old is None and new is not None:
        return Kind.ADD_REPLACE if is_replace else Kind.ADD
    if new is None and old is not None:
        return Kind.DELETE_REPLACE if is_replace else Kind.DELETE
    return Kind.UPDATE_REPLACE if is_replace else Kind.UPDATE


def _parts(path: str) -> wire.Path:
    """The inverse of wire.show."""
    found = re.findall(r'\["((?:[^"\\]|\\.)*)"\]|\[(\d+)\]|([^.\[\]]+)', path)
    return tuple(int(index) if index else (quoted.replace('\\"', '"') or name) for quoted, index, name in found)


def _root(path: str) -> str:
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def _ignored(path: str, ignored: Iterable[str]) -> bool:
    return any(path == i or path.startswith((f"{i}.", f"{i}[")) for i in ignored)
