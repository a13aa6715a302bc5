"""Closes the sessions that `on_down` and `on_up` give up, once the data plane sends no more to their backends.

Its owner tells it of each state that the data plane was given, and calls `round` while it is `active`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from l4lb.base.text import plural
from l4lb.base.threads import ThreadPool
from l4lb.engine.api import Ending, Engine
from l4lb.state.cuts import Cut, cuts
from l4lb.state.state import State

_REASONS = {
    Ending.BACKEND_DOWN: "it is down (on_down: close)",
    Ending.BETTER_UP: "a better one is up (on_up: close_lower)",
}

_log = logging.getLogger(__name__)


class Cutter:
    """`state` gives the state of the moment: a backend may leave it while another one waits for a worker."""

    def __init__(self, engine: Engine, threads: ThreadPool, state: Callable[[], State]) -> None:
        self._engine = engine
        self._threads = threads
        self._state = state
        self._passed_on = State()
        self._waiting: dict[int, Cut] = {}
        self.active = asyncio.Event()

    def note(self, passed_on: State) -> None:
        """The data plane knows this state: what it says of sessions can be done."""
        for cut in cuts(self._passed_on, passed_on):
            self._waiting[cut.slot] = cut
        self._passed_on = passed_on
        if self._waiting:
            self.active.set()

    async def round(self) -> None:
        """Do all that waits. What fails is kept for the next round."""
        while self._waiting:
            cut = next(iter(self._waiting.values()))
            entry = self._state().find(cut.key)
            if entry is not None and entry.slot == cut.slot:
                await self._close(cut)
            if self._waiting.get(cut.slot) is cut:
                del self._waiting[cut.slot]
        self.active.clear()

    async def _close(self, cut: Cut) -> None:
        closed = await self._threads.call(self._engine.kill_backend, cut.slot, cut.ending)
        if closed:
            _log.warning("%s/%s: %s closed, as %s", *cut.key, plural(closed, "session"), _REASONS[cut.ending])
