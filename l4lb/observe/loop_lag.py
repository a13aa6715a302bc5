"""How late the event loop is: a timer on it, and a histogram of how much later than due it fires.

While one callback runs, or code on another thread keeps the interpreter for itself, nothing else of the control plane
does: no check, no answer, no signal. The histogram shows how long that lasts. Sessions go on meanwhile.
"""

from __future__ import annotations

import asyncio
import bisect
import time

from l4lb.engine.statistics import Histogram

INTERVAL = 0.05
"""Seconds between two samples: what holds the loop for longer is always seen."""

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class LoopLag:
    """Samples for as long as `run` does, on its loop."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0

    @property
    def histogram(self) -> Histogram:
        return Histogram(BOUNDS, tuple(self._counts), self._sum)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            # Not by the loop's own clock, which stands still while a callback runs.
            due = time.monotonic() + INTERVAL
            await asyncio.sleep(INTERVAL)
            late = max(0.0, time.monotonic() - due)
            self._counts[bisect.bisect_left(BOUNDS, late)] += 1
            self._sum += late
