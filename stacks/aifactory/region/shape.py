"""Shape: a file's data against the models of `spec`, and pydantic's errors as problems that a person can act on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from aifactory.catalog.suggest import nearest
from aifactory.errors import Problem
from aifactory.region import schema
from aifactory.region.document import MOST_PROBLEMS, Scalar
from aifactory.region.partial import without
from aifactory.region.positions import Path, Positions, dotted
from aifactory.region.spec import Region

MOST_MISTAKES = 2 * MOST_PROBLEMS
"""Errors of pydantic's looked at; some become one problem."""
LONGEST_SHOWN = 60
WORDLIKE = re.compile(r"[A-Za-z0-9_./:@+*-]+")


@dataclass(frozen=True)
class Mistake:
    """One error of pydantic's at its path in the file."""

    kind: str
    path: Path


@dataclass(frozen=True)
class Shaped:
    """`spec` is None where the file does not have the shape of a region.

    `partial` then is what remains without the wrong parts (see region.partial), if that is a region; `wrong` are
    the paths of those that may have meant something.
    """

    spec: Region | None
    partial: Region | None
    wrong: tuple[Path, ...]
    problems: tuple[Problem, ...]


def shape(data: Any, positions: Positions, hidden: frozenset[Path]) -> Shaped:
    """`data` as a Region, or everything that keeps it from being one. Values at `hidden` are never shown."""
    spec, mistakes = _validate(data)
    if spec is not None:
        return Shaped(spec, spec, (), ())
    teller = _Teller(data, positions, hidden)
    problems = teller.tell(mistakes)
    stray = {m.path for m in mistakes if m.kind == "extra_forbidden" and not teller.near_keys(m.path)}
    wrong = tuple(m.path for m in mistakes)
    partial = _validate(without(data, wrong))[0] if len(mistakes) < MOST_MISTAKES else None
    return Shaped(None, partial, tuple(p for p in wrong if p not in stray), tuple(problems))


def _validate(data: Any) -> tuple[Region | None, list[Mistake]]:
    try:
        return Region.model_validate_json(json.dumps(data)), []
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)[:MOST_MISTAKES]
        mistakes = [Mistake(e["type"], _path(e, data)) for e in details]
        # a list with wrong items counts as too short as well
        return None, [m for m in mistakes if m.kind != "too_short" or not schema.value_at(data, m.path)]


def _path(error: ErrorDetails, data: Any) -> Path:
    """The error's path in the file: without the kind that pydantic adds where a kind decides, without `[key]`."""
    path: Path = ()
    skipped: set[Path] = set()
    for part in error["loc"]:
        if part == "[key]":
            continue
        if path not in skipped and schema.tagged(path):
            skipped.add(path)
            continue
        path = (*path, part)
    return (*path, "kind") if error["type"] == "union_tag_invalid" else path


class _Teller:
    """Turns mistakes into problems."""

    def __init__(self, data: Any, positions: Positions, hidden: frozenset[Path]) -> None:
        self.data = data
        self.positions = positions
        self.hidden = hidden
        self.by_kind: Mapping[str, Callable[[Path], Problem]] = {
            "missing": self.missing,
            "extra_forbidden": self.unknown_key,
            "union_tag_not_found": lambda path: self.missing((*path, "kind")),
            "union_tag_invalid": self.not_a_choice,
            "literal_error": self.not_a_choice,
            "enum": self.not_a_choice,
            "string_pattern_mismatch": self.wrong_form,
            "string_too_short": self.wrong_form,
            "date_from_datetime_parsing": self.wrong_form,
            "date_from_datetime_inexact": self.wrong_form,
            "date_parsing": self.wrong_form,
            "greater_than": self.out_of_range,
            "greater_than_equal": self.out_of_range,
            "less_than_equal": self.out_of_range,
            "too_short": self.out_of_range,
            "finite_number": self.out_of_range,
        }

    def tell(self, mistakes: list[Mistake]) -> list[Problem]:
        misspelt = {p for m in mistakes if m.kind == "extra_forbidden" for p in self.meant(m.path)}
        return [
            self.by_kind.get(m.kind, self.wrong_type)(m.path)
            for m in mistakes
            if m.kind != "missing" or m.path not in misspelt
        ]

    def meant(self, path: Path) -> list[Path]:
        """The key that a misspelt one stands for, so that it is not called missing as well."""
        near = self.near_keys(path)
        return [(*path[:-1], near[0])] if near else []

    def near_keys(self, path: Path) -> tuple[str, ...]:
        present = self.get(path[:-1])
        free = [k for k in schema.keys(self.schema(path[:-1])) if k not in (present or ())]
        return nearest(str(path[-1])[:LONGEST_SHOWN], free)

    def missing(self, path: Path) -> Problem:
        section, key, node = path[:-1], path[-1], self.schema(path)
        if node is None:  # the kind, where it decides what the section is
            node = {"enum": schema.choices(self.schema(section)), "description": "it says what the rest means."}
        message = f"{_capital(self.name(section))} lacks `{key}`: {_lower(schema.says(node)) or 'it is required.'}"
        sample, allowed = schema.example(node), schema.expected(node)
        return Problem(
            "SPEC-020", message, self.positions.key(section), dotted(path),
            allowed=None if allowed == "text" else f"{allowed}.",
            fix=f"add `{key}: {sample}`, with your own value" if sample else f"add `{key}:`",
        )  # fmt: skip

    def unknown_key(self, path: Path) -> Problem:
        section, key = path[:-1], str(path[-1])
        message = f"`{_cut(key)}` is not a key of {self.name(section)}."
        near = self.near_keys(path)
        if not near and section == ("provider",) and any("Provider" in name for name in schema.elsewhere(key)):
            kinds = [n.removesuffix("Provider").lower() for n in schema.elsewhere(key) if n.endswith("Provider")]
            message += f" It belongs to kind {' or '.join(kinds)}."
        allowed = ", ".join(schema.keys(self.schema(section))) or "no keys"
        return Problem(
            "SPEC-021", message, self.positions.key(path), dotted(path), near, f"{allowed}.",
            fix=f"write `{near[0]}`" if near else "remove it",
        )  # fmt: skip

    def not_a_choice(self, path: Path) -> Problem:
        node, value = self.schema(path), self.get(path)
        words = schema.choices(node) if node else ()
        if path[-1:] == ("kind",) and not words:
            words = schema.choices(self.schema(path[:-1])) or schema.choices(schema.at(path[:-1], None))
        near = nearest(value[:LONGEST_SHOWN], words) if isinstance(value, str) else ()
        message = self.cannot_be(path)
        return Problem(
            "SPEC-024", message, self.positions.value(path), dotted(path), near, f"{', '.join(words)}.",
            fix=f"write `{near[0]}`" if near else None,
        )  # fmt: skip

    def wrong_form(self, path: Path) -> Problem:
        plain = _plain(self.get(path), str((self.schema(path) or {}).get("pattern")))
        fix = f"write {plain}" if plain and not self.is_hidden(path) else None
        return self.problem("SPEC-025", path, self.cannot_be(path), fix)

    def out_of_range(self, path: Path) -> Problem:
        if self.get(path) == []:
            return self.problem("SPEC-023", path, f"`{path[-1]}` is empty; it needs at least one item.")
        return self.problem("SPEC-023", path, self.cannot_be(path))

    def wrong_type(self, path: Path) -> Problem:
        node, value = self.schema(path), self.get(path)
        message = f"{_capital(self.name(path))} is {self.got(path)}."
        return self.problem("SPEC-022", path, message, _type_fix(node or {}, value, self.raw(path)))

    def problem(self, rule: str, path: Path, message: str, fix: str | None = None) -> Problem:
        allowed = f"{schema.expected(self.schema(path))}."
        return Problem(rule, message, self.positions.value(path), dotted(path), allowed=allowed, fix=fix)

    def name(self, path: Path) -> str:
        return dotted(path) if path else "the region"

    def schema(self, path: Path) -> schema.Node | None:
        return schema.at(path, self.data)

    def get(self, path: Path) -> Any:
        return schema.value_at(self.data, path)

    def raw(self, path: Path) -> str | None:
        """An unquoted scalar as it is written; None where it may not be shown."""
        node = self.positions.written(path)
        return node.text if isinstance(node, Scalar) and node.plain and not self.is_hidden(path) else None

    def cannot_be(self, path: Path) -> str:
        if self.is_hidden(path):
            return f"{_what(path)} is not in its form. What is given is not shown: it may be the secret itself."
        return f"{_what(path)} cannot be {shown(self.get(path))}."

    def is_hidden(self, path: Path) -> bool:
        return any(path[:n] in self.hidden for n in range(len(path) + 1))

    def got(self, path: Path) -> str:
        value = self.get(path)
        if value is None:
            return "left empty"
        if isinstance(value, dict):
            return "a section"
        if isinstance(value, list):
            return "a list"
        if self.is_hidden(path):
            return "of another type"
        if isinstance(value, str):
            return f"the text {json.dumps(_cut(value), ensure_ascii=False)}"
        return shown(value) if isinstance(value, bool) else f"the number {shown(value)}"


def shown(value: Any) -> str:
    """A value as messages show it: words bare, other text in quotes, cut where it is long."""
    if isinstance(value, str):
        return _cut(value) if WORDLIKE.fullmatch(value) else json.dumps(_cut(value), ensure_ascii=False)
    if isinstance(value, dict | list):
        return "a section" if isinstance(value, dict) else "a list"
    return json.dumps(value)


def _plain(value: Any, pattern: str) -> str | None:
    """A name in small letters with hyphens for all else, where that has the form."""
    if not isinstance(value, str) or len(value) > LONGEST_SHOWN:
        return None
    plain = re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-")
    return plain if plain != value and re.search(pattern, plain) else None


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _what(path: Path) -> str:
    """`pools[0].nodes` → `nodes`, `network.egress[0]` → `egress[0]`."""
    names = [i for i, part in enumerate(path) if isinstance(part, str)]
    return f"`{dotted(path[names[-1] :])}`" if names else "a value"


def _capital(text: str) -> str:
    return "The region" if text == "the region" else text


def _lower(text: str) -> str:
    """The first letter small, unless it begins an abbreviation."""
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _type_fix(node: Mapping[str, Any], value: Any, raw: str | None) -> str | None:
    """The edit that mends a value of the wrong type, where there is an obvious one. `raw`: as it is written."""
    kind = node.get("type")
    short = raw if raw and len(raw) <= LONGEST_SHOWN else None
    fix = None
    if "discriminator" in node and value in schema.choices(node):
        fix = f"write {{kind: {value}}}"
    elif kind == "string" and raw and value is not None:
        fix = f'write "{short}", in quotes' if short else "write it in quotes"
    elif kind in {"integer", "number"} and isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        fix = f"write {value}, without quotes"
    elif kind == "array" and isinstance(value, str | int | float):
        fix = f"write [{short}]" if short else "write it in [ ]"
    elif kind == "array" and isinstance(value, dict):
        fix = "begin each item with `- `"
    elif kind == "object" and value is None:
        fix = "give it keys, or remove it"
    return fix
