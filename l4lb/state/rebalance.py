"""Moves connections of keep-alive pools to backends that have less than their share: closes idle ones of the others.

Clients keep their connections, so a new backend would get no work until clients reconnect. Closing an idle connection
costs its client a new connection and nothing else.

An effort to even a pool begins when a backend gains a share, or when the pool has been uneven for a while. An effort
ends after WINDOW. One that begins without a gain closes each connection about once, and the pool waits twice as long
for the next one until it is even: where clients or the algorithm want it uneven, connections are left alone.

Pure, apart from the random numbers.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from l4lb.config import model
from l4lb.state.backend_entry import BackendEntry
from l4lb.state.state import PoolEntry, State

WINDOW = 60.0
"""Seconds of one effort."""

LASTING = 10.0
"""Seconds for which a pool must be uneven before the first effort."""

LASTING_MAX = 3600.0
"""The same after many efforts that did not even the pool."""

TOLERANCE = 0.05
"""A share that is off by less than this is even enough."""

UNEVEN = 0.25
"""A share that is off by more than this, and by more than chance explains, makes its pool uneven."""

CHANCE = 2.0
"""Connections come and go by chance, which moves a share by about its square root; more than so many times that is not
chance."""

_BY_CLIENT = frozenset({"maglev", "source_hash", "first"})
"""Algorithms that do not mean to share out connections evenly: clients would return to where they were."""


@dataclass(frozen=True, slots=True)
class Share:
    """The connections that a backend has now, and the weight of its fair share, without the load factor."""

    connections: int
    weight: float


# ---- when ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Effort:
    """What is done about a pool: connections are moved until `until`, and at most `left` of them.

    The pool is `uneven`, or even, since `since`. `patience` is how long it must be uneven before the next effort.
    """

    until: float = -math.inf
    left: float = 0.0
    uneven: bool = False
    since: float = -math.inf
    patience: float = LASTING

    def is_on(self, now: float) -> bool:
        return now < self.until and self.left > 0

    def spent(self, count: int) -> Effort:
        """After so many connections were closed."""
        return replace(self, left=self.left - count)


def begun(now: float) -> Effort:
    """The effort after a backend has gained a share."""
    return Effort(until=now + WINDOW, left=math.inf, since=now)


def watched(effort: Effort, *, uneven: bool, connections: int, now: float) -> Effort:
    """The effort after a look at the pool, which has so many connections."""
    if effort.is_on(now):
        return effort
    if uneven is not effort.uneven:
        return replace(effort, uneven=uneven, since=now)
    if now - effort.since < effort.patience:
        return effort
    if not uneven:
        return Effort(since=effort.since)
    return Effort(
        until=now + WINDOW,
        left=float(connections),
        uneven=True,
        since=now + WINDOW,
        patience=min(2 * effort.patience, LASTING_MAX),
    )


def is_uneven(groups: Iterable[Mapping[str, Share]]) -> bool:
    """Whether the connections of some group of backends are further from their shares than chance explains."""
    return any(
        abs(share.connections - fair) > max(UNEVEN * fair, CHANCE * math.sqrt(fair))
        for shares in groups
        for share, fair in _fair({name: one for name, one in shares.items() if one.weight > 0}).values()
    )


def evens_out(pool: PoolEntry) -> bool:
    """Whether the pool is watched, and its algorithm means to even it out."""
    return pool.rebalance is not None and pool.config.balance not in _BY_CLIENT


# ---- which backends have gained ------------------------------------------------------------------------------------


def gained(before: State, after: State) -> set[str]:
    """The pools to rebalance: those in which a backend's fair share has grown, because it joined, returned or got more
    weight. A new pool has nothing to move."""
    return {
        name
        for name, pool in after.pools.items()
        if pool.rebalance is not None
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


# ---- how many connections ------------------------------------------------------------------------------------------


def _fair(shares: Mapping[str, Share]) -> dict[str, tuple[Share, float]]:
    """Each share, and how many connections would be fair; nothing if no backend could take one."""
    weights = sum(share.weight for share in shares.values())
    total = sum(share.connections for share in shares.values())
    if weights == 0:
        return {}
    return {name: (share, total * share.weight / weights) for name, share in shares.items()}


def surplus(shares: Mapping[str, Share]) -> dict[str, int]:
    """How many connections each backend has beyond its share, where it has more than TOLERANCE too many or another one
    too few."""
    fair = _fair(shares)
    lacks = any(share.connections < math.floor(due * (1 - TOLERANCE)) for share, due in fair.values())
    tolerance = 0.0 if lacks else TOLERANCE
    return {
        name: share.connections - math.ceil(due)
        for name, (share, due) in fair.items()
        if share.connections > math.ceil(due * (1 + tolerance))
    }


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
