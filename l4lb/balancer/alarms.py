"""Logs, once each time, when a pool cannot serve its clients as it should, and when it can again."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from l4lb.state.state import PoolEntry, State
from l4lb.state.tables import table_size
from l4lb.status import HealthState

_log = logging.getLogger(__name__)


class Alarms:
    def __init__(self) -> None:
        self._turning_away: set[str] = set()
        self._panicking: set[str] = set()
        self._outgrown: dict[str, int] = {}

    def look_at_install(self, state: State) -> None:
        """See what another configuration brings, and forget the pools that it lacks."""
        self._turning_away &= state.pools.keys()
        self.look_for_panic(state)
        self.look_for_tables(state)

    def look_for_backends(self, state: State, pools: Iterable[str]) -> None:
        """Log which of these pools have no usable backend, unless the first check of one is still to come."""
        for name in pools:
            pool = state.pools[name]
            if pool.accepting():
                self._turning_away.discard(name)
            elif name not in self._turning_away and not _is_pending(pool):
                self._turning_away.add(name)
                self._log_empty(name, pool)

    @staticmethod
    def _log_empty(name: str, pool: PoolEntry) -> None:
        fate = "are turned away" if pool.config.queue is None else "wait"
        level = logging.INFO if pool.config.scale_to_zero else logging.ERROR
        _log.log(level, "pool %s has no usable backend: its clients %s", name, fate)

    def look_for_tables(self, state: State) -> None:
        """Log pools that have more backends than `hash.table_size` has entries."""
        outgrown = {}
        for name, pool in state.pools.items():
            given, size = pool.config.hash.table_size, table_size(pool)
            if size != given:
                outgrown[name] = size
                if self._outgrown.get(name) != size:
                    _log.warning(
                        "pool %s has %d backends, more than the %d entries of hash.table_size, so it gets %d; "
                        "take a prime at least 100 times as large as their number",
                        *(name, len(pool.backends), given, size),
                    )
        self._outgrown = outgrown

    def look_for_panic(self, state: State) -> None:
        """Log pools that panic, and those whose panic is over."""
        panicking = {name for name, pool in state.pools.items() if pool.panic}
        for name in sorted(panicking - self._panicking):
            threshold = state.pools[name].config.panic_threshold
            _log.error(
                "pool %s panics: less than %g%% of its backends are usable, so health is ignored", name, 100 * threshold
            )
        for name in sorted(self._panicking - panicking):
            _log.warning("pool %s: panic is over, only healthy backends are used", name)
        self._panicking = panicking


def _is_pending(pool: PoolEntry) -> bool:
    return any(backend.health is HealthState.PENDING for backend in pool.backends.values())
