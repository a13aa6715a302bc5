"""A forked child has the memory of a data plane and none of its threads: what it does harms no session."""

from __future__ import annotations

import os
from contextlib import closing

import pytest

from l4lb.engine import NativeEngine
from l4lb.engine.api import BackendSpec, EngineOptions, ListenerSpec, PoolSpec, SlotKind, Snapshot
from tests.helpers.peers import Served, connect, echo, listen


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_stops_and_frees_it_leaves_the_sessions_of_its_parent_alone() -> None:
    engine = NativeEngine(EngineOptions(workers=1))
    with closing(engine), Served(echo) as backend, listen() as sock:
        sock.setblocking(False)
        engine.start()
        slots = {kind: engine.take_slot(kind) for kind in SlotKind}
        assert not isinstance(backend.address, str)
        spec = BackendSpec(slot=slots[SlotKind.BACKEND], name="b", family=backend.sock.family, address=backend.address)
        engine.publish(
            Snapshot(
                listeners=[ListenerSpec(slot=slots[SlotKind.LISTENER], pool=0, fds=[[sock.fileno()]])],
                pools=[PoolSpec(slot=slots[SlotKind.POOL], backends=[spec])],
            )
        )
        with connect(sock.getsockname()) as client:
            client.send(b"before")
            assert client.receive(6) == b"before"
            child = os.fork()
            if child == 0:
                engine.stop()
                engine.close()
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            client.send(b"after")
            assert client.receive(5) == b"after"
        engine.stop()
