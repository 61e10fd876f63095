"""The life of a stack on the real engine: made, unchanged, failing, looked at, taken down, forgotten.

Real: the Pulumi engine and its file backend. Tiny: the provider (see engine_project.py).
"""

from __future__ import annotations

import shutil
import time

import pytest
from aifactory.engine import environment, stackfile
from aifactory.engine.events import Diagnostic, Event, ResourceBegin, ResourceDone, Summary
from aifactory.errors import Exit, ProblemError

from tests.engine.engine_project import NAME, Project

pytestmark = pytest.mark.engine


def test_up_makes_what_the_file_says_and_destroy_and_remove_leave_nothing(project: Project) -> None:
    project.want({"a": {"secret": "hush-hush"}, "b": {"after": ["a"]}}, outputs={"plain": 1, "secret_key": "geheim"})
    seen: list[Event] = []

    outcome = project.stack.up(seen.append)

    assert outcome.exit == Exit.OK
    assert outcome.changes == {"create": 4}
    assert outcome.outputs == {"plain": 1, "secret_key": "[secret]"}
    assert project.made() == {"a": {"made": 1, "ready": True}, "b": {"made": 1, "ready": True}}
    kinds = [type(e) for e in seen]
    assert kinds.count(Summary) == 1
    assert [e.name for e in seen if isinstance(e, ResourceBegin)].index("a") < len(kinds)
    assert {e.name for e in seen if isinstance(e, ResourceDone)} >= {"a", "b"}
    assert not [e for e in seen if isinstance(e, Diagnostic) and e.severity == "debug"]

    assert project.stack.exists()
    assert project.stack.outputs() == {"plain": 1, "secret_key": "[secret]"}
    assert project.stack.outputs(show_secrets=True) == {"plain": 1, "secret_key": "geheim"}
    of = {kind: outputs for kind, outputs in project.stack.resource_outputs(show_secrets=True) if "secret" in outputs}
    assert of == {"tiny:index:Thing": {**of["tiny:index:Thing"], "secret": "hush-hush"}}
    hidden = [outputs["secret"] for _, outputs in project.stack.resource_outputs() if "secret" in outputs]
    assert hidden == ["[secret]"]
    snapshot = project.stack.snapshot()
    assert snapshot
    assert "hush-hush" not in snapshot.text + _logs(project)
    assert "geheim" not in snapshot.text + _logs(project)

    assert project.stack.destroy().ok
    project.stack.remove()
    assert project.made() == {}
    assert not project.stack.exists()
    assert not stackfile.path(NAME).exists()
    assert not list((project.root / "regions").glob("*")), "the engine's own config file was moved, not copied"
    left = [p for p in project.home.rglob(f"*{NAME}*") if p.suffix != ".lock"]
    assert left == []


def _logs(project: Project) -> str:
    return "".join(p.read_text() for p in (project.home / "logs").rglob("*") if p.is_file())


def test_unchanged_up_takes_one_export_and_one_up(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.want({"a": {}})
    project.stack.up()
    stack = project.stack
    calls: list[str] = []
    real = type(stack.engine).call
    monkeypatch.setattr(
        type(stack.engine),
        "call",
        lambda self, *argv, stdin=None: (calls.append(argv[1]), real(self, *argv, stdin=stdin))[1],
    )
    began = time.monotonic()

    outcome = stack.up()

    assert outcome.ok
    assert outcome.changed == ()
    assert outcome.changes == {"same": 3}
    assert calls == ["export"]
    assert time.monotonic() - began < 15, "generous: a busy machine runs this too"


def test_disk_of_the_state_is_full_and_nothing_is_begun(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.want({"a": {}})
    real = shutil.disk_usage

    def full(path: object) -> object:
        return real("/")._replace(free=(1 << 20)) if str(path).startswith(str(project.home)) else real(str(path))

    with monkeypatch.context() as here:
        here.setattr(shutil, "disk_usage", full)
        with pytest.raises(ProblemError, match=r"ENG-013.*\n.*No space left on device") as caught:
            project.stack.up()
    assert caught.value.code == Exit.PREFLIGHT
    assert project.made() == {}
    assert project.stack.up().ok


def test_preview_says_what_would_change_and_changes_nothing(project: Project) -> None:
    project.want({"a": {"size": 1}})
    project.stack.up()
    project.want({"a": {"size": 2}, "b": {}})

    outcome = project.stack.preview()

    assert outcome.ok
    assert {(c.op, c.name) for c in outcome.changed} == {("update", "a"), ("create", "b")}
    assert list(project.made()) == ["a"]


def test_refused_and_half_made_resources_are_told_with_their_reasons(project: Project) -> None:
    project.want({"c": {"refuse": "port 80 is taken"}, "d": {"fail": ["unreachable: n1", "failed (task X): n2"]}})

    outcome = project.stack.up()

    assert outcome.exit == Exit.FAILED
    assert {f.name: f.reasons for f in outcome.failures} == {
        "c": ("port 80 is taken",),
        "d": ("unreachable: n1", "failed (task X): n2"),
    }
    project.want({"d": {}})
    assert project.stack.up().ok, "the half-made one is in the state and goes on from there"
    assert project.made()["d"] == {"made": 2, "ready": True}


def test_nothing_but_not_proved_gives_exit_5(project: Project) -> None:
    project.want({"proof": {"fail": ["not proved: no completion came back"]}})
    assert project.stack.up().exit == Exit.NOT_PROVED


def test_a_crash_of_the_program_is_a_failure_with_its_text(project: Project) -> None:
    project.want({}, crash="no such shape")
    outcome = project.stack.up()
    assert outcome.exit == Exit.FAILED
    assert any("no such shape" in reason for f in outcome.failures for reason in f.reasons)


def test_refresh_finds_what_somebody_removed(project: Project) -> None:
    project.want({"a": {}})
    project.stack.up()
    (project.things / "a.json").unlink()
    assert project.stack.refresh().changes.get("delete") == 1
    assert project.stack.up().ok
    assert "a" in project.made()


def test_destroy_of_a_region_that_never_was_is_fine_and_makes_nothing(project: Project) -> None:
    project.want({})
    assert project.stack.destroy().ok
    assert not project.stack.exists()


def test_a_lost_config_file_is_made_again_and_up_goes_on(project: Project) -> None:
    project.want({"a": {}})
    stack = project.stack
    stack.up()
    stackfile.path(NAME).unlink()

    stack.ensure()

    assert stackfile.deployment(NAME)
    assert stack.up().ok
    stackfile.path(NAME).write_text(": : no YAML")
    with pytest.raises(ProblemError, match=f"ENG-009.*\n.*Pulumi.{NAME}.yaml cannot be read"):
        stack.up()


def test_a_wrong_passphrase_is_said_in_plain_words(project: Project) -> None:
    project.want({"a": {"secret": "x"}})
    project.stack.up()
    environment.passphrase_file().write_text("another one\n")
    with pytest.raises(ProblemError, match="is not the one that region t-engine was made with") as caught:
        project.stack.up()
    assert caught.value.code == Exit.PREFLIGHT


def test_a_damaged_state_names_the_copy_that_mends_it(project: Project) -> None:
    project.want({"a": {}, "b": {"after": ["a"]}})
    project.stack.up()
    (file,) = (project.home / "state").rglob(f"{NAME}.json.zst")
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ProblemError, match="ENG-008") as caught:
        project.stack.up()
    assert f"cp {file}.bak {file}" in (caught.value.problems[0].fix or "")
    shutil.copy(f"{file}.bak", file)
    assert project.stack.up().ok


def test_a_lost_passphrase_is_never_replaced_by_a_new_one(project: Project) -> None:
    project.want({})
    project.stack.up()
    environment.passphrase_file().unlink()
    with pytest.raises(ProblemError, match="is gone"):
        project.stack.up()
    assert not environment.passphrase_file().exists()


def test_a_missing_provider_plugin_names_the_fix(project: Project) -> None:
    project.want({"a": {}})
    (project.root / "bin").rename(project.root / "gone")
    with pytest.raises(ProblemError, match="make setup"):
        project.stack.up()
