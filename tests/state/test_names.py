"""Names for slots, also of what has just left."""

from __future__ import annotations

import pytest

from l4lb.engine.api import EventKind, SessionState, SlotKind
from l4lb.state.names import Names
from tests.helpers.build import config, merged, record, slots_of

A, B = "127.0.0.1:9001", "127.0.0.1:9002"


def test_session_has_the_names_of_its_slots() -> None:
    state = merged(config(A, B))
    names = Names()
    names.learn(state)
    one = record(
        listener=state.listeners["web"].slot, pool=state.pools["app"].slot, backend=state.pools["app"].backends[B].slot
    )
    session = names.session(one)
    assert (session.listener, session.pool, session.backend) == ("web", "app", B)
    assert session.record is one


def test_session_that_reached_no_backend_names_none() -> None:
    assert Names().session(record(backend=None)).backend is None


@pytest.mark.parametrize("event", [None, EventKind.INTERVAL, EventKind.CLOSE])
@pytest.mark.parametrize("state", [SessionState.KEPT, SessionState.QUEUE])
def test_a_session_that_has_no_backend_now_names_its_last_one_when_it_ends(
    event: EventKind | None, state: SessionState
) -> None:
    known = merged(config(A))
    names = Names()
    names.learn(known)
    session = record(state=state, event=event, backend=known.pools["app"].backends[A].slot)
    assert names.session(session).backend == (A if event is EventKind.CLOSE else None)


def test_a_session_does_not_name_a_backend_that_has_the_slot_of_its_last_one() -> None:
    now = 100.0
    names = Names(lambda: now)
    state = merged(config(A))
    slot = state.pools["app"].backends[A].slot
    names.learn(state)
    now = 110.0
    assert names.session(record(backend=slot, idle=9.0)).backend == A
    names.forget(SlotKind.BACKEND, slot)
    assert names.session(record(backend=slot, idle=9.0)).backend is None
    now = 120.0
    names.learn(merged(config(B)))
    now = 130.0
    assert names.session(record(backend=slot, idle=9.0)).backend == B
    assert names.session(record(backend=slot, idle=11.0)).backend is None


def test_a_removed_backend_keeps_its_name_until_it_is_forgotten() -> None:
    before = config(A, B)
    old, new = merged(before), merged(before, config(B))
    names = Names()
    names.learn(old)
    names.learn(new)
    slot = old.pools["app"].backends[A].slot
    assert names.of(SlotKind.BACKEND, slot) == A
    names.forget(SlotKind.BACKEND, slot)
    assert names.of(SlotKind.BACKEND, slot) == ""
    assert names.of(SlotKind.BACKEND, new.pools["app"].backends[B].slot) == B


def test_kinds_are_told_apart() -> None:
    names = Names()
    names.learn(merged(config(A)))
    names.forget(SlotKind.LISTENER, 12345)
    found = {kind: names.of(kind, slot) for kind, slot in slots_of(merged(config(A)))}
    assert found == {SlotKind.LISTENER: "web", SlotKind.POOL: "app", SlotKind.BACKEND: A}
