"""A data plane that only remembers what it was told, and fails when a test wants it to."""

from __future__ import annotations

import contextlib
import errno
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from l4lb.engine import BACKEND_STATS, POOL_STATS, WORKER_STATS
from l4lb.engine.api import (
    BackendSummary,
    CloseReason,
    EngineOptions,
    PoolSpec,
    SessionRecord,
    SlotKind,
    Snapshot,
    StickyEntry,
)
from l4lb.engine.statistics import (
    NO_HISTOGRAM,
    BackendStatistics,
    Histogram,
    ListenerStatistics,
    PoolStatistics,
    Stat,
    StatKind,
    WorkerStatistics,
)

SlotKey = tuple[SlotKind, int]


def zeros(table: Iterable[Stat], histogram: Histogram = NO_HISTOGRAM, **values: object) -> dict[str, Any]:
    """Values for every statistic of a table: `values`, else zero."""
    return {stat.attribute: histogram if stat.kind is StatKind.HISTOGRAM else 0 for stat in table} | values


@dataclass(frozen=True)
class FakeTable:
    """What it was compiled from."""

    networks: bytes
    numbers: bytes | None = None


@dataclass
class FakeEngine:
    """Satisfies `l4lb.engine.api.Engine`. Close it: it holds a descriptor, as the real one does.

    Pools that it `refuses` are not taken.

    A slot listed in `in_use` is not given back, as while a session has it. `retired` is what `reclaim` answers.
    """

    options: EngineOptions = field(default_factory=EngineOptions)
    slots: set[SlotKey] = field(default_factory=set)
    in_use: set[SlotKey] = field(default_factory=set)
    slots_left: int = 1_000_000
    publish_error: Exception | None = None
    refuses: Callable[[PoolSpec], bool] = lambda _pool: False
    retired: int = 0
    snapshots: list[Snapshot] = field(default_factory=list)
    records: list[SessionRecord] = field(default_factory=list)
    events: list[SessionRecord] = field(default_factory=list)
    killed_backends: list[int] = field(default_factory=list)
    close_reasons: list[tuple[int, CloseReason]] = field(default_factory=list)
    kill_error: Exception | None = None
    draining: dict[int, bool] = field(default_factory=dict)
    spreads: dict[int, int] = field(default_factory=dict)
    client_spreads: list[int] = field(default_factory=list)
    cold: dict[int, int] = field(default_factory=dict)
    closed_idle: list[tuple[int, int, int]] = field(default_factory=list)
    compiled: int = 0
    killed_sessions: list[int] = field(default_factory=list)
    connections_total: Counter[int] = field(default_factory=Counter)
    sticky: defaultdict[int, list[StickyEntry]] = field(default_factory=lambda: defaultdict(list))
    summary: dict[int, BackendSummary] = field(default_factory=dict)
    running: bool = False
    closed: bool = False
    _next: int = 0

    def __post_init__(self) -> None:
        self._event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    @property
    def snapshot(self) -> Snapshot:
        """The one that runs."""
        return self.snapshots[-1]

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def close(self) -> None:
        if not self.closed:
            os.close(self._event_fd)
        self.closed = True

    def take_slot(self, kind: SlotKind) -> int:
        if self.slots_left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.slots_left -= 1
        self._next += 1
        self.slots.add((kind, self._next))
        return self._next

    def give_slot(self, kind: SlotKind, slot: int) -> bool:
        if (kind, slot) in self.in_use:
            return False
        self.slots.remove((kind, slot))
        self.slots_left += 1
        return True

    def publish(self, snapshot: Snapshot) -> None:
        if self.publish_error is not None:
            raise self.publish_error
        for pool in snapshot.pools:
            self.check_pool(pool)
        self.snapshots.append(snapshot)

    def check_pool(self, pool: PoolSpec) -> None:
        if self.refuses(pool):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def compile_networks(self, networks: bytes, numbers: bytes | None = None) -> FakeTable:
        self.compiled += 1
        return FakeTable(networks, numbers)

    def reclaim(self) -> int:
        return self.retired

    def backend_statistics(self, slot: int) -> BackendStatistics:
        values = zeros(BACKEND_STATS, connections_total=self.connections_total[slot])
        return BackendStatistics(responses_total={}, **values)

    def summaries(self, slots: Sequence[int]) -> list[BackendSummary]:
        return [self.summary.get(slot, BackendSummary()) for slot in slots]

    def listener_statistics(self, slot: int) -> ListenerStatistics:
        return ListenerStatistics(connections=0, connections_total=self.connections_total[slot])

    def pool_statistics(self, slot: int) -> PoolStatistics:
        return PoolStatistics(sticky=None, closed_total={}, pinned_total={}, **zeros(POOL_STATS))

    def worker_statistics(self, worker: int) -> WorkerStatistics:
        return WorkerStatistics(**zeros(WORKER_STATS, sessions=len(self.records) if worker == 0 else 0))

    def sticky_read(self, pool: int, after: int = 0, limit: int = 1024) -> tuple[list[StickyEntry], int]:
        entries = self.sticky[pool][after : after + limit]
        return entries, after + len(entries)

    def sticky_write(self, pool: int, entries: Sequence[StickyEntry]) -> int:
        self.sticky[pool] += entries
        return len(entries)

    def sessions(self, worker: int, after: int = 0, limit: int = 1024) -> list[SessionRecord]:
        records = [
            record for record in self.records if record.id > after and record.id % self.options.workers == worker
        ]
        return sorted(records, key=lambda record: record.id)[:limit]

    def kill_session(self, session: int) -> bool:
        found = any(record.id == session for record in self.records)
        self.killed_sessions.append(session)
        return found

    def kill_backend(self, slot: int, reason: CloseReason) -> int:
        if self.kill_error is not None:
            raise self.kill_error
        self.close_reasons.append((slot, reason))
        self.killed_backends.append(slot)
        return 1

    def set_draining(self, slots: Sequence[int], draining: bool, spread_ms: int = 0) -> int:
        self.draining |= dict.fromkeys(slots, draining)
        self.spreads |= dict.fromkeys(slots, spread_ms)
        return 0

    def drain_clients(self, spread_ms: int) -> None:
        self.client_spreads.append(spread_ms)

    def set_cold(self, slots: Sequence[int], responses: int) -> None:
        self.cold |= dict.fromkeys(slots, responses)

    def close_idle(self, slot: int, limit: int, idle_ms: int) -> int:
        self.closed_idle.append((slot, limit, idle_ms))
        return limit

    @property
    def event_fd(self) -> int:
        return self._event_fd

    def take_events(self, limit: int = 4096) -> list[SessionRecord]:
        taken, self.events = self.events[:limit], self.events[limit:]
        if not self.events:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._event_fd)
        return taken

    def happen(self, *events: SessionRecord) -> None:
        """Let session events wait, as if workers had reported them."""
        self.events += events
        os.eventfd_write(self._event_fd, 1)
