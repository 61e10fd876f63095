"""What a change of the file does to a running region: each field says it, in its `change` metadata. Pure.

Pools, hosts, storage, services and clients are matched by name: moving one in its list changes nothing here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aifactory.errors import Problem
from aifactory.region.positions import Path, dotted
from aifactory.region.spec import Change, Region, Section

RULE = "SPEC-070"

KEEP = "put the old value back; another value is another region: destroy this one first, or write a new file"


@dataclass(frozen=True)
class Changed:
    """One value that differs. `path` names list items (`pools[serve].nodes`); None = was not there, is not there."""

    path: str
    change: Change
    old: Any
    new: Any


@dataclass(frozen=True)
class _Difference:
    """A change together with the place of the new value, and why it is refused, if it is."""

    changed: Changed
    place: Path
    why: str | None = None
    fix: str | None = None


def changes(old: Region, new: Region) -> tuple[Changed, ...]:
    """Every difference, in the order of the format."""
    return tuple(d.changed for d in _section(old, new, "", ()))


def refused(old: Region, new: Region) -> tuple[Problem, ...]:
    """What a running region does not allow, with the paths of the new file (see LoadedRegion.placed)."""
    return tuple(
        Problem(RULE, d.why or "", path=dotted(d.place), fix=d.fix)
        for d in _section(old, new, "", ())
        if d.changed.change == "refused"
    )


def _section(old: Section, new: Section, path: str, place: Path) -> Iterator[_Difference]:
    if type(old) is not type(new):  # a provider of another kind: nothing else can be compared
        before, after = getattr(old, "kind", None), getattr(new, "kind", None)
        yield _refusal(f"{path}.kind", (*place, "kind"), before, after)
        return
    for name in type(new).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        here, there = f"{path}.{name}".removeprefix("."), (*place, name)
        if isinstance(before, Section) and isinstance(after, Section):
            yield from _section(before, after, here, there)
        elif _named(before) and _named(after):
            yield from _items(before, after, here, there, _effect(new, name))
        else:
            yield _value(_effect(new, name), here, there, before, after)


def _items(
    before: tuple[Any, ...], after: tuple[Any, ...], path: str, place: Path, effect: Change
) -> Iterator[_Difference]:
    known = {item.name: item for item in before}
    for index, item in enumerate(after):
        here, there = f"{path}[{item.name}]", (*place, index)
        if item.name in known:
            yield from _section(known[item.name], item, here, there)
        else:
            yield _Difference(Changed(here, effect, None, _plain(item)), there)
    for item in before:
        if item.name not in {a.name for a in after}:
            gone = Changed(f"{path}[{item.name}]", effect, _plain(item), None)
            if path == "storage":
                gone = Changed(gone.path, "refused", gone.old, None)
            why = f"Storage {item.name} holds data and is protected: leaving it out does not remove it."
            fix = "put it back; to give the data up, delete the storage by hand first"
            yield _Difference(gone, place, why, fix)


def _value(effect: Change, path: str, place: Path, before: Any, after: Any) -> _Difference:
    name = place[-1]
    lower = isinstance(before, int) and (after is None or (isinstance(after, int) and after < before))
    if name == "capacity_gib" and lower:
        why = f"{path} cannot shrink from {before} to {_shown(after)}: what is written would be lost."
        return _Difference(Changed(path, "refused", before, after), place, why, f"write {before}, or more")
    if name == "generation" and lower:
        why = f"{path} cannot go back from {before} to {after}: it counts rebuilds."
        return _Difference(Changed(path, "refused", before, after), place, why, f"write {before}, or more")
    if effect == "refused":
        return _refusal(path, place, before, after)
    return _Difference(Changed(path, effect, _plain(before), _plain(after)), place)


def _refusal(path: str, place: Path, before: Any, after: Any) -> _Difference:
    why = f"{path} cannot change from {_shown(before)} to {_shown(after)} while the region stands."
    return _Difference(Changed(path, "refused", _plain(before), _plain(after)), place, why, KEEP)


def _effect(section: Section, name: str) -> Change:
    extra = type(section).model_fields[name].json_schema_extra
    effect: Any = extra.get("change") if isinstance(extra, dict) else None
    return effect or "refused"  # a field that says nothing is a mistake of the spec; a test finds it


def _named(items: Any) -> bool:
    return isinstance(items, tuple) and all(isinstance(i, Section) and hasattr(i, "name") for i in items)


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return value.model_dump(mode="json")
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    return "none" if value is None else str(_plain(value))
