"""Learns how many requests a backend works on at once, from its own numbers of running and waiting ones. Pure.

A model server computes a batch of requests; those beyond its batch wait inside. They wait better in front of it, where
each goes to the server that has room first. A limit below the batch is worse than none, so:

- What runs while others wait fills the batch. A burst also lets requests wait for a moment, so the same most must have
  run CONFIRMATIONS times.
- The limit is a few requests more than the batch, so that some wait inside while the backend is full: that shows that
  it is full, and a batch that has room is filled at once.
- Whatever runs is proven. If more than the batch runs and nothing waits inside, the batch may be larger still, and the
  limit grows at once.
- What was learnt fades after one to two epochs of EPOCH looks at a full backend. Each begins with a few looks with a
  higher limit. So neither a short cache nor a restart with another batch leaves a wrong limit for long.
- A backend of which nothing is known has the largest limit of its pool. Without any, all of a burst would go to it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

CONFIRMATIONS = 5
"""Looks at a full backend at the same number of running requests."""

EPOCH = 100
"""Looks at a full backend after which what was seen before counts no more."""

TRIALS = 5
"""Looks at a full backend, at the begin of an epoch, with a higher limit."""

GROWTH = 4
"""A limit that is too low grows by one part in so many; a trial is that much higher."""

SPARE = 32
"""For each so many requests of a batch, one more may wait inside: that many end in a step of the server."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Look:
    """What a backend said; a number of requests each."""

    running: int
    waiting: int


@dataclass(frozen=True, slots=True)
class LimitTrack:
    """A backend over time. `batch` is what it works on at once, None while that is not known.

    `most` ran at once in this epoch, as `seen` looks at a full backend confirm; `full` counts such looks. `before` is
    `most` of the epoch before, 0 in the first.
    """

    batch: int | None = None
    most: int = 0
    seen: int = 0
    full: int = 0
    before: int = 0

    @property
    def limit(self) -> int | None:
        """How many turns the backend may have in flight; None if that is not known."""
        if self.batch is None:
            return None
        tries = self.before > 0 and self.full < TRIALS
        return self.batch + 1 + self.batch // SPARE + (grown(self.batch) if tries else 0)


def grown(batch: int) -> int:
    return max(1, batch // GROWTH)


def resumed(limit: int) -> LimitTrack:
    """The track of a backend that had this limit, in another process."""
    return LimitTrack(batch=max(1, limit - 1 - limit // (SPARE + 1)))


def observe(track: LimitTrack, look: Look, limit: int | None) -> LimitTrack:
    """The track after one more look, at a backend with this limit in force."""
    track = _noted(track, look)
    batch = track.batch
    if batch is None and track.seen >= CONFIRMATIONS:
        batch = track.most
    taken_for = resumed(limit).batch if batch is None and limit is not None else batch
    if taken_for is not None and look.running > taken_for:
        batch = look.running if look.waiting else max(look.running, taken_for + grown(taken_for))
    if track.full < EPOCH:
        return replace(track, batch=batch)
    if batch is not None:
        batch = max(track.most, track.before, 1)
    return LimitTrack(batch=batch, before=track.most)


def _noted(track: LimitTrack, look: Look) -> LimitTrack:
    is_full = look.waiting > 0
    if look.running > track.most:
        track = replace(track, most=look.running, seen=0)
    if not is_full:
        return track
    return replace(track, full=track.full + 1, seen=track.seen + (look.running == track.most))


def limits(tracks: Mapping[Key, LimitTrack]) -> dict[Key, int]:
    """The limit of each backend; of none while nothing is known of the pool."""
    known = [limit for track in tracks.values() if (limit := track.limit) is not None]
    if not known:
        return {}
    most = max(known)
    return {key: most if track.limit is None else track.limit for key, track in tracks.items()}
