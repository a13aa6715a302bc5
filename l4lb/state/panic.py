"""Decides when so few backends are healthy that health is better ignored. Pure.

Checks that fail everywhere at once say more about the checks, or about the network, than about the backends. And a few
healthy backends would break down under the load of all others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Standing:
    """One backend: `known` says that its first checks are over. `healthy` implies `in_service`."""

    tier: int
    in_service: bool
    healthy: bool
    known: bool


def is_panic(standings: Iterable[Standing], threshold: float) -> bool:
    """Whether in every tier less than this share of the backends in service is healthy.

    Backends that are not known yet do not count; a tier without known ones is passed over. A threshold of 0 turns panic
    off. One tier that is well is enough to end it, since clients go there.
    """
    if threshold <= 0:
        return False
    healthy: dict[int, int] = {}
    in_service: dict[int, int] = {}
    for standing in standings:
        if standing.in_service and standing.known:
            in_service[standing.tier] = in_service.get(standing.tier, 0) + 1
            healthy[standing.tier] = healthy.get(standing.tier, 0) + standing.healthy
    return bool(in_service) and all(healthy[tier] / count < threshold for tier, count in in_service.items())
