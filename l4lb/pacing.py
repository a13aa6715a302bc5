"""Loops that ask a server, or look at a file, again and again: no way to end a round makes the next one come sooner.

A loop is `async for _ in rounds(…)`. Whether its body succeeds, is told to begin anew, or fails and handles that, the
time to the next round is decided here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

RESTART_MIN = 0.5
RESTART_MAX = 30.0
"""Seconds from one beginning of a watch to the next, if watches end at once: at first, and in the end."""

SPREAD = (1.0, 1.5)
"""Each pause is drawn from this many times what it should be, so that many balancers do not come back in step."""


async def rounds(
    least: float = RESTART_MIN, most: float = RESTART_MAX, spread: tuple[float, float] = SPREAD
) -> AsyncIterator[None]:
    """Rounds that begin at least `least` seconds one after the other, and ever later, up to `most`, if they are short.

    One that lasts for `most` seconds ends that.
    """
    loop, pause = asyncio.get_running_loop(), least
    while True:
        begun = loop.time()
        yield
        lasted = loop.time() - begun
        await asyncio.sleep(max(0.0, pause * random.uniform(*spread) - lasted))
        pause = least if lasted >= most else min(2 * pause, most)


def every(interval: float, jitter: float) -> AsyncIterator[None]:
    """Rounds that begin every `interval` seconds, give or take this share of it."""
    return rounds(interval, interval, (1 - jitter, 1 + jitter))
