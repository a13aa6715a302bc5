"""Sees off what has left the configuration: its sessions, its slots, its sockets, and the quiet sessions of drained
backends.

Whoever owns it tells it of changes, and calls `tidy` regularly while it is `untidy`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

from l4lb.control.departures import Departure, SlotKey, departures
from l4lb.control.sessions import Sessions
from l4lb.control.sockets import Sockets, bind_key
from l4lb.control.state import BackendKey, ListenerEntry, State
from l4lb.engine.api import Engine, SlotKind

_log = logging.getLogger(__name__)


class Housekeeping:
    """`untidy` while a session or a worker may still use what is not there any more."""

    def __init__(self, engine: Engine, sockets: Sockets, sessions: Sessions) -> None:
        self._engine = engine
        self._sockets = sockets
        self._sessions = sessions
        self._departures: dict[SlotKey, Departure] = {}
        self._deadlines: dict[SlotKey, float] = {}
        self._leaving: dict[int, bool] = {}
        self.untidy = asyncio.Event()

    def depart(self, before: State, after: State, now: float) -> None:
        """See off what `after` does not have."""
        for departure in departures(before, after):
            key = (departure.kind, departure.slot)
            self._departures[key] = departure
            if departure.kind is SlotKind.BACKEND:
                self._leaving[departure.slot] = True
            if departure.patience is not None:
                self._deadlines[key] = now + departure.patience

    def note_leaving(self, before: State, after: State, keys: Iterable[BackendKey]) -> None:
        """Remember for which of these backends it has changed whether quiet sessions are to leave."""
        for key in keys:
            known, backend = before.find(key), after.find(key)
            if known is not None and backend is not None and known.leaving is not backend.leaving:
                self._leaving[backend.slot] = backend.leaving

    async def tidy(self, listeners: Mapping[str, ListenerEntry]) -> None:
        """Let go of what no session and no worker uses any more, and of sockets but those of `listeners`; end the
        sessions whose patience is over. One round of it."""
        # What changes while this waits for a worker is for the next round.
        self.untidy.clear()
        tidy = False
        try:
            settled = self._engine.reclaim() == 0
            if settled:
                self._close_unused_sockets(listeners)
            await self._leave()
            self._give_slots()
            await self._end_patience()
            tidy = settled and not self._departures and not self._leaving
        finally:
            if not tidy:
                self.untidy.set()

    def _close_unused_sockets(self, listeners: Mapping[str, ListenerEntry]) -> None:
        wanted = {bind_key(name, address) for name, listener in listeners.items() for address in listener.config.bind}
        self._sockets.close([key for key in self._sockets.binds if key not in wanted])

    async def _leave(self) -> None:
        """Have quiet sessions leave backends that are drained or gone, and stay at the others."""
        while self._leaving:
            slot, leaving = self._leaving.popitem()
            try:
                await asyncio.to_thread(self._engine.set_leaving, slot, leaving)
            except OSError:
                self._leaving.setdefault(slot, leaving)
                raise

    def _give_slots(self) -> None:
        given = [key for key in self._departures if self._engine.give_slot(*key)]
        if given:
            # The last sessions may just have ended: their events still need the names.
            self._sessions.forget(given)
        for key in given:
            self._deadlines.pop(key, None)
            _log.debug("%s has left", self._departures.pop(key).label)

    async def _end_patience(self) -> None:
        now = asyncio.get_running_loop().time()
        for key in [key for key, deadline in self._deadlines.items() if deadline <= now]:
            killed = await asyncio.to_thread(self._engine.kill_backend, key[1])
            del self._deadlines[key]
            if killed:
                label = self._departures[key].label
                _log.warning("%s: %d sessions outlived drain_timeout and were closed", label, killed)
