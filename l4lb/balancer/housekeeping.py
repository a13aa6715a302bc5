"""Sees off what has left the configuration: its sessions, its slots, its sockets, and the quiet sessions of drained
backends.

Whoever owns it tells it of changes, calls `tidy` regularly while it is `untidy`, and `close_sockets` as often as may be
while there are `unused` ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

from l4lb.balancer.sessions import Sessions
from l4lb.base.text import counted
from l4lb.base.threads import Threads
from l4lb.engine.api import Ending, Engine, SlotKind
from l4lb.sockets.bind import BindKey, bind_key
from l4lb.sockets.listeners import Sockets
from l4lb.state.departures import Departure, SlotKey, departures
from l4lb.state.state import BackendKey, ListenerEntry, State

_log = logging.getLogger(__name__)


class Housekeeping:
    """`untidy` while a session or a worker may still use what is not there any more; `unused` while a socket is open
    that no listener has."""

    def __init__(self, engine: Engine, threads: Threads, sockets: Sockets, sessions: Sessions) -> None:
        self._engine = engine
        self._threads = threads
        self._sockets = sockets
        self._sessions = sessions
        self._departures: dict[SlotKey, Departure] = {}
        self._deadlines: dict[SlotKey, float] = {}
        self._leaving: dict[int, float | None] = {}
        """Slots of backends and the seconds over which their quiet sessions are to leave; None is to stay."""
        self._all_leave = False
        self.untidy = asyncio.Event()
        self.unused = asyncio.Event()

    @property
    def departing(self) -> list[int]:
        """The slots of backends that have sessions, perhaps, and are in no configuration."""
        return [slot for kind, slot in self._departures if kind is SlotKind.BACKEND]

    def depart(self, before: State, after: State, now: float) -> None:
        """See off what `after` does not have."""
        for departure in departures(before, after):
            key = (departure.kind, departure.slot)
            self._departures[key] = departure
            if departure.closes_quiet:
                self._leaving[departure.slot] = departure.spread
            if departure.patience is not None:
                self._deadlines[key] = now + departure.patience

    def note_leaving(self, before: State, after: State, keys: Iterable[BackendKey]) -> None:
        """Remember for which of these backends it has changed whether quiet sessions are to leave."""
        if self._all_leave:
            return
        for key in keys:
            known, closing, backend = before.closing_quiet(key), after.closing_quiet(key), after.find(key)
            if backend is not None and known is not None and closing is not None and known is not closing:
                self._leaving[backend.slot] = after.pools[key[0]].config.drain_spread if closing else None

    def see_off(self, state: State) -> None:
        """From now on the quiet sessions of all backends leave, but where the pool keeps them."""
        self._all_leave = True
        pools = [pool for pool in state.pools.values() if pool.closes_quiet]
        self._leaving |= {
            backend.slot: pool.config.drain_spread for pool in pools for backend in pool.backends.values()
        }
        self.untidy.set()

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

    async def tidy(self) -> None:
        """Let go of what no session and no worker uses any more; end the sessions whose patience is over. One round of
        it."""
        # What changes while this waits for a worker is for the next round.
        self.untidy.clear()
        tidy = False
        try:
            settled = self._engine.reclaim() == 0
            await self._leave()
            self._give_slots()
            await self._end_patience()
            tidy = settled and not self._departures and not self._leaving
        finally:
            if not tidy:
                self.untidy.set()

    async def _leave(self) -> None:
        """Have quiet sessions leave backends that are drained or gone, and stay at the others."""
        while self._leaving:
            spread = next(iter(self._leaving.values()))
            slots = [slot for slot, wanted in self._leaving.items() if wanted == spread]
            for slot in slots:
                del self._leaving[slot]
            try:
                spread_ms = round((spread or 0.0) * 1000)
                await self._threads.call(self._engine.set_draining, slots, spread is not None, spread_ms)
            except BaseException:
                self._leaving = {**dict.fromkeys(slots, spread), **self._leaving}
                raise

    def _give_slots(self) -> None:
        given = [key for key in self._departures if self._engine.give_slot(*key)]
        for key in given:
            # First of all: the slot may soon be somebody else's, and must not be given back once more.
            self._deadlines.pop(key, None)
            _log.debug("%s has left", self._departures.pop(key).label)
        if given:
            # The last sessions may just have ended: their events still need the names.
            self._sessions.forget(given)

    async def _end_patience(self) -> None:
        now = asyncio.get_running_loop().time()
        for key in [key for key, deadline in self._deadlines.items() if deadline <= now]:
            killed = await self._threads.call(self._engine.kill_backend, key[1], Ending.DRAINED)
            del self._deadlines[key]
            if killed:
                label = self._departures[key].label
                _log.warning("%s: closed, as they outlived drain_timeout: %s", label, counted(killed, "session"))
