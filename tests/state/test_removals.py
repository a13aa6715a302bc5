"""What leaves the configuration, and how patient one is with its sessions."""

from __future__ import annotations

from l4lb.config import Config
from l4lb.engine.api import SlotKind
from l4lb.state.removals import Removal, removals
from l4lb.state.state import State
from tests.helpers.build import config, merged, slots_of

A, B = "127.0.0.1:9001", "127.0.0.1:9002"


def states(before: Config, after: Config) -> tuple[State, State]:
    return merged(before), merged(before, after)


def test_nothing_departs_when_nothing_is_gone() -> None:
    old, new = states(config(A, B), config(B, A, pool={"retries": 0}, listener={"max_connections": 3}))
    assert list(removals(old, new)) == []


def test_backend_that_left_departs_with_the_patience_of_the_pool_its_sessions_knew() -> None:
    old, new = states(config(A, B, pool={"drain_timeout": 30}), config(B, pool={"drain_timeout": 1}))
    slot = old.pools["app"].backends[A].slot
    assert list(removals(old, new)) == [Removal(SlotKind.BACKEND, slot, f"app/{A}", 30.0, closes_idle=True)]


def test_patience_can_be_endless() -> None:
    old, new = states(config(A, B, pool={"drain_timeout": "off"}), config(B))
    assert [departure.timeout for departure in removals(old, new)] == [None]


def test_pool_takes_its_own_backends_with_it_and_no_others() -> None:
    before = config(
        listeners={"x": {"bind": "127.0.0.1:81", "pool": "one"}, "y": {"bind": "127.0.0.1:82", "pool": "two"}},
        pools={"one": {"backends": [A]}, "two": {"backends": [A, B]}},
    )
    after = config(
        listeners={"x": {"bind": "127.0.0.1:81", "pool": "one"}},
        pools={"one": {"backends": [A]}},
    )
    old, new = states(before, after)
    gone = list(removals(old, new))
    assert [(one.kind, one.label) for one in gone] == [
        (SlotKind.LISTENER, "y"),
        (SlotKind.POOL, "two"),
        (SlotKind.BACKEND, f"two/{A}"),
        (SlotKind.BACKEND, f"two/{B}"),
    ]
    assert {(one.kind, one.slot) for one in gone} == slots_of(old) - slots_of(new)
