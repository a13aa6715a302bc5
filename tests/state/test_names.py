"""Names for slots, also of what has just left."""

from __future__ import annotations

from l4lb.engine.api import SlotKind
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
