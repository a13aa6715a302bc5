"""When so few backends are healthy that it is better to believe in all of them.

Checks that fail everywhere at once tell more of the checks, or of the way to the backends, than of the backends; and a
few healthy ones would fall under the load of all. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Standing:
    """Of one backend: `ready` if nobody has taken it out of service, `usable` if it is healthy too, and `known` if its
    first checks are over."""

    tier: int
    ready: bool
    usable: bool
    known: bool


def is_panic(standings: Iterable[Standing], threshold: float) -> bool:
    """Whether health is to be ignored: less than this share of the ready backends is usable.

    Never with a threshold of 0, nor while nothing is known of any. A tier that is well takes what the others cannot, so
    it has to be so in every tier.
    """
    if threshold <= 0:
        return False
    usable: dict[int, int] = {}
    ready: dict[int, int] = {}
    for standing in standings:
        if standing.ready and standing.known:
            ready[standing.tier] = ready.get(standing.tier, 0) + 1
            usable[standing.tier] = usable.get(standing.tier, 0) + standing.usable
    return bool(ready) and all(usable[tier] / count < threshold for tier, count in ready.items())
