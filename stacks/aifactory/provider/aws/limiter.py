"""How often each API action may be asked: the account's token buckets, kept on our side.

The cloud counts per account, region and action. All threads of a process share one bucket an action here, begun below
the published refill; every refusal halves its rate, every second without one gives a little back (AIMD), so that
several processes on one account settle beside each other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from aifactory import catalog

SHARE = 0.9
"""Of the published refill and size: another process, or the console, wants some too."""
LEAST = 0.1
"""Of the published refill: never slower."""
GIVE_BACK = 0.05
"""Of the published refill, for each second without a refusal."""
HALF_LIFE_S = 1.0
"""A second refusal within this time is the same event."""


@dataclass
class _Bucket:
    size: float
    refill: float
    rate: float
    tokens: float
    at: float
    refused_at: float = -1e9


class Limiter:
    """One cloud's buckets. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._buckets: dict[str, _Bucket] = {}

    def take(self, action: str, count: int = 1) -> float:
        """Takes `count` tokens, on credit where there are none; seconds to wait before the call is made."""
        with self._mutex:
            bucket = self._bucket(action)
            bucket.tokens -= count
            return max(0.0, -bucket.tokens / bucket.rate)

    def refused(self, action: str) -> None:
        """The cloud said that it was asked too often: half as fast from now on."""
        with self._mutex:
            bucket = self._bucket(action)
            now = self._clock()
            if now - bucket.refused_at >= HALF_LIFE_S:
                bucket.rate = max(bucket.refill * LEAST, bucket.rate / 2)
                bucket.refused_at = now
            bucket.tokens = min(bucket.tokens, 0.0)

    def _bucket(self, action: str) -> _Bucket:
        now = self._clock()
        if action not in self._buckets:
            limit = catalog.api_limit(action)
            full = max(1.0, limit.size * SHARE)
            self._buckets[action] = _Bucket(full, limit.refill_per_s, limit.refill_per_s * SHARE, full, now)
        bucket = self._buckets[action]
        passed = now - bucket.at
        bucket.tokens = min(bucket.size, bucket.tokens + passed * bucket.rate)
        quiet = min(passed, now - bucket.refused_at)
        bucket.rate = min(bucket.refill * SHARE, bucket.rate + max(0.0, quiet) * GIVE_BACK * bucket.refill)
        bucket.at = now
        return bucket
