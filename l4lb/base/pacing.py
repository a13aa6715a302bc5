"""Loops that poll a server or a file. However a round ends, the next one does not start too early.

A loop is `async for _ in rounds(…)`. The body may succeed, start over with `continue`, or handle an error: the time
until the next round is decided here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Self

RESTART_MIN = 0.5
RESTART_MAX = 30.0
"""Seconds between the starts of two rounds if rounds end at once: at first, and after many such rounds."""

SPREAD = (1.0, 1.5)
"""Each pause is multiplied by a random factor in this range, so that many balancers do not poll in step."""


class Rounds:
    """See `rounds`. It holds no resource, so leaving the loop early is safe; a generator would need to be closed."""

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
    """Rounds that start at least `least` seconds apart. While rounds are short, the distance grows up to `most`; a
    round that lasts `most` seconds resets it."""
    return Rounds(least, most, spread)


def every(interval: float, jitter: float) -> AsyncIterator[None]:
    """Rounds that start every `interval` seconds, varied at random by the share `jitter`."""
    return rounds(interval, interval, (1 - jitter, 1 + jitter))
