"""A region file's characters: read within limits, with places for people and a cover over secrets."""

from __future__ import annotations

import codecs
import os
import re
import stat
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path

from aifactory.errors import Exit, Place, Problem, ProblemError

LARGEST_BYTES = 1 << 20
"""A region of 4,096 listed hosts takes some 700 kB."""

SHORTEST_SCRUBBED = 5
"""Characters. A shorter secret is covered where it stands; elsewhere it cannot be told from a word."""

LONGEST_LINE = 10_000
"""Characters; a longer line is not shown."""
MOST_SCRUBBED = 500
"""Secrets looked for outside of where they stand; a file with more of them is shown no better for it."""

UNREADABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What YAML 1.2 does not allow in a file (5.1 Character Set)."""
REORDERING = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Bidirectional controls: they make a file look like what it is not."""
LINE_END = re.compile(r"\r\n?|\n")

WIDE_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Text:
    """Characters of one file; `label` is the file's name as people see it. Offsets are 0-based characters."""

    def __init__(self, label: str, content: str) -> None:
        self.label = label
        self.content = content
        self._starts = [0, *(m.end() for m in LINE_END.finditer(content))]
        self._cover = list(content)
        self._hidden: dict[str, None] = {}

    def hide(self, spans: Iterable[tuple[int, int]], values: Iterable[str] = ()) -> None:
        """Covers `spans` (start, end) with `*` in every source line that places show from now on; columns stay true.

        `values`: the same things without quotes and escapes, as a message could repeat them.
        """
        for value in values:
            self._scrub_later(value)
        for start, end in spans:
            self._scrub_later(self.content[start:end].strip(" \t'\""))
            for index in range(start, end):
                if self._cover[index] not in "\r\n":
                    self._cover[index] = "*"

    def hidden(self) -> tuple[str, ...]:
        """What is covered, for scrubbing messages."""
        return tuple(self._hidden)

    def _scrub_later(self, hidden: str) -> None:
        if len(hidden) >= SHORTEST_SCRUBBED and len(self._hidden) < MOST_SCRUBBED:
            self._hidden[hidden] = None

    def place(self, start: int, end: int | None = None) -> Place:
        """Line and column of `start`; `end` is cut at the end of that line."""
        start = max(0, min(start, len(self.content)))
        line = bisect_right(self._starts, start) - 1
        first = self._starts[line]
        last = self._line_end(line)
        column = min(start, last) - first + 1
        until = min(max(end if end is not None else start + 1, start + 1), max(last, start + 1))
        shown = self.line(line + 1) if last - first <= LONGEST_LINE else None
        return Place(self.label, line + 1, column, until - first + 1, shown)

    def line(self, number: int) -> str:
        """Line `number` (1-based) as it may be shown; a covered text that stands there again is covered too."""
        shown = "".join(self._cover[self._starts[number - 1] : self._line_end(number - 1)])
        for hidden in self._hidden:
            if hidden in shown:
                shown = shown.replace(hidden, "*" * len(hidden))
        return shown

    def _line_end(self, line: int) -> int:
        following = self._starts[line + 1] if line + 1 < len(self._starts) else len(self.content)
        return self._starts[line] + len(self.content[self._starts[line] : following].rstrip("\r\n"))


def label(path: Path) -> str:
    """The path as people see it: relative where the file is below the working folder."""
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):  # the working folder is gone
        return str(path)
    return str(path) if relative.startswith("..") else relative


def read(path: Path) -> Text:
    """The file as text. Raises ProblemError SPEC-001 (not readable), SPEC-002 (too large), SPEC-003 (not UTF-8)."""
    content = _read_bytes(path)
    name = label(path)
    if content.startswith(WIDE_MARKS):
        raise _refuse("SPEC-003", Place(name, 1), "The file is UTF-16 or UTF-32.", "save it as UTF-8")
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return Text(name, content.decode())
    except UnicodeDecodeError as error:
        before = content[: error.start].decode()
        line = LINE_END.sub("\n", before).count("\n") + 1
        column = len(re.split(r"[\r\n]", before)[-1]) + 1
        message = f"The file is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start}."
        raise _refuse("SPEC-003", Place(name, line, column), message, "save it as UTF-8") from None


def unreadable(text: Text) -> Problem | None:
    """The first character that YAML forbids or that reorders the text on screen."""
    found = UNREADABLE.search(text.content) or REORDERING.search(text.content)
    if not found:
        return None
    what = "reorders text on the screen" if REORDERING.match(found.group()) else "YAML does not allow"
    message = f"Character U+{ord(found.group()):04X} stands here, which {what}."
    return Problem("SPEC-003", message, text.place(found.start(), found.end()), fix="remove it")


def _read_bytes(path: Path) -> bytes:
    name = Place(label(path))
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise _refuse("SPEC-001", name, f"This is {what}.", "name a region or a YAML file")
        if status.st_size > LARGEST_BYTES:
            raise _refuse(
                "SPEC-002",
                name,
                f"The file has {status.st_size:,} bytes; a region file has at most {LARGEST_BYTES:,}.",
                "check that it is a region file",
            )
        with path.open("rb") as file:
            return file.read(LARGEST_BYTES)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise _refuse("SPEC-001", name, f"The file cannot be read: {reason}.", None) from None


def _refuse(rule: str, place: Place, message: str, fix: str | None) -> ProblemError:
    return ProblemError([Problem(rule, message, place, fix=fix)], Exit.BAD_INPUT)
