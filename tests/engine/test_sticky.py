"""What a pool remembers of its clients goes out of one data plane and into another."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from ipaddress import ip_address

import pytest

from l4lb.engine import NativeEngine
from l4lb.engine.api import BackendSpec, EngineOptions, ListenerSpec, PoolSpec, SlotKind, Snapshot, StickyEntry
from l4lb.engine.statistics import StickyStatistics
from tests.helpers.peers import Served, ask, listen, named

TTL_MS = 60_000


class World:
    """An engine with one pool of two backends that say their names, and one listener."""

    def __init__(self, stack: ExitStack) -> None:
        self.engine = NativeEngine(EngineOptions(workers=1))
        stack.callback(self.engine.close)
        self.pool = self.engine.take_slot(SlotKind.POOL)
        self.backends = [self.engine.take_slot(SlotKind.BACKEND) for _ in range(2)]
        served = [stack.enter_context(Served(named(f"b{number}"))) for number in range(2)]
        sock = stack.enter_context(closing(listen()))
        sock.setblocking(False)
        self.address = sock.getsockname()
        self._listener = ListenerSpec(slot=self.engine.take_slot(SlotKind.LISTENER), pool=0, fds=((sock.fileno(),),))
        self._spec = PoolSpec(
            slot=self.pool,
            sticky_entries=1000,
            sticky_ttl_ms=TTL_MS,
            backends=[
                BackendSpec(slot=slot, name=f"b{number}", family=socket.AF_INET, address=one.address)
                for number, (slot, one) in enumerate(zip(self.backends, served, strict=True))
            ],
        )
        self.publish()
        self.engine.start()
        stack.callback(self.engine.stop)

    def publish(self, **changes: object) -> None:
        self._spec = replace(self._spec, **changes)  # type: ignore[arg-type]
        self.engine.publish(Snapshot(listeners=(self._listener,), pools=(self._spec,)))

    def read(self, limit: int) -> list[StickyEntry]:
        entries, after = self.engine.sticky_read(self.pool, limit=limit)
        found = list(entries)
        while entries:
            entries, after = self.engine.sticky_read(self.pool, after, limit)
            assert len(entries) <= limit
            found += entries
        return found


@pytest.fixture
def worlds() -> Iterator[tuple[World, World]]:
    with ExitStack() as stack:
        yield World(stack), World(stack)


def key(address: str) -> bytes:
    packed = ip_address(address).packed
    return packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed


def test_clients_go_on_where_another_process_left_them(worlds: tuple[World, World]) -> None:
    old, new = worlds
    sources = [f"127.0.6.{number}" for number in range(1, 21)]
    names = {source: ask(old.address, source=source) for source in sources}
    assert set(names.values()) == {"b0", "b1"}
    entries = old.read(limit=7)
    assert {entry.key: entry.backend for entry in entries} == {
        key(source): old.backends[int(name[1])] for source, name in names.items()
    }
    assert all(0 < entry.left <= TTL_MS / 1000 for entry in entries)
    moved = [replace(entry, backend=new.backends[old.backends.index(entry.backend)]) for entry in entries]
    assert new.engine.sticky_write(new.pool, moved) == 20
    assert new.engine.sticky_write(new.pool, moved) == 0
    assert {source: ask(new.address, source=source) for source in sources[::-1]} == names
    assert new.engine.pool_statistics(new.pool).sticky == StickyStatistics(
        entries=20, hits_total=20, misses_total=0, moved_total=0, passed_total=0
    )


def test_what_is_left_of_the_time_is_kept_and_nothing_is_nothing(worlds: tuple[World, World]) -> None:
    world, _ = worlds
    slot = world.backends[0]
    entries = [StickyEntry(key=key(f"2001:db8::{left}"), backend=slot, left=left) for left in (0, 30, 600)]
    assert world.engine.sticky_write(world.pool, entries) == 2
    found = {entry.key: entry.left for entry in world.read(limit=10)}
    assert found.keys() == {key("2001:db8::30"), key("2001:db8::600")}
    assert 0 < found[key("2001:db8::30")] <= 30
    assert 30 < found[key("2001:db8::600")] <= TTL_MS / 1000


def test_what_is_no_entry_is_refused(worlds: tuple[World, World]) -> None:
    world, _ = worlds
    good = StickyEntry(key=key("192.0.2.1"), backend=world.backends[0], left=1.0)
    with pytest.raises(ValueError, match="a key has 16 bytes, not 4"):
        world.engine.sticky_write(world.pool, [good, replace(good, key=b"1234")])
    with pytest.raises(ValueError, match="slot"):
        world.engine.sticky_write(world.pool, [good, replace(good, backend=60_000)])
    assert world.read(limit=10) == []


def test_a_pool_that_is_not_sticky_has_nothing_to_read(worlds: tuple[World, World]) -> None:
    world, _ = worlds
    world.publish(sticky_entries=0)
    assert world.engine.pool_statistics(world.pool).sticky is None
    with pytest.raises(FileNotFoundError):
        world.engine.sticky_read(world.pool)
    with pytest.raises(FileNotFoundError):
        world.engine.sticky_write(world.pool, [])
