"""Keeps backends cold that have just become usable: the data plane gives them few turns until they have responded."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from l4lb.balancer.store import StateStore
from l4lb.engine.api import Engine

COLD_MAX = 60.0
"""Seconds after which a backend is warm in any case: where responses take minutes, a few of them take too long."""


class ColdStarts:
    """Belongs to the event loop. The data plane counts the responses; a timer ends what takes too long."""

    def __init__(self, engine: Engine, store: StateStore) -> None:
        self._engine = engine
        self._store = store
        self._timers: dict[int, asyncio.TimerHandle] = {}
        """By slot of a backend."""

    def begin(self, slots: Collection[int], responses: int) -> None:
        """These backends are cold until they have given so many responses."""
        if slots:
            self._engine.set_cold(list(slots), responses)
        for slot in slots:
            self._stop(slot)
            self._timers[slot] = asyncio.get_running_loop().call_later(COLD_MAX, self._end, slot)

    def resume(self, left: Mapping[int, int]) -> None:
        """The backends of these slots are cold for as many responses as are left."""
        for slot, responses in left.items():
            self.begin([slot], responses)

    def left(self, slots: Collection[int]) -> list[int]:
        """The responses that each of these backends has to give until it is warm."""
        return [summary.cold_left for summary in self._engine.summaries(list(slots))]

    def close(self) -> None:
        """Leave everything as it is. Idempotent."""
        for slot in list(self._timers):
            self._stop(slot)

    def _end(self, slot: int) -> None:
        self._stop(slot)
        if any(entry.slot == slot for _, entry in self._store.state.backends()):
            self._engine.set_cold([slot], 0)

    def _stop(self, slot: int) -> None:
        if (timer := self._timers.pop(slot, None)) is not None:
            timer.cancel()
