"""Loops that ask a server, or look at a file, again and again: no way to end a round makes the next one come sooner.

A loop is `async for _ in rounds(…)`. Whether its body succeeds, is told to begin anew, or fails and handles that, the
time to the next round is decided here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Self

RESTART_MIN = 0.5
RESTART_MAX = 30.0
"""Seconds from one beginning of a watch to the next, if watches end at once: at first, and in the end."""

SPREAD = (1.0, 1.5)
"""Each pause is drawn from this many times what it should be, so that many balancers do not come back in step."""


class Rounds:
    """See `rounds`. It holds nothing, so leaving a loop early leaves nothing behind, as a generator would."""

    def __init__(self, least: float, most: float, spread: tuple[float, float]) -> None:
        self._least, self._most, self._spread = least, most, spread
        self._pause = least
        self._begun: float | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> None:
        loop = asyncio.get_running_loop()
        if self._begun is not None:
            lasted = loop.time() - self._begun
            await asyncio.sleep(max(0.0, self._pause * random.uniform(*self._spread) - lasted))
            self._pause = self._least if lasted >= self._most else min(2 * self._pause, self._most)
        self._begun = loop.time()


def rounds(
    least: float = RESTART_MIN, most: float = RESTART_MAX, spread: tuple[float, float] = SPREAD
) -> AsyncIterator[None]:
    """Rounds that begin at least `least` seconds one after the other, and ever later, up to `most`, if they are short.

    One that lasts for `most` seconds ends that.
    """
    return Rounds(least, most, spread)


def every(interval: float, jitter: float) -> AsyncIterator[None]:
    """Rounds that begin every `interval` seconds, give or take this share of it."""
    return rounds(interval, interval, (1 - jitter, 1 + jitter))
