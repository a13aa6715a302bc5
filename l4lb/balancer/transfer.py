"""Collects what a balancer knows for its successor, and restores what its predecessor knew."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Mapping

from l4lb.balancer.cold_starts import ColdStarts
from l4lb.balancer.outliers import Outliers
from l4lb.balancer.planner import Planner
from l4lb.balancer.store import Reason, StateStore
from l4lb.engine.api import Engine
from l4lb.handover import restore, sticky_batches
from l4lb.handover.records import BackendRecord, HandoverData, StickyBatch
from l4lb.health.scheduler import Scheduler
from l4lb.state.failback import Seat
from l4lb.state.state import BackendKey, State


class Transfer:
    """`data` is what a predecessor knew when this process began. Its backends and seats count once, for the first
    state."""

    def __init__(
        self,
        engine: Engine,
        store: StateStore,
        planner: Planner,
        scheduler: Scheduler[BackendKey],
        outliers: Outliers,
        cold_starts: ColdStarts,
        data: HandoverData,
    ) -> None:
        self._engine = engine
        self._store = store
        self._planner = planner
        self._scheduler = scheduler
        self._outliers = outliers
        self._cold_starts = cold_starts
        self._backends = data.backends
        self._seats = data.seats

    # ---- from a predecessor ----------------------------------------------------------------------------------------

    def restore(self, state: State, now: float) -> State:
        """The first state, with what a predecessor knew."""
        state = restore.seats(restore.backends(state, self._backends, now), self._seats)
        self._scheduler.restore(restore.checks(state, self._backends, now))
        self._outliers.restore(restore.tracks(state, self._backends, now))
        self._cold_starts.resume(restore.cold(state, self._backends))
        self._backends = {}
        return state

    def restore_clients(self, batches: list[StickyBatch]) -> None:
        """Let sticky pools remember these clients; `batches` is empty then."""
        while batches:
            batch = batches.pop()
            pool = self._store.state.pools.get(batch.pool)
            if pool is not None and pool.config.sticky is not None:
                slots = {name: one.slot for name, one in pool.backends.items()}
                sticky_batches.write(self._engine, pool.slot, batch, slots)

    def restore_operator(self, backends: Mapping[BackendKey, BackendRecord]) -> None:
        """Repeat what an operator did to a predecessor's backends after it had exported them."""
        self._store.replace(restore.operator_changes(self._store.state, backends), Reason.HANDOVER)

    def restore_seats(self, seats: Mapping[str, Seat]) -> None:
        """Stay at the tiers at which a predecessor's pools were when it let go."""
        self._store.change(restore.seats(self._store.state, seats), Reason.HANDOVER)

    # ---- for a successor -------------------------------------------------------------------------------------------

    def export(self) -> HandoverData:
        """The edits, what sources found, and where names lead."""
        config = self._store.config
        if config is None:
            return HandoverData()
        endpoints, targets = self._planner.known(config)
        return HandoverData(edits=self._store.edits, endpoints=endpoints, targets=targets)

    def export_backends(self, exported: State) -> Iterator[BackendRecord]:
        """What is known of backends, one by one, so that the loop may do other things in between. Backends that no
        operator has touched since they were `exported` are left out."""
        now, state = asyncio.get_running_loop().time(), self._store.state
        before = dict(exported.backends())
        for key, entry in state.backends():
            known = before.get(key)
            if known is not None and (known.state, known.weight) == (entry.state, entry.weight):
                continue
            watch = self._scheduler.watch(key)
            checked = None if watch is None else (watch.health, watch.message)
            record = restore.export(key, entry, state.pools[key[0]], checked, self._outliers.track(key), now)
            (cold,) = self._cold_starts.left([entry.slot])
            yield record.model_copy(update={"cold": cold})

    def export_clients(self, since: float = math.inf) -> Iterator[StickyBatch]:
        """The clients of sticky pools that came in the last `since` seconds, some at a time."""
        for name, pool in self._store.state.pools.items():
            if pool.config.sticky is not None:
                names = {backend.slot: key for key, backend in pool.backends.items()}
                yield from sticky_batches.read(self._engine, name, pool.slot, names, pool.config.sticky.ttl - since)
