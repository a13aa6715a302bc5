"""Moves connections of keep-alive pools to backends that joined: closes idle ones at backends that have too many.

Clients keep their connections, so a new backend would get no work until clients reconnect. Closing an idle connection
costs its client a new connection and nothing else. Pure, apart from the random numbers.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

from l4lb.config import model
from l4lb.state.backend_entry import BackendEntry
from l4lb.state.state import PoolEntry, State

WINDOW = 60.0
"""Seconds after a change in which connections are moved. Later differences come from the clients themselves."""

TOLERANCE = 0.05
"""A share that is larger by less than this is even enough."""


@dataclass(frozen=True, slots=True)
class Share:
    """The connections that a backend has now, and the weight of its fair share, without the load factor."""

    connections: int
    weight: float


def gained(before: State, after: State) -> set[str]:
    """The pools to rebalance: those in which a backend's fair share has grown, because it joined, returned or got more
    weight. A new pool has nothing to move."""
    return {
        name
        for name, pool in after.pools.items()
        if pool.config.rebalance is not None
        and (old := before.pools.get(name)) is not None
        and old is not pool
        and _has_gained(old, pool)
    }


def _has_gained(before: PoolEntry, after: PoolEntry) -> bool:
    old = _parts(before)
    return any(part > old.get(name, 0.0) for name, part in _parts(after).items())


def _parts(pool: PoolEntry) -> dict[str, float]:
    """The fair share of each backend that has one."""
    weights = {name: _weight(backend) for name, backend in pool.backends.items()}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items() if weight}


def _weight(backend: BackendEntry) -> int:
    """Without load and slow start, which change all the time."""
    return backend.current_weight if backend.accepts_new else 0


def surplus(shares: Mapping[str, Share]) -> dict[str, int]:
    """How many connections each backend has beyond its share, where that is more than TOLERANCE."""
    weights = sum(share.weight for share in shares.values())
    total = sum(share.connections for share in shares.values())
    if weights == 0:
        return {}
    result = {}
    for name, share in shares.items():
        fair = total * share.weight / weights
        if share.connections > math.ceil(fair * (1 + TOLERANCE)):
            result[name] = share.connections - math.ceil(fair)
    return result


def allot(
    surpluses: Mapping[str, int], settings: model.Rebalance, seconds: float, dice: random.Random
) -> dict[str, int]:
    """How many connections of each backend to close after `seconds`: at the configured rate, in uneven steps."""
    budget = settings.rate * seconds * dice.uniform(0.5, 1.5)
    total = sum(surpluses.values())
    result = {}
    for name, count in surpluses.items():
        part = min(float(count), budget * count / total)
        whole = int(part) + (dice.random() < part % 1)
        if whole > 0:
            result[name] = min(count, whole)
    return result
