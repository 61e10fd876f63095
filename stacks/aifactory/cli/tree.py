"""What a person sees while the engine works: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aifactory.engine.events import Diagnostic, Event, Note, ResourceBegin, ResourceDone, ResourceFailed

if TYPE_CHECKING:
    from rich.table import Table

DOING = {
    "create": "making",
    "create-replacement": "remaking",
    "update": "changing",
    "delete": "removing",
    "delete-replaced": "removing the old one",
    "refresh": "looking",
    "read": "reading",
    "import": "importing",
}
DONE = {
    "create": "made",
    "create-replacement": "remade",
    "update": "changed",
    "delete": "removed",
    "delete-replaced": "old one removed",
    "refresh": "seen",
    "read": "read",
    "import": "imported",
    "same": "unchanged",
}
WOULD = {
    "create": "would be made",
    "create-replacement": "would be remade",
    "replace": "would be replaced",
    "update": "would change",
    "delete": "would be removed",
    "delete-replaced": "old one would be removed",
}
QUIET = ("pulumi:", "aifactory:component:")
"""Types that group others and do nothing themselves."""


@dataclass
class Row:
    kind: str
    name: str
    op: str
    started: float
    state: str = "busy"
    """busy, done or failed"""
    note: str = ""
    ended: float | None = None

    def seconds(self, now: float) -> float:
        return (self.ended or now) - self.started


class Progress:
    """Rows by URN, fed by engine events. `clock` is time.monotonic, or a fake one in tests."""

    def __init__(self, *, preview: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.rows: dict[str, Row] = {}
        self.preview = preview
        self.unchanged = 0
        self.notes: list[str] = []
        self._clock = clock
        self._start = clock()

    @property
    def elapsed(self) -> float:
        return self._clock() - self._start

    def see(self, event: Event) -> str | None:
        """Takes an event in; returns the plain line that says it, None when it says nothing new."""
        if isinstance(event, Note):
            self.notes.append(event.message)
            return event.message
        if isinstance(event, Diagnostic):
            return self._diagnostic(event)
        if isinstance(event, ResourceBegin | ResourceDone | ResourceFailed):
            if event.type.startswith(QUIET):
                return None
            return self._resource(event)
        return None

    def _diagnostic(self, event: Diagnostic) -> str | None:
        row = self.rows.get(event.urn)
        if row is None or event.severity == "error":
            return None
        row.note = event.message.splitlines()[0]
        return f"{row.kind} {row.name}: {row.note}"

    def _resource(self, event: ResourceBegin | ResourceDone | ResourceFailed) -> str | None:
        now = self._clock()
        kind = event.type.rsplit(":", 1)[-1]
        if event.op == "same":
            if isinstance(event, ResourceDone):
                self.unchanged += 1
            return None
        if isinstance(event, ResourceBegin):
            self.rows[event.urn] = Row(kind, event.name, event.op, now)
            changed = ", ".join(path for path, _ in event.changed)
            if self.preview:
                self.rows[event.urn].note = changed
                return None
            return f"{kind} {event.name}: {DOING.get(event.op, event.op)}" + (f" ({changed})" if changed else "")
        row = self.rows.setdefault(event.urn, Row(kind, event.name, event.op, now))
        row.ended, row.op = now, event.op
        row.state = "failed" if isinstance(event, ResourceFailed) else "done"
        if row.state == "failed":
            return f"{kind} {event.name}: failed after {row.seconds(now):.1f} s"
        if self.preview:
            return f"{kind} {event.name}: {WOULD.get(event.op, event.op)}" + (f" ({row.note})" if row.note else "")
        return f"{kind} {event.name}: {DONE.get(event.op, event.op)} in {row.seconds(now):.1f} s"

    def table(self) -> Table:
        """The rows as a rich table, for the live view."""
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2))
        for _ in range(5):
            grid.add_column(overflow="ellipsis", no_wrap=True)
        now = self._clock()
        for row in self.rows.values():
            if row.state == "busy" and not self.preview:
                sign: object = Spinner("dots", style="cyan")
            else:
                sign = Text("✗", "bold red") if row.state == "failed" else Text("✓", "green")
            words = WOULD if self.preview else (DOING if row.state == "busy" else DONE)
            word = "failed" if row.state == "failed" else words.get(row.op, row.op)
            note = row.note if row.state != "done" or self.preview else ""
            said = Text(word + (f": {note}" if note else ""), "red" if row.state == "failed" else "")
            grid.add_row(sign, Text(row.kind, "bold"), row.name, said, Text(f"{row.seconds(now):.1f} s", "dim"))  # type: ignore[arg-type]
        if self.unchanged:
            grid.add_row("", Text("unchanged", "dim"), Text(str(self.unchanged), "dim"), "", "")
        return grid


@contextmanager
def shown(progress: Progress, *, quiet: bool = False, verbose: bool = False) -> Iterator[Callable[[Event], None]]:
    """Yields the callback for the engine's events and shows them on stderr.

    A live table on a terminal, plain lines elsewhere, every event as it is with `verbose`, nothing with `quiet`.
    """

    def silent(event: Event) -> None:
        progress.see(event)

    def raw(event: Event) -> None:
        progress.see(event)
        print(f"[{progress.elapsed:6.1f} s] {event}", file=sys.stderr, flush=True)

    if quiet or verbose:
        yield raw if verbose else silent
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.live import Live

        class Renderable:
            def __rich__(self) -> Table:
                return progress.table()

        with Live(Renderable(), console=Console(stderr=True), refresh_per_second=8, transient=False):
            yield silent
    else:

        def line(event: Event) -> None:
            if said := progress.see(event):
                print(f"[{progress.elapsed:6.1f} s] {said}", file=sys.stderr, flush=True)

        yield line
