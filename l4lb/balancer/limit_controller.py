"""Keeps `max_busy: auto` in step with what backends report of themselves. `load.busy_limit` decides."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from l4lb.balancer.store import Reason, StateStore
from l4lb.base.tasks import repeat
from l4lb.load.busy_limit import LimitTrack, Look, limits, observe, resumed
from l4lb.load.exposition import Readings
from l4lb.net.target import Target
from l4lb.state.backend_entry import BackendEntry
from l4lb.state.state import BackendKey, State

LIMITS_INTERVAL = 1.0
"""Seconds between two changes of limits, those of all backends together."""


@dataclass(slots=True)
class _Learning:
    """What is known of the server at `target`."""

    target: Target | None
    track: LimitTrack


class LimitController:
    """Belongs to the event loop. `dirty` after a backend has reported."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._pools: dict[str, dict[str, _Learning]] = {}
        self.dirty = asyncio.Event()

    def apply(self, state: State) -> None:
        """Learn the limits of the backends of this state from now on."""
        before, self._pools = self._pools, {}
        for (pool, name), entry in state.backends():
            if entry.learns_max_busy:
                known = before.get(pool, {}).get(name)
                if known is None or known.target != entry.target:
                    learnt = entry.learnt_max_busy
                    known = _Learning(entry.target, LimitTrack() if learnt is None else resumed(learnt))
                self._pools.setdefault(pool, {})[name] = known

    def note(self, key: BackendKey, readings: Readings) -> None:
        """Learn from what a backend reported."""
        learning, entry = self._pools.get(key[0], {}).get(key[1]), self._store.state.find(key)
        if learning is None or entry is None or not {"running", "queue"} <= readings.keys():
            return
        look = Look(running=int(readings["running"]), waiting=int(readings["queue"]))
        learning.track = observe(learning.track, look, entry.learnt_max_busy)
        self.dirty.set()

    async def run(self) -> None:
        await repeat("limits", LIMITS_INTERVAL, self.round)

    async def round(self) -> None:
        """Wait until a backend has reported, and put the limits into force that have changed."""
        await self.dirty.wait()
        self.dirty.clear()
        state, changed = self._store.state, dict[BackendKey, BackendEntry]()
        for pool, learnings in self._pools.items():
            for name, limit in limits({name: one.track for name, one in learnings.items()}).items():
                entry = state.find((pool, name))
                if entry is not None and entry.learnt_max_busy != limit:
                    changed[(pool, name)] = replace(entry, learnt_max_busy=limit)
        self._store.replace(changed, Reason.LIMIT)

    def explain(self, key: BackendKey, entry: BackendEntry) -> str | None:
        """Why the limit is what it is; None if it is the file's."""
        if not entry.learns_max_busy:
            return None
        learning = self._pools.get(key[0], {}).get(key[1])
        if learning is not None and (batch := learning.track.batch) is not None:
            return f"learnt: {batch} run at once"
        most = "not known yet, so the largest of the pool"
        return "not known yet: no request has waited in the server" if entry.learnt_max_busy is None else most
