"""Releases what was removed from the configuration, sessions and slots, and drains idle sessions of other backends."""

from __future__ import annotations

import asyncio
import logging

from l4lb.balancer.sessions import Sessions
from l4lb.balancer.store import Change, Reason
from l4lb.base.tasks import repeat
from l4lb.base.text import plural
from l4lb.base.threads import ThreadPool
from l4lb.engine.api import CloseReason, Engine, SlotKind
from l4lb.state.removals import Removal, SlotKey, removals
from l4lb.state.state import State

RECLAIM_INTERVAL = 0.25
"""Seconds between two rounds."""

_log = logging.getLogger(__name__)


class Reclaimer:
    """`dirty` while a session or a worker may still use what was removed, or idle sessions are to be drained."""

    def __init__(self, engine: Engine, threads: ThreadPool, sessions: Sessions) -> None:
        self._engine = engine
        self._threads = threads
        self._sessions = sessions
        self._removals: dict[SlotKey, Removal] = {}
        self._deadlines: dict[SlotKey, float] = {}
        self._draining: dict[int, float | None] = {}
        """By slot of a backend: the seconds over which its idle sessions are closed; None ends that."""
        self._drain_all = False
        self._client_spread: float | None = None
        """The seconds over which followed sessions are to close; None if that is not wanted, or is done."""
        self.dirty = asyncio.Event()

    @property
    def removed_slots(self) -> list[int]:
        """The slots of removed backends that may still have sessions."""
        return [slot for kind, slot in self._removals if kind is SlotKind.BACKEND]

    def follow(self, change: Change) -> None:
        """Retire what was removed, and drain the backends that an operator or a source takes out."""
        if change.is_install():
            self._retire(change.before, change.after)
        # Load and slow start drain nothing, but change thousands of backends four times a second.
        if change.reason is not Reason.WEIGHT and not self._drain_all:
            self._note_draining(change)

    def _retire(self, before: State, after: State) -> None:
        now = asyncio.get_running_loop().time()
        for removal in removals(before, after):
            key = (removal.kind, removal.slot)
            self._removals[key] = removal
            if removal.closes_idle:
                self._draining[removal.slot] = removal.spread
            if removal.timeout is not None:
                self._deadlines[key] = now + removal.timeout

    def _note_draining(self, change: Change) -> None:
        before, after = change.before, change.after
        for key in change.backends:
            known, closing, backend = before.closing_idle(key), after.closing_idle(key), after.find(key)
            if backend is not None and known is not None and closing is not None and known is not closing:
                self._draining[backend.slot] = after.pools[key[0]].config.drain_spread if closing else None

    def drain_all(self, state: State) -> None:
        """From now on close the idle sessions of all backends, except in pools with `drain_quiet: keep`.

        A followed session stays when its backend is drained. So these sessions are closed between two requests, in all
        pools over the longest `drain_spread`.
        """
        self._drain_all = True
        pools = [pool for pool in state.pools.values() if pool.closes_idle]
        self._client_spread = max((pool.config.drain_spread for pool in pools), default=None)
        self._draining |= {
            backend.slot: pool.config.drain_spread for pool in pools for backend in pool.backends.values()
        }
        self.dirty.set()

    async def run(self) -> None:
        await repeat("reclaiming", RECLAIM_INTERVAL, self.round)

    async def round(self) -> None:
        """Wait until there is something to release. Release what no session and no worker uses any more, and close the
        sessions whose timeout is over."""
        await self.dirty.wait()
        # A change during this round, while it waits for a worker, starts the next one.
        self.dirty.clear()
        clean = False
        try:
            settled = self._engine.reclaim() == 0
            await self._drain_clients()
            await self._drain()
            self._release_slots()
            await self._enforce_timeouts()
            clean = settled and not self._removals and not self._draining and self._client_spread is None
        finally:
            if not clean:
                self.dirty.set()

    async def _drain_clients(self) -> None:
        """Close followed sessions between two requests. A drain of their backends would only detach them."""
        if self._client_spread is not None:
            await self._threads.call(self._engine.drain_clients, round(self._client_spread * 1000))
            self._client_spread = None

    async def _drain(self) -> None:
        """Close the idle sessions of backends that are drained or removed; let the others keep theirs."""
        while self._draining:
            spread = next(iter(self._draining.values()))
            slots = [slot for slot, wanted in self._draining.items() if wanted == spread]
            for slot in slots:
                del self._draining[slot]
            try:
                spread_ms = round((spread or 0.0) * 1000)
                await self._threads.call(self._engine.set_draining, slots, spread is not None, spread_ms)
            except BaseException:
                self._draining = {**dict.fromkeys(slots, spread), **self._draining}
                raise

    def _release_slots(self) -> None:
        given = [key for key in self._removals if self._engine.give_slot(*key)]
        for key in given:
            # Before anything else: the slot may soon be used again, and must not be given back twice.
            self._deadlines.pop(key, None)
            _log.debug("%s: slot released", self._removals.pop(key).label)
        if given:
            # The last sessions may just have ended: their events, not delivered yet, need the names.
            self._sessions.forget(given)

    async def _enforce_timeouts(self) -> None:
        now = asyncio.get_running_loop().time()
        for key in [key for key, deadline in self._deadlines.items() if deadline <= now]:
            killed = await self._threads.call(self._engine.kill_backend, key[1], CloseReason.DRAINED)
            del self._deadlines[key]
            if killed:
                label = self._removals[key].label
                _log.warning("%s: drain_timeout is over, closed %s", label, plural(killed, "session"))
