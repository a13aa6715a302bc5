"""Keeps pools at the tier or backend that they moved to. `state.failback` decides when they return."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from l4lb.base.text import short_duration
from l4lb.state.failback import Move, Seat, rank_of, settle
from l4lb.state.state import PoolEntry, State
from l4lb.status import FailoverStatus

_log = logging.getLogger(__name__)


class Failover:
    """`again` is called on the loop when it is time to settle anew."""

    def __init__(self, again: Callable[[], None]) -> None:
        self._again = again
        self._timer: asyncio.TimerHandle | None = None

    def settle(self, state: State, now: float, *, clients: bool) -> State:
        """The state with the seats of this moment. Without `clients` so far, a pool moves to a better seat at once."""
        held = {name: pool for name, pool in state.pools.items() if pool.holds_seat or pool.seat is not None}
        moves = {name: _move(pool, now) for name, pool in held.items()}
        changed: dict[str, PoolEntry] = {}
        for name, move in moves.items():
            pool = state.pools[name]
            if move.seat == pool.seat:
                continue
            if clients and pool.seat is not None and move.seat is not None:
                _tell(name, pool, pool.seat, move.seat)
            changed[name] = replace(pool, seat=move.seat if clients else None)
        self._look_again(min((move.due for move in moves.values() if move.due is not None), default=None))
        return replace(state, pools={**state.pools, **changed}) if changed else state

    def _look_again(self, due: float | None) -> None:
        self.close()
        if due is not None:
            self._timer = asyncio.get_running_loop().call_at(due, self._again)

    def close(self) -> None:
        """Settle nothing later. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _move(pool: PoolEntry, now: float) -> Move:
    if not pool.holds_seat:
        return Move(None)
    delay, by_backend = pool.config.failback, pool.by_backend
    return settle(pool.seat, pool.candidates(), delay=delay, by_backend=by_backend, now=now)


def _tell(name: str, pool: PoolEntry, before: Seat, after: Seat) -> None:
    candidates = pool.candidates()
    at = rank_of(before, candidates)
    if any(one.serves and one.rank == at for one in candidates.values()):
        _log.info("pool %s goes back from %s to %s (failback)", name, before, after)
    else:
        _log.warning("pool %s goes from %s to %s: no backend is usable at %s", name, before, after, before)


def failover_status(pool: PoolEntry, now: float) -> FailoverStatus | None:
    """Where the pool is and why; None for a pool with a single tier whose backends have no order."""
    if len(pool.backends) < 2 or not (pool.by_backend or len({one.config.tier for one in pool.backends.values()}) > 1):
        return None
    candidates, taking = pool.candidates(), pool.accepting()
    if not taking:
        return FailoverStatus(current=None, held=(), message="no backend is usable")
    at = min(candidates[name].rank for name in taking)
    current = Seat(at[0], next(name for name in candidates if candidates[name].rank == at) if pool.by_backend else None)
    held = tuple(name for name, one in candidates.items() if one.serves and one.rank < at)
    return FailoverStatus(current=str(current), held=held, message=_why(pool, current, bool(held), now))


def _why(pool: PoolEntry, current: Seat, held: bool, now: float) -> str:
    if not held:
        return f"{current} is the best that is usable"
    if pool.config.failback is None:
        return f"stays at {current}: failback is off; drain it to go back"
    due = _move(pool, now).due
    left = "" if due is None else f" for another {short_duration(max(0.0, due - now))}"
    return f"stays at {current}{left}: a better one has to be usable for {short_duration(pool.config.failback)}"
