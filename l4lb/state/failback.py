"""Which tier a pool stays at after it left a better one; with `balance: first`, which backend. Pure.

Backends are ranked by their tier, and with `first` also by their order in the pool. The *seat* is the rank that the
pool is at. Backends of a better rank are held back until the seat has no usable backend, or until `failback` lets the
pool return.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Rank = tuple[int, int]
"""Tier, and the order in the pool if that counts, else 0. Lower is better."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A tier, or one backend in it, by name: its order in the pool may change."""

    tier: int
    backend: str | None = None

    def __str__(self) -> str:
        return f"tier {self.tier}" if self.backend is None else self.backend


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backend for failback. `serves`: apart from this module it gets new sessions. `pending`: it awaits its first
    check. `since`: the time at which it became usable, None if it is not."""

    rank: Rank
    serves: bool
    pending: bool = False
    since: float | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """The seat from now on, None while it is undecided. `due` is when to decide again, None if time changes nothing."""

    seat: Seat | None
    due: float | None = None


def rank_of(seat: Seat, candidates: Mapping[str, Candidate]) -> Rank | None:
    """The rank of a seat; None if no backend has it."""
    if seat.backend is not None:
        candidate = candidates.get(seat.backend)
        return None if candidate is None else candidate.rank
    return min((candidate.rank for candidate in candidates.values() if candidate.rank[0] == seat.tier), default=None)


def kept(seat: Seat | None, candidates: Mapping[str, Candidate], *, spill: bool) -> set[str]:
    """The backends that get new sessions: none above the seat while a backend of the seat serves. Without `spill`, only
    the best tier of those left."""
    serving = {name: candidate.rank for name, candidate in candidates.items() if candidate.serves}
    floor = None if seat is None else rank_of(seat, candidates)
    if floor is not None and floor in serving.values():
        serving = {name: rank for name, rank in serving.items() if rank >= floor}
    if not spill and serving:
        best = min(tier for tier, _ in serving.values())
        serving = {name: rank for name, rank in serving.items() if rank[0] == best}
    return set(serving)


def settle(
    seat: Seat | None, candidates: Mapping[str, Candidate], *, delay: float | None, by_backend: bool, now: float
) -> Move:
    """The seat from now on. `delay` is how long a better backend must have been usable, None for no return. With
    `by_backend` each backend is a seat, else each tier."""
    serving = {candidate.rank for candidate in candidates.values() if candidate.serves}
    if not serving:
        # The last backend in use has the latest data of clients, so it keeps the seat in case it returns first.
        return Move(seat)
    at = None if seat is None or (seat.backend is not None) is not by_backend else rank_of(seat, candidates)
    if seat is None or at not in serving:
        return Move(_first_seat(candidates, min(serving), by_backend=by_backend))
    due = {candidate.rank: math.inf for candidate in candidates.values() if candidate.serves and candidate.rank < at}
    if delay is None or not due:
        return Move(seat)
    for candidate in candidates.values():
        if candidate.rank in due and candidate.since is not None:
            due[candidate.rank] = min(due[candidate.rank], candidate.since + delay)
    ripe = [rank for rank, time in due.items() if time <= now]
    if ripe:
        return Move(_seat(candidates, min(ripe), by_backend=by_backend))
    soonest = min(due.values())
    return Move(seat, None if math.isinf(soonest) else soonest)


def _first_seat(candidates: Mapping[str, Candidate], best: Rank, *, by_backend: bool) -> Seat | None:
    """Undecided while a better backend awaits its first check."""
    if any(candidate.pending and candidate.rank < best for candidate in candidates.values()):
        return None
    return _seat(candidates, best, by_backend=by_backend)


def _seat(candidates: Mapping[str, Candidate], rank: Rank, *, by_backend: bool) -> Seat:
    return Seat(rank[0], _name(candidates, rank) if by_backend else None)


def _name(candidates: Mapping[str, Candidate], rank: Rank) -> str:
    return next(name for name, candidate in candidates.items() if candidate.rank == rank)


def ranks(tiers: Iterable[tuple[str, int]], *, by_backend: bool) -> dict[str, Rank]:
    """The ranks of backends, given with their tiers in the order of the pool."""
    return {name: (tier, place if by_backend else 0) for place, (name, tier) in enumerate(tiers)}
