"""The tree of a region file: text to mappings, lists and scalars that know where they stand.

Built from parser events, not from the parser's own objects: nothing of a file is ever executed, and what the
format does not have (anchors, tags, several documents) is named instead of being half understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from aifactory.errors import Problem, ProblemError
from aifactory.region import syntax
from aifactory.region.scalars import NotANumber, Value, resolve
from aifactory.region.text import Text

DEEPEST = 16
"""Levels; the format has six."""
MOST_PROBLEMS = 100
"""Problems told of one file; a file with more is not a region file."""
MOST_EVENTS = 100_000
"""Keys, values and brackets; a region of 4,096 listed hosts takes some 70,000."""


DECORATION = re.compile(r"[&!][^\s,\[\]{}]*")
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Scalar:
    start: int
    end: int
    text: str
    plain: bool
    """Written without quotes: its value follows from its form."""

    @property
    def value(self) -> Value:
        return resolve(self.text) if self.plain else self.text


@dataclass(slots=True)
class Mapping:
    start: int
    end: int
    items: dict[str, tuple[Scalar, Node]] = field(default_factory=dict)
    refused: list[tuple[Node, Node]] = field(default_factory=list)
    """Pairs that are not part of the value (a key twice, a key that is no word); they may hold secrets all the same."""


@dataclass(slots=True)
class Sequence:
    start: int
    end: int
    items: list[Node] = field(default_factory=list)


Node = Scalar | Mapping | Sequence


@dataclass(frozen=True)
class Document:
    """`root` is None where the file has no usable tree; `problems` says why, and what else is wrong with it."""

    text: Text
    root: Mapping | None
    problems: tuple[Problem, ...]


def parse(text: Text) -> Document:
    """The file's tree. Never raises for what a file can hold: everything wrong is in `problems`."""
    builder = _Builder(text)
    try:
        root = builder.document()
    except ProblemError as error:
        return Document(text, None, (*builder.problems, *error.problems))
    if root is not None and not isinstance(root, Mapping):
        builder.refuse("SPEC-005", "The file is not a list of `key: value` lines.", root.start, root.end, fix=STARTER)
        root = None
    return Document(text, root, tuple(builder.problems))


STARTER = "begin with the file that `aifactory init NAME --provider local` writes"


class _Builder:
    """Takes events one by one; goes on after a mistake that leaves the rest readable."""

    def __init__(self, text: Text) -> None:
        self.text = text
        self.problems: list[Problem] = []
        self.events = _events(text)
        self.depth = 0

    def refuse(self, rule: str, message: str, start: int, end: int | None = None, fix: str | None = None) -> None:
        self.problems.append(Problem(rule, message, self.text.place(start, end), fix=fix))
        if len(self.problems) > MOST_PROBLEMS:
            raise ProblemError([])

    def stop(self, rule: str, message: str, event: Any, fix: str | None = None) -> ProblemError:
        place = self.text.place(event.start_mark.index, event.end_mark.index)
        return ProblemError([Problem(rule, message, place, fix=fix)])

    def document(self) -> Node | None:
        root: Node | None = None
        documents = 0
        for event in self.events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                documents += 1
                if documents > 1:
                    raise self.stop("SPEC-005", "A second document starts here; a file is one region.", event,
                                    "one file a region: move it to a file of its own")  # fmt: skip
                if event.version not in {None, (1, 2)}:
                    raise self.stop("SPEC-005", "The file asks for another version of YAML than 1.2.", event,
                                    "remove the %YAML line")  # fmt: skip
                root = self.node(next(self.events))
        if documents == 0 or (isinstance(root, Scalar) and root.plain and not root.text):
            raise ProblemError(
                [Problem("SPEC-005", "The file is empty: it describes no region.", self.text.place(0), fix=STARTER)]
            )
        return root

    def node(self, event: Any) -> Node:
        kind = type(event).__name__
        start, end = event.start_mark.index, event.end_mark.index
        if kind == "AliasEvent":
            raise self.stop("SPEC-006", "Aliases (`*name`) are not part of the format.", event,
                            "write the value out; a region file says everything where it stands")  # fmt: skip
        self.no_anchor_or_tag(event)
        if kind == "ScalarEvent":
            return self.scalar(event)
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.stop("SPEC-008", f"More than {DEEPEST} levels inside each other.", event)
        made: Mapping | Sequence
        made = self.mapping(Mapping(start, end)) if kind == "MappingStartEvent" else self.sequence(Sequence(start, end))
        self.depth -= 1
        if event.flow_style is False:
            made.end = _first_line_end(made)
        return made

    def no_anchor_or_tag(self, event: Any) -> None:
        start = event.start_mark.index
        word = DECORATION.match(self.text.content, start)
        end = word.end() if word else event.end_mark.index
        if event.anchor is not None:
            self.refuse("SPEC-006", "Anchors (`&name`) are not part of the format.", start, end, "remove it")
        elif event.ctag is not None:
            self.refuse("SPEC-006", "Tags (`!name`) are not part of the format.", start, end,
                        "remove it; text that looks like a number stands in quotes")  # fmt: skip

    def scalar(self, event: Any) -> Scalar:
        start, end = event.start_mark.index, event.end_mark.index
        made = Scalar(start, end, event.value, not event.style)
        if LONE_SURROGATE.search(made.text):
            self.refuse("SPEC-009", "The text holds half a character (a lone surrogate).", start, end)
            return Scalar(start, end, LONE_SURROGATE.sub("�", made.text), False)
        try:
            _ = made.value
        except NotANumber as error:
            self.refuse("SPEC-009", f"This {error}.", start, end, "write a number, or the text in quotes")
            return Scalar(start, end, made.text, False)
        return made

    def mapping(self, made: Mapping) -> Mapping:
        for event in self.events:
            if type(event).__name__ == "MappingEndEvent":
                made.end = event.end_mark.index
                return made
            key = self.node(event)
            value = self.node(next(self.events))
            if self.key_is_good(key, made):
                made.items[key.text] = (key, value)
            else:
                made.refused.append((key, value))
        return made

    def key_is_good(self, key: Node, made: Mapping) -> TypeGuard[Scalar]:
        if not isinstance(key, Scalar) or not key.text:
            self.refuse("SPEC-009", "A key must be a word.", key.start, key.end)
        elif key.plain and key.text == "<<":
            self.refuse("SPEC-006", "Merge keys (`<<`) are not part of the format.", key.start, key.end,
                        "write the keys out")  # fmt: skip
        elif key.text in made.items:
            line = self.text.place(made.items[key.text][0].start).line
            self.refuse("SPEC-007", f"`{key.text[:60]}` stands twice here; line {line} has it too.", key.start,
                        key.end, "keep one of them")  # fmt: skip
        else:
            return True
        return False

    def sequence(self, made: Sequence) -> Sequence:
        for event in self.events:
            if type(event).__name__ == "SequenceEndEvent":
                made.end = event.end_mark.index
                return made
            made.items.append(self.node(event))
        return made


def _first_line_end(made: Mapping | Sequence) -> int:
    """Where the first key or item of a block ends: what a caret can stand under."""
    if isinstance(made, Mapping):
        return next(iter(made.items.values()))[0].end if made.items else made.start + 1
    return made.items[0].end if made.items else made.start + 1


def _events(text: Text) -> Iterator[Any]:
    """Parser events. Raises ProblemError SPEC-004 where the text stops being YAML, SPEC-002 where it is too much."""
    from ruamel.yaml import YAML  # 15 ms, and only here

    parser = YAML(typ="safe", pure=True)
    reached = 0
    try:
        for count, event in enumerate(parser.parse(text.content)):
            if count >= MOST_EVENTS:
                place = text.place(event.start_mark.index)
                raise ProblemError([Problem("SPEC-002", f"More than {MOST_EVENTS:,} keys and values.", place)])
            reached = event.end_mark.index
            yield event
    except ProblemError:
        raise
    except Exception as error:  # the parser answers some texts with OverflowError, ValueError and the like
        raise ProblemError([syntax.explain(error, text, reached)]) from error


def data(node: Node) -> Any:
    """The tree as plain dicts, lists and values."""
    if isinstance(node, Mapping):
        return {key: data(value) for key, (_, value) in node.items.items()}
    if isinstance(node, Sequence):
        return [data(item) for item in node.items]
    return node.value
