"""Several things at once, and still done soon after a cancel. Real: threads and a context of the harness."""

from __future__ import annotations

import threading
import time

import pytest
from aifactory.provider.aws import parallel
from aifactory.provider.resource import Cancelled

from tests.provider.contract import Killed
from tests.provider.harness import context


def test_results_come_in_the_order_of_the_items_and_errors_beside_them() -> None:
    def act(item: int) -> int:
        time.sleep(0.02 / item)
        if item == 3:
            raise ValueError("three")
        return item * 2

    done = parallel.each(context(), [1, 2, 3, 4], act, workers=4)
    assert [(one.item, one.result) for one in done] == [(1, 2), (2, 4), (3, None), (4, 8)]
    assert [type(one.error) for one in done] == [type(None), type(None), ValueError, type(None)]
    assert parallel.each(context(), [], act, workers=4) == []


def test_no_more_than_the_workers_at_a_time_and_begun_in_order() -> None:
    mutex, now, most, begun = threading.Lock(), 0, 0, []

    def act(item: int) -> None:
        nonlocal now, most
        with mutex:
            now, most = now + 1, max(most, now + 1)
            begun.append(item)
        time.sleep(0.01)
        with mutex:
            now -= 1

    parallel.each(context(), range(12), act, workers=3)
    assert most == 3
    assert begun == sorted(begun)


def test_cancel_begins_nothing_more_and_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "GRACE_S", 0.2)
    monkeypatch.setattr(parallel, "LOOK_S", 0.05)
    cancel, stuck, begun = threading.Event(), threading.Event(), []

    def act(item: int) -> None:
        begun.append(item)
        cancel.set()
        stuck.wait(20)

    before = time.monotonic()
    with pytest.raises(Cancelled):
        parallel.each(context(cancel=cancel), range(5), act, workers=1)
    stuck.set()
    assert time.monotonic() - before < 5
    assert begun == [0]


def test_cancel_waits_for_the_calls_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "LOOK_S", 0.05)
    cancel, ended = threading.Event(), []

    def act(item: int) -> None:
        cancel.set()
        time.sleep(0.3)
        ended.append(item)

    with pytest.raises(Cancelled):
        parallel.each(context(cancel=cancel), [1, 2, 3], act, workers=1)
    assert ended == [1], "what has begun is waited for, so that its answer is written down"


def test_what_kills_one_is_no_error_of_its_item() -> None:
    def act(item: int) -> None:
        raise Killed

    with pytest.raises(Killed):
        parallel.each(context(), [1], act, workers=1)
