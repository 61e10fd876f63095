"""The journal on a real file system, with real locks between threads and processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from aifactory import paths
from aifactory.provider import journal as journal_module
from aifactory.provider.journal import Journal
from aifactory.provider.resource import Cancelled, Refused, TimedOut

from tests.provider.harness import context

REGION, TOKEN = "t-journal", "abc123"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path))
    return tmp_path / "journals" / REGION


def test_new_journal_is_empty_and_writes_nothing(home: Path) -> None:
    journal = Journal(REGION, TOKEN)
    assert (journal.nonce, journal.data, journal.exists) == ("", {}, False)
    assert not home.exists()


def test_new_nonce_is_on_disk_before_it_returns_and_differs_each_time() -> None:
    journal = Journal(REGION, TOKEN)
    first = journal.new_nonce()
    assert Journal(REGION, TOKEN).nonce == first
    assert journal.new_nonce() != first


def test_save_keeps_data_and_the_file_is_private(home: Path) -> None:
    journal = Journal(REGION, TOKEN)
    journal.data["n0"] = {"id": "c0"}
    journal.save()
    assert Journal(REGION, TOKEN).data == {"n0": {"id": "c0"}}
    assert (home / f"{TOKEN}.json").stat().st_mode & 0o077 == 0


def test_save_that_fails_leaves_the_old_journal_whole(home: Path) -> None:
    journal = Journal(REGION, TOKEN)
    nonce = journal.new_nonce()
    journal.data["x"] = object()
    with pytest.raises(TypeError):
        journal.save()
    assert Journal(REGION, TOKEN).nonce == nonce
    assert [p.name for p in home.iterdir()] == [f"{TOKEN}.json"]


def test_owns_is_false_only_for_another_nonce() -> None:
    journal = Journal(REGION, TOKEN)
    assert journal.owns("old")
    nonce = journal.new_nonce()
    assert journal.owns(nonce)
    assert not journal.owns("old")


def test_remove_twice_leaves_nothing(home: Path) -> None:
    journal = Journal(REGION, TOKEN)
    with journal.held(context()):
        journal.new_nonce()
        journal.remove()
        journal.remove()
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"nonce": "x"}', '{"nonce": "x", "data": 3}'])
def test_damaged_journal_is_refused_with_its_path(home: Path, text: str) -> None:
    home.mkdir(parents=True)
    (home / f"{TOKEN}.json").write_text(text)
    with pytest.raises(Refused, match=str(home)):
        Journal(REGION, TOKEN)


@pytest.mark.parametrize("token", ["", "../x", "a/b", "x" * 65])
def test_token_that_is_no_file_name_is_a_bug(token: str) -> None:
    with pytest.raises(ValueError, match="not a token"):
        Journal(REGION, token)


def test_held_keeps_another_thread_out_until_it_is_done() -> None:
    order: list[str] = []
    inside, go = threading.Event(), threading.Event()

    def first() -> None:
        with Journal(REGION, TOKEN).held(context()) as journal:
            inside.set()
            go.wait(5)
            order.append("first")
            journal.new_nonce()

    def second() -> None:
        with Journal(REGION, TOKEN).held(context()) as journal:
            order.append("second")
            assert journal.exists

    one = threading.Thread(target=first)
    one.start()
    inside.wait(5)
    two = threading.Thread(target=second)
    two.start()
    go.set()
    one.join(5)
    two.join(5)
    assert order == ["first", "second"]


def test_held_hears_cancel_and_deadline_while_it_waits() -> None:
    cancel = threading.Event()
    cancel.set()
    with Journal(REGION, TOKEN).held(context()):
        with pytest.raises(Cancelled), Journal(REGION, TOKEN).held(context(cancel=cancel)):
            pass
        with pytest.raises(TimedOut), Journal(REGION, TOKEN).held(context(timeout_s=0.01)):
            pass


def test_held_gives_up_with_plain_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "LOCK_PATIENCE_S", 0.0)
    with (
        Journal(REGION, TOKEN).held(context()),
        pytest.raises(Refused, match="another run is working on it"),
        Journal(REGION, TOKEN).held(context()),
    ):
        pass


def test_a_killed_process_lets_go_and_leaves_a_whole_journal(home: Path) -> None:
    script = (
        "from aifactory.provider.journal import Journal\n"
        "from tests.provider.harness import context\n"
        "import time\n"
        f"with Journal({REGION!r}, {TOKEN!r}).held(context()) as journal:\n"
        "    journal.new_nonce()\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=paths.REPO)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    child.kill()
    child.wait(5)
    with Journal(REGION, TOKEN).held(context()) as journal:
        assert journal.nonce == json.loads((home / f"{TOKEN}.json").read_text())["nonce"]
