"""Ejects backends that fail the connections of clients. `health.passive` decides what the numbers mean."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from l4lb.balancer.store import Reason, StateStore
from l4lb.base.tasks import repeat
from l4lb.config import model
from l4lb.engine.api import Engine
from l4lb.health.passive import Cause, Event, OutlierTrack, PassiveRules, decide, observe
from l4lb.health.server_errors import ServerErrorRule
from l4lb.net.target import Target
from l4lb.state.backend_entry import BackendEntry
from l4lb.state.state import BackendKey, PoolEntry, State
from l4lb.status import EjectionStatus

EVALUATE_INTERVAL = 0.25
"""Seconds between two looks."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Watched:
    """A backend under watch. Its counters belong to the slot, its track to the target."""

    slot: int
    target: Target | None
    track: OutlierTrack = field(default_factory=OutlierTrack)
    ejections_total: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(Cause, 0)))


class Outliers:
    """`active` while there is a pool with passive health."""

    def __init__(self, engine: Engine, store: StateStore) -> None:
        self._engine = engine
        self._store = store
        self._pools: dict[str, dict[str, _Watched]] = {}
        self._known: dict[BackendKey, OutlierTrack] = {}
        self._withheld: Counter[str] = Counter()
        self.active = asyncio.Event()

    def restore(self, known: Mapping[BackendKey, OutlierTrack]) -> None:
        """Begin with what the predecessor knew of these backends."""
        self._known.update(known)

    def apply(self, state: State) -> None:
        """Watch the backends of this state from now on. One that moved begins anew."""
        wanted = {name: pool for name, pool in state.pools.items() if pool.config.passive is not None}
        self._pools = {name: self._watched(name, pool) for name, pool in wanted.items()}
        self._known.clear()
        self._withheld = Counter({name: self._withheld[name] for name in wanted})
        if self._pools:
            self.active.set()
        else:
            self.active.clear()

    def _watched(self, pool_name: str, pool: PoolEntry) -> dict[str, _Watched]:
        known, watched = self._pools.get(pool_name, {}), {}
        for name, entry in pool.backends.items():
            before = known.get(name)
            if before is None or before.slot != entry.slot:
                before = _Watched(entry.slot, entry.target, self._known.get((pool_name, name), OutlierTrack()))
            elif before.target != entry.target:
                before.target, before.track = entry.target, OutlierTrack()
            watched[name] = before
        return watched

    async def run(self) -> None:
        await repeat("passive health", EVALUATE_INTERVAL, self.round)

    async def round(self) -> None:
        """Wait until a pool wants it, and eject its outliers."""
        await self.active.wait()
        self.step()

    def step(self) -> None:
        """Eject the outliers of this moment, and let those back whose time is over."""
        now = asyncio.get_running_loop().time()
        self._store.replace(self._evaluate(self._store.state, now), Reason.EJECTION)

    def _evaluate(self, state: State, now: float) -> dict[BackendKey, BackendEntry]:
        """The backends that are ejected, or back, as of this moment."""
        changed = {}
        for pool_name, watched in self._pools.items():
            pool = state.pools[pool_name]
            if pool.config.passive is None:
                continue
            rules = _rules(pool.config.passive)
            summaries = self._engine.summaries([one.slot for one in watched.values()])
            for one, summary in zip(watched.values(), summaries, strict=True):
                one.track = observe(one.track, summary, rules, now)
            eligible = {name for name in watched if pool.backends[name].healthy_enough}
            verdict = decide({name: one.track for name, one in watched.items()}, eligible, rules, now)
            for name, track in verdict.tracks.items():
                watched[name].track = track
                entry = pool.backends[name]
                if entry.ejected is not track.is_out:
                    changed[pool_name, name] = replace(entry, ejected=track.is_out)
            self._tell(pool_name, verdict.events, eligible, now)
        return changed

    def _tell(self, pool: str, events: dict[str, Event], eligible: Collection[str], now: float) -> None:
        for name, event in events.items():
            one = self._pools[pool][name]
            track = one.track
            if event is Event.EJECTED and track.cause is not None and track.out_until is not None:
                one.ejections_total[track.cause] += 1
                _log.warning("%s/%s is ejected for %.3g s: %s", pool, name, track.out_until - now, _WHY[track.cause])
            elif event is Event.WITHHELD:
                self._withheld[pool] += 1
                out = sum(self._pools[pool][other].track.is_out for other in eligible)
                _log.error("%s/%s should be ejected and is not: %d of %d are", pool, name, out, len(eligible))
            elif event is Event.LIFTED:
                _log.error("%s/%s is back before its time: no other backend of the pool is usable", pool, name)
            else:
                _log.info("%s/%s is back after its ejection", pool, name)

    # ---- numbers ---------------------------------------------------------------------------------------------------

    def track(self, key: BackendKey) -> OutlierTrack | None:
        """What passive health knows of a backend; None if its pool has none."""
        one = self._pools.get(key[0], {}).get(key[1])
        return None if one is None else one.track

    def status(self, key: BackendKey, now: float) -> EjectionStatus | None:
        """The ejections of a backend; None if its pool has no passive health."""
        one = self._pools.get(key[0], {}).get(key[1])
        if one is None:
            return None
        until = one.track.out_until
        return EjectionStatus(
            cause=None if one.track.cause is None else one.track.cause.value,
            left=None if until is None else max(0.0, until - now),
            ejections_total={cause.value: one.ejections_total[cause] for cause in Cause},
        )

    def withheld(self, pool: str) -> int:
        """How often a backend of the pool should have been ejected and was not."""
        return self._withheld[pool]


_WHY = {
    Cause.FAILURES: "connections to it fail",
    Cause.BLACK_HOLE: "it owes answers and is silent, while others answer",
    Cause.SERVER_ERRORS: "too many of its responses have a status of 5xx",
}


def _rules(settings: model.Passive) -> PassiveRules:
    errors = settings.server_errors
    return PassiveRules(
        settings.failures,
        settings.eject,
        settings.max_ejected,
        settings.black_hole,
        None if errors is None else ServerErrorRule(errors.share, errors.responses, errors.within),
    )
