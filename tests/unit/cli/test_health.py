"""What `aifactory health` makes of a run's notes. Real: the command's own reading; the notes are as the play writes."""

from __future__ import annotations

from aifactory.cli import health
from aifactory.hosts.play import HostOutcome, RunResult


def outcome(status: str, message: str | None = None) -> HostOutcome:
    return HostOutcome(status, 0, 3, None, message)  # type: ignore[arg-type]


def test_each_node_has_its_own_verdict_and_a_silent_one_is_unknown() -> None:
    hosts = {"a-1": outcome("converged"), "a-10": outcome("converged"), "b": outcome("unreachable", "refused")}
    notes = ("health: a-10 reboot: remap pending on GPU 2", "health: a-1 ok: 8 GPUs")
    judged = {one.node: one for one in health._judged(RunResult("r", hosts, 1.0, notes))}
    assert (judged["a-1"].verdict, judged["a-1"].told) == ("ok", "8 GPUs")
    assert judged["a-10"].verdict == "reboot"
    assert (judged["b"].verdict, judged["b"].told) == ("unknown", "refused")
