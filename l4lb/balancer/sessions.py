"""Lists and closes sessions and delivers their events, with names in place of slots."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from l4lb.balancer.events import EventPump
from l4lb.base.threads import ThreadPool
from l4lb.engine.api import CloseReason, Engine, SessionRecord
from l4lb.errors import ControlError
from l4lb.state.names import Names
from l4lb.state.removals import SlotKey
from l4lb.state.state import State
from l4lb.status import Session

ID_MAX = 2**64 - 1
LISTING_BATCH = 1024


class Sessions:
    """`on_events` gets the sessions that the access log asks for."""

    def __init__(self, engine: Engine, threads: ThreadPool, on_events: Callable[[list[Session]], None]) -> None:
        self._engine = engine
        self._threads = threads
        self._on_events = on_events
        self._names = Names()
        self._pump = EventPump(engine, self._deliver)

    async def all(self) -> list[Session]:
        return [self._names.session(record) for record in await self._threads.call(self._records)]

    def _records(self) -> list[SessionRecord]:
        records: list[SessionRecord] = []
        for worker in range(self._engine.options.workers):
            after = 0
            while batch := self._engine.sessions(worker, after, LISTING_BATCH):
                records += batch
                after = batch[-1].id
        return records

    async def kill(self, session: int) -> None:
        """ControlError if it is not there."""
        known = 0 <= session <= ID_MAX and await self._threads.call(self._engine.kill_session, session)
        if not known:
            # Turning a huge number into text takes quadratic time.
            named = session if abs(session) <= ID_MAX else "with so large a number"
            raise ControlError(f"there is no session {named}; `l4lb sessions` lists those there are", 404)

    async def kill_of(self, slot: int) -> int:
        """Close the sessions of a backend; how many."""
        return await self._threads.call(self._engine.kill_backend, slot, CloseReason.KILLED)

    def _deliver(self, records: list[SessionRecord]) -> None:
        self._on_events([self._names.session(record) for record in records])

    def learn(self, state: State) -> None:
        """From now on sessions may be at the slots of this state."""
        self._names.learn(state)

    def forget(self, slots: Iterable[SlotKey]) -> None:
        """Forget the names of these slots: deliver their last events first, no session is there any more."""
        self._pump.drain()
        for kind, slot in slots:
            self._names.forget(kind, slot)

    def drain(self) -> None:
        """Deliver all events that are in the rings now."""
        self._pump.drain()

    def close(self) -> None:
        """From now on only `drain` delivers events."""
        self._pump.close()
