"""Rebalances pools for a while after a backend gained a share. `state.rebalance` decides how many connections move."""

from __future__ import annotations

import asyncio
import random

from l4lb.balancer.store import StateStore
from l4lb.base.tasks import repeat
from l4lb.base.threads import ThreadPool
from l4lb.engine.api import Engine
from l4lb.state.rebalance import WINDOW, Share, allot, gained, surplus
from l4lb.state.state import State

REBALANCE_INTERVAL = 0.25
"""Seconds between two rounds."""


class Rebalancer:
    """`active` while there is a pool to rebalance."""

    def __init__(self, engine: Engine, store: StateStore, threads: ThreadPool) -> None:
        self._engine = engine
        self._threads = threads
        self._store = store
        self._until: dict[str, float] = {}
        self._dice = random.Random()
        self.active = asyncio.Event()

    def note_gains(self, before: State, after: State) -> None:
        """Rebalance the pools in which a backend has a larger share than before."""
        until = asyncio.get_running_loop().time() + WINDOW
        for pool in gained(before, after):
            self._until[pool] = until
            self.active.set()

    async def run(self) -> None:
        await repeat("rebalancing", REBALANCE_INTERVAL, self.round)

    async def round(self) -> None:
        """Wait for a reason, and close a few idle connections of backends that have too many."""
        await self.active.wait()
        now = asyncio.get_running_loop().time()
        for pool_name, until in list(self._until.items()):
            # It may have changed while the pool before waited for a worker.
            pool = self._store.state.pools.get(pool_name)
            if pool is None or pool.config.rebalance is None or pool.panic or now >= until:
                del self._until[pool_name]
                continue
            weights = pool.steady_weights()
            shares = {
                name: Share(self._engine.backend_statistics(backend.slot).connections, weights[name])
                for name, backend in pool.backends.items()
            }
            surpluses: dict[str, int] = {}
            for names in pool.groups().values():
                surpluses |= surplus({name: shares[name] for name in names})
            idle_ms = round(pool.config.rebalance.quiet * 1000)
            for name, count in allot(surpluses, pool.config.rebalance, REBALANCE_INTERVAL, self._dice).items():
                await self._threads.call(self._engine.close_idle, pool.backends[name].slot, count, idle_ms)
        if not self._until:
            self.active.clear()
