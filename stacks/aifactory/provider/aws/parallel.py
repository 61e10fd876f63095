"""The same thing for many, several at once, and still done soon after a cancel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, NamedTuple, TypeVar

from aifactory.provider.resource import Cancelled, Context

GRACE_S = 20.0
"""How long calls in flight may still end after a cancel. A call is given up after 29 s by itself (clients.py)."""
LOOK_S = 0.5

Item = TypeVar("Item")
Result = TypeVar("Result")


class Done(NamedTuple, Generic[Item, Result]):
    """What became of one item: its result, or why there is none."""

    item: Item
    result: Result | None
    error: Exception | None


def each(
    ctx: Context, items: Iterable[Item], act: Callable[[Item], Result], *, workers: int
) -> list[Done[Item, Result]]:
    """Runs `act` on all items, begun in their order. Raises Cancelled or TimedOut once every call in flight has ended,
    or GRACE_S later: what an abandoned call does then is nobody's to see, so `act` writes down first what it begins.
    """
    items = list(items)
    pool = ThreadPoolExecutor(max_workers=max(1, min(workers, len(items))))
    futures = [pool.submit(act, item) for item in items]
    try:
        stopped = _ended(ctx, futures)
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown(wait=False, cancel_futures=True)
    if stopped is not None:
        raise stopped
    return [_done(item, future) for item, future in zip(items, futures, strict=True)]


def _done(item: Item, future: Future[Result]) -> Done[Item, Result]:
    try:
        return Done(item, future.result(), None)
    except Cancelled:
        raise
    except Exception as error:
        return Done(item, None, error)


def _ended(ctx: Context, futures: list[Future[Result]]) -> Cancelled | None:
    """Waits for all; after a cancel for those only that have begun, and not for ever."""
    stopped, end = None, 0.0
    pending = set(futures)
    while pending:
        pending = wait(pending, timeout=LOOK_S).not_done
        if stopped is None and pending:
            try:
                ctx.check_cancelled()
            except Cancelled as error:
                stopped, end = error, time.monotonic() + GRACE_S
                pending = {future for future in pending if not future.cancel()}
        elif stopped is not None and time.monotonic() > end:
            break
    return stopped
