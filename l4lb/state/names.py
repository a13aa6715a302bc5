"""Names of slots. The data plane reports slots, logs and tables need names, also of what was just removed."""

from __future__ import annotations

from l4lb.engine.api import SessionRecord, SlotKind
from l4lb.state.state import State
from l4lb.status import Session


class Names:
    """Knows the name of every slot that a session or an event may still mention."""

    def __init__(self) -> None:
        self._names: dict[tuple[SlotKind, int], str] = {}

    def learn(self, state: State) -> None:
        for name, listener in state.listeners.items():
            self._names[SlotKind.LISTENER, listener.slot] = name
        for name, pool in state.pools.items():
            self._names[SlotKind.POOL, pool.slot] = name
        for (_, name), backend in state.backends():
            self._names[SlotKind.BACKEND, backend.slot] = name

    def forget(self, kind: SlotKind, slot: int) -> None:
        self._names.pop((kind, slot), None)

    def of(self, kind: SlotKind, slot: int) -> str:
        return self._names.get((kind, slot), "")

    def session(self, record: SessionRecord) -> Session:
        return Session(
            record=record,
            listener=self.of(SlotKind.LISTENER, record.listener),
            pool=self.of(SlotKind.POOL, record.pool),
            backend=None if record.backend is None else self.of(SlotKind.BACKEND, record.backend),
        )
