"""Reads one data file into typed rows, strictly: every mistake of the file at once, with its row.

A file holds `[sources.<id>]` and `[<table>.<key>]`. A row says `source = "<id>"` for all its values and, where a
value comes from elsewhere, `sources = {field = "<id>"}`; `field_sources` at the top does the latter for every row.
The string "unknown" is the one way to say unknown.
"""

from __future__ import annotations

import datetime as dt
import difflib
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from aifactory.catalog.types import Source
from aifactory.errors import Place, Problem, ProblemError

DATA = Path(__file__).parent / "data"
UNKNOWN = "unknown"

Row = TypeVar("Row")


@dataclass(frozen=True)
class Table(Generic[Row]):
    """All rows of one file, and for each row and field the source of its value."""

    rows: Mapping[str, Row]
    sources: Mapping[tuple[str, str], Source]


class _Wrong(ValueError):
    """A value that does not fit its field; the text says what would."""


def read(path: Path, row_type: type[Row]) -> Table[Row]:
    """The table in `path`, whose name is the file's stem. Raises ProblemError with every mistake."""
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ProblemError([Problem("CAT-001", f"Not TOML: {error}", Place(str(path)))]) from error
    reader = _Reader(path, text, row_type)
    table = reader.table(raw)
    if reader.problems:
        raise ProblemError(reader.problems)
    return table


class _Reader(Generic[Row]):
    """One file on its way in; `problems` collects what is wrong."""

    def __init__(self, path: Path, text: str, row_type: type[Row]) -> None:
        self.path = path
        self.text = text
        self.name = path.stem
        self.row_type = row_type
        self.problems: list[Problem] = []
        self.hints, self.key_field, self.required = _shape(row_type)
        self.known: Mapping[str, Source] = {}
        self.by_field: Mapping[str, str] = {}

    def table(self, raw: dict[str, Any]) -> Table[Row]:
        for key in sorted(raw.keys() - {"sources", "field_sources", self.name}):
            self.problem("CAT-002", key, f"A file of this table holds [sources.<id>] and [{self.name}.<key>] only.")
        self.known = dict(self._read_sources(raw.get("sources", {})))
        self.by_field = self._read_field_sources(raw.get("field_sources", {}))
        rows: dict[str, Row] = {}
        origins: dict[tuple[str, str], Source] = {}
        body = raw.get(self.name, {})
        if not isinstance(body, dict) or not body:
            self.problem("CAT-003", self.name, "The file has no rows.")
            body = {}
        for key, values in body.items():
            if not isinstance(values, dict):
                self.problem("CAT-004", f"{self.name}.{key}", "A row is a table of fields.")
            elif (row := self._row(key, values, origins)) is not None:
                rows[key] = row
        return Table(MappingProxyType(rows), MappingProxyType(origins))

    def _read_sources(self, raw: Any) -> Iterator[tuple[str, Source]]:
        wanted = {"title": str, "document": str, "checked": dt.date}
        for key, values in raw.items() if isinstance(raw, dict) else ():
            where = f"sources.{key}"
            if not isinstance(values, dict) or set(values) != set(wanted):
                self.problem("CAT-005", where, "A source states title, document and checked (a date), nothing else.")
            elif wrong := [name for name, kind in wanted.items() if type(values[name]) is not kind or not values[name]]:
                self.problem(
                    "CAT-005", where, f"Wrong type or empty: {', '.join(wrong)} (checked is a date without quotes)."
                )
            else:
                yield key, Source(key=key, **values)

    def _read_field_sources(self, raw: Any) -> Mapping[str, str]:
        fields_known = isinstance(raw, dict) and raw.keys() <= set(self.hints) - {self.key_field}
        if not fields_known or not all(str(v) in self.known for v in raw.values()):
            self.problem("CAT-005", "field_sources", "Maps fields of the table to ids of [sources].")
            return {}
        return dict(raw)

    def _row(self, key: str, raw: dict[str, Any], origins: dict[tuple[str, str], Source]) -> Row | None:
        where = f"{self.name}.{key}"
        before = len(self.problems)
        values = {name: value for name, value in raw.items() if name not in {"source", "sources"}}
        allowed = set(self.hints) - {self.key_field}
        for name in sorted(values.keys() - allowed):
            nearest = tuple(difflib.get_close_matches(name, allowed, n=1))
            self.problem("CAT-002", f"{where}.{name}", f"{self.row_type.__name__} has no field {name}.", nearest)
        for name in sorted(self.required - values.keys()):
            self.problem("CAT-003", f"{where}.{name}", f'Missing. Unknown is said with {name} = "{UNKNOWN}".')
        self._origins(key, raw, allowed & values.keys(), origins)
        typed: dict[str, Any] = {self.key_field: key}
        for name in sorted(allowed & values.keys()):
            try:
                typed[name] = convert(values[name], self.hints[name])
            except _Wrong as error:
                self.problem("CAT-004", f"{where}.{name}", f"{values[name]!r}: expected {error}.")
        return self.row_type(**typed) if len(self.problems) == before else None

    def _origins(self, key: str, raw: dict[str, Any], names: set[str], origins: dict[tuple[str, str], Source]) -> None:
        where = f"{self.name}.{key}"
        overrides = raw.get("sources", {})
        if not isinstance(overrides, dict):
            self.problem("CAT-005", f"{where}.sources", "A table of field = source id.")
            overrides = {}
        for name in sorted(overrides.keys() - names):
            self.problem("CAT-005", f"{where}.sources.{name}", "Names a field that the row does not state.")
        for name in sorted(names):
            source = overrides.get(name) or self.by_field.get(name) or raw.get("source")
            if source is None:
                self.problem("CAT-005", f"{where}.{name}", 'No source: the row needs source = "<id>".')
            elif not isinstance(source, str) or source not in self.known:
                self.problem("CAT-005", f"{where}.{name}", f"Source {source!r} is not defined in this file.")
            else:
                origins[key, name] = self.known[source]

    def problem(self, rule: str, path: str, message: str, nearest: tuple[str, ...] = ()) -> None:
        self.problems.append(Problem(rule, message, self._place(path), path, nearest))

    def _place(self, path: str) -> Place:
        """The line of the row's header, as far as it can be found: tomllib keeps no positions."""
        table, _, rest = path.partition(".")
        for cut in range(len(rest), 0, -1):
            header = rf"""^(\[{table}\.["']?{re.escape(rest[:cut])}["']?\]|["']?{re.escape(rest[:cut])}["']? = \{{)"""
            if found := re.search(header, self.text, re.MULTILINE):
                return Place(str(self.path), self.text.count("\n", 0, found.start()) + 1)
        return Place(str(self.path))


def _shape(row_type: Any) -> tuple[dict[str, Any], str, set[str]]:
    """Field → type; the field that takes the row's key (the first); the fields every row must state."""
    every = fields(row_type)
    required = {f.name for f in every[1:] if f.default is MISSING and f.default_factory is MISSING}
    return typing.get_type_hints(row_type), every[0].name, required


def convert(value: Any, hint: Any) -> Any:
    """`value` as the field's type, "unknown" as None where the type allows it. Raises _Wrong otherwise."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in {types.UnionType, typing.Union}:
        inner = next(a for a in args if a is not type(None))
        return None if value == UNKNOWN else convert(value, inner)
    if isinstance(value, str) and value == UNKNOWN:
        raise _Wrong("a known value (this field may not be unknown)")
    if origin is typing.Literal:
        if value not in args:
            raise _Wrong(f"one of {', '.join(args)}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise _Wrong("a list")
        items = tuple(convert(item, args[0]) for item in value)
        if len(set(items)) != len(items):
            raise _Wrong("a list without repeats")
        return items
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise _Wrong("a table")
        return {convert(k, args[0]): convert(v, args[1]) for k, v in value.items()}
    return _plain(value, hint)


def _plain(value: Any, hint: type[Any]) -> Any:
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise _Wrong({str: "text", int: "a whole number", float: "a number", bool: "true or false"}.get(hint, "a date"))
    if hint is str and not value:
        raise _Wrong("text that is not empty")
    if hint in {int, float} and not 0 <= value < math.inf:
        raise _Wrong("a finite number that is not negative")
    return value
