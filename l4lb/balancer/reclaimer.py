"""Releases what was removed from the configuration: sessions, slots and sockets. Drains idle sessions too.

The owner reports changes of the state, calls `reclaim` regularly while `dirty` is set, and `close_sockets` as often as
it likes while `unused` is set.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

from l4lb.balancer.sessions import Sessions
from l4lb.base.text import plural
from l4lb.base.threads import ThreadPool
from l4lb.engine.api import Ending, Engine, SlotKind
from l4lb.sockets.bind import BindKey, bind_key
from l4lb.sockets.listeners import Sockets
from l4lb.state.removals import Removal, SlotKey, removals
from l4lb.state.state import BackendKey, ListenerEntry, State

_log = logging.getLogger(__name__)


class Reclaimer:
    """`dirty` while a session or a worker may still use what is not there any more; `unused` while a socket is open
    that no listener has."""

    def __init__(self, engine: Engine, threads: ThreadPool, sockets: Sockets, sessions: Sessions) -> None:
        self._engine = engine
        self._threads = threads
        self._sockets = sockets
        self._sessions = sessions
        self._removals: dict[SlotKey, Removal] = {}
        self._deadlines: dict[SlotKey, float] = {}
        self._draining: dict[int, float | None] = {}
        """Slots of backends and the seconds over which their quiet sessions are to leave; None is to stay."""
        self._drain_all = False
        self.dirty = asyncio.Event()
        self.unused = asyncio.Event()

    @property
    def removed_slots(self) -> list[int]:
        """The slots of backends that have sessions, perhaps, and are in no configuration."""
        return [slot for kind, slot in self._removals if kind is SlotKind.BACKEND]

    def retire(self, before: State, after: State, now: float) -> None:
        """See off what `after` does not have."""
        for departure in removals(before, after):
            key = (departure.kind, departure.slot)
            self._removals[key] = departure
            if departure.closes_idle:
                self._draining[departure.slot] = departure.spread
            if departure.timeout is not None:
                self._deadlines[key] = now + departure.timeout

    def note_draining(self, before: State, after: State, keys: Iterable[BackendKey]) -> None:
        """Remember for which of these backends it has changed whether quiet sessions are to leave."""
        if self._drain_all:
            return
        for key in keys:
            known, closing, backend = before.closing_idle(key), after.closing_idle(key), after.find(key)
            if backend is not None and known is not None and closing is not None and known is not closing:
                self._draining[backend.slot] = after.pools[key[0]].config.drain_spread if closing else None

    def drain_all(self, state: State) -> None:
        """From now on the quiet sessions of all backends leave, but where the pool keeps them."""
        self._drain_all = True
        pools = [pool for pool in state.pools.values() if pool.closes_idle]
        self._draining |= {
            backend.slot: pool.config.drain_spread for pool in pools for backend in pool.backends.values()
        }
        self.dirty.set()

    def note_sockets(self, listeners: Mapping[str, ListenerEntry]) -> None:
        """These listeners are all there are."""
        if unused := self._not_of(listeners):
            self._sockets.shrink_queues(unused)
            self.unused.set()

    def close_sockets(self, listeners: Mapping[str, ListenerEntry]) -> None:
        """Close the sockets that are not of these listeners, if no worker uses them any more."""
        if self._engine.reclaim() == 0:
            self._sockets.close(self._not_of(listeners))
            self.unused.clear()

    def _not_of(self, listeners: Mapping[str, ListenerEntry]) -> list[BindKey]:
        wanted = {bind_key(name, address) for name, listener in listeners.items() for address in listener.config.bind}
        return [key for key in self._sockets.binds if key not in wanted]

    async def reclaim(self) -> None:
        """Let go of what no session and no worker uses any more; end the sessions whose timeout is over. One round of
        it."""
        # What changes while this waits for a worker is for the next round.
        self.dirty.clear()
        clean = False
        try:
            settled = self._engine.reclaim() == 0
            await self._drain()
            self._release_slots()
            await self._enforce_timeouts()
            clean = settled and not self._removals and not self._draining
        finally:
            if not clean:
                self.dirty.set()

    async def _drain(self) -> None:
        """Have quiet sessions leave backends that are drained or gone, and stay at the others."""
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
            # First of all: the slot may soon be somebody else's, and must not be given back once more.
            self._deadlines.pop(key, None)
            _log.debug("%s has left", self._removals.pop(key).label)
        if given:
            # The last sessions may just have ended: their events still need the names.
            self._sessions.forget(given)

    async def _enforce_timeouts(self) -> None:
        now = asyncio.get_running_loop().time()
        for key in [key for key, deadline in self._deadlines.items() if deadline <= now]:
            killed = await self._threads.call(self._engine.kill_backend, key[1], Ending.DRAINED)
            del self._deadlines[key]
            if killed:
                label = self._removals[key].label
                _log.warning("%s: closed, as they outlived drain_timeout: %s", label, plural(killed, "session"))
