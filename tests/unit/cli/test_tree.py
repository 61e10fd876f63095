"""Progress shown from engine events. Real: the event types; the clock is ours."""

import io
import sys

import pytest
from aifactory.cli import tree
from aifactory.engine.events import Diagnostic, Note, ResourceBegin, ResourceDone, ResourceFailed
from rich.console import Console

URN = "urn:pulumi:local::aifactory::aifactory:local:NodePool::serve"
TYPE = "aifactory:local:NodePool"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock: Clock) -> tree.Progress:
    return tree.Progress(clock=clock)


def test_create_is_told_from_begin_to_end_with_its_seconds(progress: tree.Progress, clock: Clock) -> None:
    assert progress.see(ResourceBegin("create", URN, TYPE)) == "NodePool serve: making"
    clock.now += 1.0
    assert progress.see(Diagnostic("info", "1/2 nodes reachable", URN, True)) == "NodePool serve: 1/2 nodes reachable"
    clock.now += 2.0
    assert progress.see(ResourceDone("create", URN, TYPE)) == "NodePool serve: made in 3.0 s"


def test_failed_row_stays_failed(progress: tree.Progress, clock: Clock) -> None:
    progress.see(ResourceBegin("update", URN, TYPE, (("nodes[1]", "add"),)))
    assert progress.see(ResourceFailed("update", URN, TYPE)) == "NodePool serve: failed after 0.0 s"
    assert progress.rows[URN].state == "failed"


def test_unchanged_and_grouping_resources_are_only_counted(progress: tree.Progress) -> None:
    assert progress.see(ResourceBegin("same", URN, TYPE)) is None
    assert progress.see(ResourceDone("same", URN, TYPE)) is None
    assert progress.see(ResourceBegin("create", "urn::x", "aifactory:component:Region")) is None
    assert progress.see(ResourceBegin("create", "urn::y", "pulumi:pulumi:Stack")) is None
    assert (progress.unchanged, progress.rows) == (1, {})


def test_preview_says_what_would_change_and_why(clock: Clock) -> None:
    progress = tree.Progress(preview=True, clock=clock)
    assert progress.see(ResourceBegin("update", URN, TYPE, (("nodes[2]", "add"),), True)) is None
    assert progress.see(ResourceDone("update", URN, TYPE, {}, True)) == "NodePool serve: would change (nodes[2])"


def test_errors_are_left_to_the_end(progress: tree.Progress) -> None:
    progress.see(ResourceBegin("create", URN, TYPE))
    assert progress.see(Diagnostic("error", "it broke", URN)) is None


def test_without_a_terminal_lines_go_to_stderr(
    progress: tree.Progress, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    with tree.shown(progress) as on_event:
        on_event(Note("a lock was broken"))
        clock.now += 2.25
        on_event(ResourceBegin("create", URN, TYPE))
    assert out.getvalue() == "[   0.0 s] a lock was broken\n[   2.2 s] NodePool serve: making\n"


def test_table_shows_sign_kind_name_and_note(progress: tree.Progress, clock: Clock) -> None:
    progress.see(ResourceBegin("create", URN, TYPE))
    progress.see(ResourceDone("create", URN, TYPE))
    progress.see(ResourceBegin("create", URN + "2", TYPE))
    progress.see(Diagnostic("info", "0/1 nodes reachable", URN + "2", True))
    console = Console(file=io.StringIO(), width=100, record=True)
    console.print(progress.table())
    text = console.export_text()
    assert "✓" in text
    assert "making: 0/1 nodes reachable" in text
