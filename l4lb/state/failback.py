"""Which tier a pool stays with, or with `balance: first` which backend, once a better one was left. Pure.

Backends are ranked: by their tier, and with `first` also by their place in the pool. A *seat* is the rank that the pool
is at. Backends of a better rank are held back until the seat has no usable backend any more, or until `failback` lets
one of them in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Rank = tuple[int, int]
"""Tier, and place in the pool where that counts, else 0. Lower ones are better."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A tier, or one backend in it. A backend is known by its name: its place may change."""

    tier: int
    backend: str | None = None

    def __str__(self) -> str:
        return f"tier {self.tier}" if self.backend is None else self.backend


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backend in the eyes of failback. `serves` if it would take sessions but for this module; `pending` if its
    first check is to tell. `since` is the time from which on it has been usable, None if it is not."""

    rank: Rank
    serves: bool
    pending: bool = False
    since: float | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """The seat from now on, None while it is open. `due` is when to look again, None for no such time."""

    seat: Seat | None
    due: float | None = None


def rank_of(seat: Seat, candidates: Mapping[str, Candidate]) -> Rank | None:
    """The rank of a seat; None if nothing in the pool has it."""
    if seat.backend is not None:
        candidate = candidates.get(seat.backend)
        return None if candidate is None else candidate.rank
    return min((candidate.rank for candidate in candidates.values() if candidate.rank[0] == seat.tier), default=None)


def kept(seat: Seat | None, candidates: Mapping[str, Candidate], *, spill: bool) -> set[str]:
    """The backends that take sessions: none above the seat while the seat has one that serves; and without `spill`
    none below the best tier of the others."""
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
    """Where the pool stays from now on. `delay` is for how long a better one must have been usable, None for ever;
    `by_backend` if each backend is a seat, and not each tier."""
    serving = {candidate.rank for candidate in candidates.values() if candidate.serves}
    if not serving:
        # The one that served last has what clients wrote last: it is still the seat, should it be the first to return.
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
    """Open while a better backend may be about to come up."""
    if any(candidate.pending and candidate.rank < best for candidate in candidates.values()):
        return None
    return _seat(candidates, best, by_backend=by_backend)


def _seat(candidates: Mapping[str, Candidate], rank: Rank, *, by_backend: bool) -> Seat:
    return Seat(rank[0], _name(candidates, rank) if by_backend else None)


def _name(candidates: Mapping[str, Candidate], rank: Rank) -> str:
    return next(name for name, candidate in candidates.items() if candidate.rank == rank)


def ranks(tiers: Iterable[tuple[str, int]], *, by_backend: bool) -> dict[str, Rank]:
    """The rank of each of these backends, given in the order of the pool with their tiers."""
    return {name: (tier, place if by_backend else 0) for place, (name, tier) in enumerate(tiers)}
