"""Closes the sessions that `on_down` and `on_up` give up, once the data plane sends no more to their backends."""

from __future__ import annotations

import asyncio
import logging

from l4lb.balancer.store import StateStore
from l4lb.base.tasks import repeat
from l4lb.base.text import plural
from l4lb.base.threads import ThreadPool
from l4lb.engine.api import CloseReason, Engine
from l4lb.state.cuts import Cut, cuts
from l4lb.state.state import State

CUT_INTERVAL = 0.02
CUT_RETRY = 1.0
"""Seconds between two rounds, and at most between two after failures."""

_REASONS = {
    CloseReason.BACKEND_DOWN: "it is down (on_down: close)",
    CloseReason.BETTER_UP: "a better one is up (on_up: close_lower)",
}

_log = logging.getLogger(__name__)


class Cutter:
    """`active` while there are sessions to close."""

    def __init__(self, engine: Engine, store: StateStore, threads: ThreadPool) -> None:
        self._engine = engine
        self._threads = threads
        self._store = store
        self._passed_on = State()
        self._waiting: dict[int, Cut] = {}
        self.active = asyncio.Event()

    def note(self, passed_on: State) -> None:
        """The data plane runs this state from now on: sessions that it gives up can be closed."""
        for cut in cuts(self._passed_on, passed_on):
            self._waiting[cut.slot] = cut
        self._passed_on = passed_on
        if self._waiting:
            self.active.set()

    async def run(self) -> None:
        await repeat("closing of sessions", CUT_INTERVAL, self.round, longest=CUT_RETRY)

    async def round(self) -> None:
        """Wait until there are sessions to close, and close them. What fails is kept for the next round."""
        await self.active.wait()
        while self._waiting:
            cut = next(iter(self._waiting.values()))
            # The backend may have been removed while another one waited for a worker.
            entry = self._store.state.find(cut.key)
            if entry is not None and entry.slot == cut.slot:
                await self._close(cut)
            if self._waiting.get(cut.slot) is cut:
                del self._waiting[cut.slot]
        self.active.clear()

    async def _close(self, cut: Cut) -> None:
        closed = await self._threads.call(self._engine.kill_backend, cut.slot, cut.reason)
        if closed:
            _log.warning("%s/%s: %s closed, as %s", *cut.key, plural(closed, "session"), _REASONS[cut.reason])
