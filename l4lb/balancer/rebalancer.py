"""Evens out the connections of pools. `state.rebalance` decides when, and how many connections move."""

from __future__ import annotations

import asyncio
import random

from l4lb.balancer.store import StateStore
from l4lb.base.tasks import repeat
from l4lb.base.threads import ThreadPool
from l4lb.engine.api import Engine
from l4lb.state.rebalance import Effort, Share, allot, begun, evens_out, gained, is_uneven, surplus, watched
from l4lb.state.state import PoolEntry, State

REBALANCE_INTERVAL = 0.25
"""Seconds between two rounds."""

WATCH_INTERVAL = 1.0
"""Seconds between two looks at a pool whose connections are not moved now."""


class Rebalancer:
    """`active` while there is a pool with `rebalance`."""

    def __init__(self, engine: Engine, store: StateStore, threads: ThreadPool) -> None:
        self._engine = engine
        self._threads = threads
        self._store = store
        self._efforts: dict[str, Effort] = {}
        self._looked_at: dict[str, float] = {}
        self._dice = random.Random()
        self.active = asyncio.Event()

    def note_gains(self, before: State, after: State) -> None:
        """Rebalance the pools in which a backend has a larger share than before, and watch the others."""
        now = asyncio.get_running_loop().time()
        self._efforts |= dict.fromkeys(gained(before, after), begun(now))
        if any(pool.rebalance is not None for pool in after.pools.values()):
            self.active.set()

    async def run(self) -> None:
        await repeat("rebalancing", REBALANCE_INTERVAL, self.round)

    async def round(self) -> None:
        """Wait until a pool wants it, and close a few idle connections of backends that have too many."""
        await self.active.wait()
        pools = [name for name, pool in self._store.state.pools.items() if pool.rebalance is not None]
        self._efforts = {name: self._efforts.get(name, Effort()) for name in pools}
        self._looked_at = {name: self._looked_at.get(name, 0.0) for name in pools}
        if not pools:
            self.active.clear()
        for name in pools:
            # It may have changed while the pool before waited for a worker.
            pool = self._store.state.pools.get(name)
            if pool is not None and pool.rebalance is not None and not pool.panic:
                await self._even_out(name, pool)

    async def _even_out(self, name: str, pool: PoolEntry) -> None:
        now, settings = asyncio.get_running_loop().time(), pool.rebalance
        effort = self._efforts[name]
        if settings is None or not (effort.is_on(now) or self._is_due(name, pool, now)):
            return
        self._looked_at[name] = now
        groups = self._groups(pool)
        if evens_out(pool):
            connections = sum(share.connections for shares in groups for share in shares.values())
            effort = watched(effort, uneven=is_uneven(groups), connections=connections, now=now)
        self._efforts[name] = effort
        if not effort.is_on(now):
            return
        surpluses = {backend: count for shares in groups for backend, count in surplus(shares).items()}
        closed, idle_ms = 0, round(settings.quiet * 1000)
        for backend, count in allot(surpluses, settings, REBALANCE_INTERVAL, self._dice).items():
            closed += await self._threads.call(self._engine.close_idle, pool.backends[backend].slot, count, idle_ms)
        self._efforts[name] = self._efforts[name].spent(closed)

    def _is_due(self, name: str, pool: PoolEntry, now: float) -> bool:
        return evens_out(pool) and now - self._looked_at[name] >= WATCH_INTERVAL

    def _groups(self, pool: PoolEntry) -> list[dict[str, Share]]:
        """The shares of backends, by tier and zone."""
        weights, names = pool.steady_weights(), list(pool.backends)
        summaries = self._engine.summaries([pool.backends[name].slot for name in names])
        shares = {
            name: Share(summary.connections, weights[name]) for name, summary in zip(names, summaries, strict=True)
        }
        return [{name: shares[name] for name in group} for group in pool.groups().values()]
