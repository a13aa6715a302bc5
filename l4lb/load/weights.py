"""Turns the reported load of backends into factors of their weights. Pure.

A backend at half of its capacity gets half of its weight. Missing data never makes a backend more attractive: one whose
numbers are missing, incomplete or old gets at most the average of the known ones.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from l4lb.load.exposition import COUNTS, Readings, Signal

FLOOR = 0.02
"""Minimum factor: it keeps a full backend in use enough to notice when it has capacity again."""

TAU = 2.0
"""Time constant in seconds with which a factor follows the load."""

HYSTERESIS = 0.05
"""A new factor is applied when it differs from the applied one by more than this share."""

APPLY_INTERVAL = 0.25
"""Seconds between two changes in a pool."""

BLACKOUT = 10.0
"""Seconds for which good news from a backend are discounted after its numbers had expired."""

_REACHED = 0.005
"""A factor this close to its target is set to the target, which it would otherwise approach for ever."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class LoadRules:
    """What counts as full load, and for how long a report is valid (in seconds)."""

    limits: Mapping[Signal, float | None]
    stale_after: float = 2.0
    expire: float = 180.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the balancer itself knows about a backend: turns started, and turns in flight."""

    turns_total: int = 0
    busy: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """What a backend reported, and its traffic at that moment."""

    at: float
    readings: Readings
    traffic: Traffic = Traffic()


@dataclass(frozen=True, slots=True)
class LoadTrack:
    """A backend over time. `smoothed` follows its load; `applied` is the factor in use."""

    sample: Sample | None = None
    trusted_from: float = -math.inf
    smoothed: float = 1.0
    applied: float = 1.0

    def age(self, now: float) -> float:
        return math.inf if self.sample is None else now - self.sample.at

    def is_fresh(self, now: float, rules: LoadRules) -> bool:
        return now >= self.trusted_from and self.age(now) < rules.stale_after


def observe(track: LoadTrack, sample: Sample, rules: LoadRules) -> LoadTrack:
    """The track after one more sample."""
    recovers = track.sample is not None and track.age(sample.at) >= rules.expire
    return replace(track, sample=sample, trusted_from=sample.at + BLACKOUT if recovers else track.trusted_from)


def dispatched(then: Traffic, now: Traffic) -> int:
    """Turns that started at a backend since then and are still in flight.

    They are only ever added to the reported load: a backend whose connections broke is not idle.
    """
    if now.turns_total < then.turns_total:
        return now.busy  # the counters were reset
    return max(0, now.busy - then.busy)


def utilisation(readings: Readings, limits: Mapping[Signal, float | None], more: int = 0) -> float | None:
    """Utilisation of the scarcest resource, where 1 is its limit. None if no limited resource is known.

    `more` requests were sent since the report. Whether they wait or run is unknown, so they count as both.
    """
    shares = [
        (value + (more if signal in COUNTS else 0)) / limit
        for signal, value in readings.items()
        if (limit := limits.get(signal)) is not None
    ]
    return max(shares, default=None)


def step(
    tracks: Mapping[Key, LoadTrack],
    traffic: Mapping[Key, Traffic],
    serving: Collection[Key],
    rules: LoadRules,
    now: float,
    elapsed: float,
) -> dict[Key, LoadTrack]:
    """The tracks `elapsed` seconds after the last step. The average is over the `serving` backends."""
    targets = target_factors(tracks, traffic, serving, rules, now)
    follow = 1 - math.exp(-elapsed / TAU)
    after = {}
    for key, track in tracks.items():
        target = targets[key]
        smoothed = track.smoothed + (target - track.smoothed) * follow
        if abs(target - smoothed) <= _REACHED:
            smoothed = target
        moved = abs(smoothed - track.applied) > HYSTERESIS * track.applied or smoothed in (FLOOR, 1.0)
        after[key] = replace(track, smoothed=smoothed, applied=smoothed if moved else track.applied)
    return after


def target_factors(
    tracks: Mapping[Key, LoadTrack],
    traffic: Mapping[Key, Traffic],
    serving: Collection[Key],
    rules: LoadRules,
    now: float,
) -> dict[Key, float]:
    """The factors without smoothing; 1 for all if nothing is known about the pool."""
    fresh = {key for key, track in tracks.items() if track.is_fresh(now, rules)}
    limited = {signal for signal, limit in rules.limits.items() if limit is not None}
    expected = {signal for key in fresh for signal in _readings(tracks[key]) if signal in limited}
    own = {key: _own_factor(track, traffic.get(key), rules) for key, track in tracks.items()}
    known = {
        key: factor for key in fresh if expected <= _readings(tracks[key]).keys() and (factor := own[key]) is not None
    }
    counted = [factor for key, factor in known.items() if key in serving]
    if not counted:
        return dict.fromkeys(tracks, 1.0)
    average = sum(counted) / len(counted)
    return {
        key: known[key] if key in known else _doubted(own[key], average, _fade(track, rules, now))
        for key, track in tracks.items()
    }


def _readings(track: LoadTrack) -> Readings:
    return {} if track.sample is None else track.sample.readings


def _own_factor(track: LoadTrack, traffic: Traffic | None, rules: LoadRules) -> float | None:
    sample = track.sample
    if sample is None:
        return None
    used = utilisation(sample.readings, rules.limits, 0 if traffic is None else dispatched(sample.traffic, traffic))
    return None if used is None else min(1.0, max(FLOOR, 1 - used))


def _fade(track: LoadTrack, rules: LoadRules, now: float) -> float:
    """How far the last sample has aged: 0 while it is fresh, 1 once it has expired."""
    if now < track.trusted_from:
        return 1.0
    return min(1.0, max(0.0, (track.age(now) - rules.stale_after) / max(rules.expire - rules.stale_after, 1e-9)))


def _doubted(own: float | None, average: float, fade: float) -> float:
    """A doubtful sample counts only if it is bad news, and bad news fades with time."""
    # Rounding could fall just below the minimum.
    return average if own is None else min(average, max(FLOOR, own + (average - own) * fade))
