"""Names of slots. The data plane reports slots, logs and tables need names, also of what was just removed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from l4lb.engine.api import EventKind, SessionRecord, SessionState, SlotKind
from l4lb.state.state import State
from l4lb.status import Session

_WITHOUT_BACKEND = frozenset({SessionState.KEPT, SessionState.QUEUE})
"""A session in these states has no backend connection, though it may have had one for an earlier request."""


class _Name(NamedTuple):
    text: str
    since: float


class Names:
    """Knows the name of every slot that a session or an event may still mention. The clock is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._names: dict[tuple[SlotKind, int], _Name] = {}

    def learn(self, state: State) -> None:
        now = self._clock()
        for name, listener in state.listeners.items():
            self._names.setdefault((SlotKind.LISTENER, listener.slot), _Name(name, now))
        for name, pool in state.pools.items():
            self._names.setdefault((SlotKind.POOL, pool.slot), _Name(name, now))
        for (_, name), backend in state.backends():
            self._names.setdefault((SlotKind.BACKEND, backend.slot), _Name(name, now))

    def forget(self, kind: SlotKind, slot: int) -> None:
        self._names.pop((kind, slot), None)

    def of(self, kind: SlotKind, slot: int) -> str:
        found = self._names.get((kind, slot))
        return "" if found is None else found.text

    def session(self, record: SessionRecord) -> Session:
        return Session(
            record=record,
            listener=self.of(SlotKind.LISTENER, record.listener),
            pool=self.of(SlotKind.POOL, record.pool),
            backend=self._backend(record),
        )

    def _backend(self, record: SessionRecord) -> str | None:
        """The backend of a session. None if it has none now, or if the last one it had is gone."""
        if record.backend is None or (record.state in _WITHOUT_BACKEND and record.event is not EventKind.CLOSE):
            return None
        found = self._names.get((SlotKind.BACKEND, record.backend))
        # A session without a backend connection does not hold the slot of its last one, which another may have by now.
        return None if found is None or found.since > self._clock() - record.idle else found.text
