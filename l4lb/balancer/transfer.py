"""What a balancer knows, gathered from its parts for its successor; what its predecessor knew, given to them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

from l4lb.balancer.outliers import Outliers
from l4lb.balancer.planner import Planner
from l4lb.config import Config
from l4lb.engine.api import Engine
from l4lb.handover import restore, sticky_batches
from l4lb.handover.records import BackendRecord, HandoverData, StickyBatch
from l4lb.health.scheduler import Scheduler
from l4lb.state.backend_entry import BackendEntry
from l4lb.state.edits import Edits
from l4lb.state.failback import Seat
from l4lb.state.state import BackendKey, State


class Transfer:
    """`told` is what a predecessor knew of its backends, `seats` where its pools stayed. They count once, for the first
    state."""

    def __init__(
        self,
        engine: Engine,
        planner: Planner,
        scheduler: Scheduler[BackendKey],
        outliers: Outliers,
        told: dict[BackendKey, BackendRecord],
        seats: Mapping[str, Seat],
    ) -> None:
        self._engine = engine
        self._planner = planner
        self._scheduler = scheduler
        self._outliers = outliers
        self._told = told
        self._seats = seats

    def restore(self, state: State, now: float) -> State:
        """The first state, with what a predecessor knew."""
        state = restore.seats(restore.backends(state, self._told, now), self._seats)
        self._scheduler.restore(restore.checks(state, self._told, now))
        self._outliers.restore(restore.tracks(state, self._told, now))
        self._told = {}
        return state

    def restore_clients(self, state: State, batches: list[StickyBatch]) -> None:
        """Let sticky pools remember these; `batches` is empty then."""
        while batches:
            batch = batches.pop()
            pool = state.pools.get(batch.pool)
            if pool is not None and pool.config.sticky is not None:
                slots = {name: one.slot for name, one in pool.backends.items()}
                sticky_batches.write(self._engine, pool.slot, batch, slots)

    def export(self, config: Config, edits: Edits) -> HandoverData:
        """What was edited, what sources found, and where names lead."""
        endpoints, targets = self._planner.known(config)
        return HandoverData(edits=edits, endpoints=endpoints, targets=targets)

    def export_backends(self, state: State, told: Mapping[BackendKey, BackendEntry]) -> Iterator[BackendRecord]:
        """What is known of backends, but for those that are treated as when they were `told` of."""
        now = asyncio.get_running_loop().time()
        for key, entry in state.backends():
            before = told.get(key)
            if before is not None and (before.state, before.weight) == (entry.state, entry.weight):
                continue
            watch = self._scheduler.watch(key)
            checked = None if watch is None else (watch.health, watch.message)
            yield restore.export(key, entry, state.pools[key[0]], checked, self._outliers.track(key), now)

    def export_clients(self, state: State, since: float) -> Iterator[StickyBatch]:
        """The clients of sticky pools who came in the last `since` seconds, some at a time."""
        for name, pool in state.pools.items():
            if pool.config.sticky is not None:
                names = {backend.slot: key for key, backend in pool.backends.items()}
                yield from sticky_batches.read(self._engine, name, pool.slot, names, pool.config.sticky.ttl - since)
