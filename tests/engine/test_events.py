"""Session events leave the data plane in batches of the size that is asked for, and none is left behind."""

from __future__ import annotations

import select
import socket
from contextlib import closing

from l4lb.engine import NativeEngine
from l4lb.engine.api import BackendSpec, EngineOptions, EventKind, ListenerSpec, PoolSpec, SlotKind, Snapshot
from tests.helpers.peers import Served, ask, listen, named
from tests.helpers.waiting import wait_until

SESSIONS = 300
"""More than the data plane copies at once."""


def test_no_more_events_come_than_asked_for_and_the_rest_is_announced() -> None:
    with Served(named("b")) as backend, closing(listen()) as sock, closing(NativeEngine(EngineOptions())) as engine:
        sock.setblocking(False)
        pool, slot = engine.take_slot(SlotKind.POOL), engine.take_slot(SlotKind.BACKEND)
        spec = BackendSpec(slot=slot, name="b", family=socket.AF_INET, address=backend.address)
        listener = ListenerSpec(slot=engine.take_slot(SlotKind.LISTENER), pool=0, fds=[[sock.fileno()]])
        engine.publish(
            Snapshot(listeners=[listener], pools=[PoolSpec(slot=pool, backends=[spec])], events=EventKind.CLOSE)
        )
        engine.start()
        address = sock.getsockname()
        for _ in range(SESSIONS):
            ask(address)
        wait_until(lambda: sum(engine.pool_statistics(pool).closed_total.values()) == SESSIONS)
        taken = 0
        for limit in (1, 0, 257, 10, SESSIONS):
            assert select.select([engine.event_fd], [], [], 0)[0]
            events = engine.take_events(limit)
            assert len(events) == min(limit, SESSIONS - taken)
            taken += len(events)
        assert not select.select([engine.event_fd], [], [], 0)[0]
