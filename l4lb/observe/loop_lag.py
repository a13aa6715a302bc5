"""Measures how late the event loop is: a histogram of how long after its due time a timer fires.

While one callback runs, or another thread holds the interpreter, the rest of the control plane stands still: checks,
responses of the admin server, signals. The histogram shows for how long. Sessions are not affected.
"""

from __future__ import annotations

import asyncio
import bisect
import time

from l4lb.engine.statistics import Histogram

INTERVAL = 0.05
"""Seconds between two samples. A longer delay of the loop is never missed."""

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class LoopLag:
    """Takes samples on the loop of `run` while that runs."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0

    @property
    def histogram(self) -> Histogram:
        return Histogram(BOUNDS, tuple(self._counts), self._sum)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            # The loop's own clock stands still while a callback runs.
            due = time.monotonic() + INTERVAL
            await asyncio.sleep(INTERVAL)
            late = max(0.0, time.monotonic() - due)
            self._counts[bisect.bisect_left(BOUNDS, late)] += 1
            self._sum += late
