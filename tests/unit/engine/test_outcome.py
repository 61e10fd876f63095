"""What the events of a run come to. Real: streams recorded from the engine. Made up: exit codes and single events."""

from __future__ import annotations

import signal

import pytest
from aifactory.engine.events import Diagnostic, ResourceFailed
from aifactory.engine.outcome import Outcome, Watch, split_reasons
from aifactory.errors import Exit

from tests.unit.engine.test_events import read


def watched(name: str, code: int = 0, stopped: signal.Signals | None = None) -> Outcome:
    watch = Watch("up")
    for event in read(name):
        watch.see(event)
    return watch.end(code, stopped, "", None)


def failed(*reasons: str) -> Outcome:
    watch = Watch("up")
    for number, reason in enumerate(reasons):
        watch.see(ResourceFailed("create", f"urn:x::t::n{number}", "t", "id", (reason,)))
    return watch.end(1, None, "", None)


def test_success_has_changes_and_outputs() -> None:
    outcome = watched("up_create")
    assert outcome.ok
    assert outcome.changes == {"create": 4}
    assert [c.name for c in outcome.changed] == ["tiny-one", "group", "a", "b"]
    assert outcome.outputs == {"plain": 1, "secret_x": "[secret]"}


def test_an_unchanged_run_has_no_changes_but_still_the_outputs() -> None:
    outcome = watched("up_unchanged")
    assert outcome.changed == ()
    assert outcome.outputs["plain"] == 1


def test_failures_carry_reasons_of_the_state_or_of_the_diagnostic() -> None:
    outcome = watched("up_failed", code=1)
    assert outcome.exit == Exit.FAILED
    assert {f.name: f.reasons for f in outcome.failures} == {
        "c": ("port 80 is taken",),
        "d": ("unreachable: n1", "failed (task X): n2"),
    }


def test_only_what_was_settled_counts_as_touched() -> None:
    names = {urn.rsplit("::", 1)[1] for urn in watched("up_failed", code=1).touched}
    assert "d" in names, "half made: it is in the state"
    assert "c" not in names, "refused: nobody knows"


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (("not proved: no completion",), Exit.NOT_PROVED),
        (("not proved: a", "not proved: b"), Exit.NOT_PROVED),
        (("not proved: a", "failed: b"), Exit.FAILED),
        (("unreachable: n1",), Exit.FAILED),
    ],
)
def test_exit_code_of_failures(reasons: tuple[str, ...], expected: Exit) -> None:
    assert failed(*reasons).exit == expected


@pytest.mark.parametrize(
    ("signum", "expected"),
    [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, Exit.TERMINATED), (signal.SIGHUP, Exit.TERMINATED)],
)
def test_exit_code_of_a_stopped_run(signum: signal.Signals, expected: Exit) -> None:
    assert watched("up_failed", code=1, stopped=signum).exit == expected


def test_a_stop_is_a_stop_though_the_engine_says_that_it_succeeded() -> None:
    """It says so when it was stopped between two steps; whether anything was left to do it does not say."""
    assert watched("up_create", code=0, stopped=signal.SIGINT).exit == Exit.INTERRUPTED


def test_a_run_that_died_without_a_word_tells_the_last_ones() -> None:
    outcome = Watch("up").end(-9, None, "the engine was ended by SIGKILL", None)
    assert outcome.failures[0].reasons == ("the engine was ended by SIGKILL",)


def test_a_resource_that_failed_before_it_began_has_its_kind() -> None:
    watch = Watch("up")
    watch.see(Diagnostic("error", "journal is damaged", "urn:pulumi:s::p::a:b:C$aifactory:local:Network::network"))
    (failure,) = watch.end(1, None, "", None).failures
    assert (failure.type, failure.name) == ("aifactory:local:Network", "network")


def test_generic_lines_are_no_failures() -> None:
    watch = Watch("up")
    watch.see(Diagnostic("error", "update failed"))
    watch.see(Diagnostic("error", "Program failed with an unhandled exception: x", "urn:x::pulumi:pulumi:Stack::t"))
    outcome = watch.end(1, None, "", None)
    assert [f.reasons for f in outcome.failures] == [("Program failed with an unhandled exception: x",)]


def test_split_reasons() -> None:
    assert split_reasons("2 errors occurred:\n\t* a\n\t* b\n\n\n") == ["a", "b"]
    assert split_reasons("1 error occurred:\n\t* a * b") == ["a * b"]
    assert split_reasons("just this") == ["just this"]
