"""From what backends say of their load to the factors of their weights. Pure.

A backend that is half used up has half its weight. What is not known must never make a backend attractive, so one whose
numbers are missing, incomplete or old is worth no more than the average of those that are known.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from l4lb.load.exposition import COUNTS, Readings, Signal

FLOOR = 0.02
"""The least factor: a backend that is full is still found out to be better."""

TAU = 2.0
"""Seconds in which a factor follows most of a change."""

HYSTERESIS = 0.05
"""A factor is applied when it has changed by more than this share of itself."""

APPLY_INTERVAL = 0.25
"""Seconds between two changes of a pool."""

BLACKOUT = 10.0
"""Seconds for which the numbers of a backend that was silent until they expired are not believed."""

_REACHED = 0.005
"""So close to its aim a factor is there: otherwise it would approach it for ever."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class LoadRules:
    """When a backend counts as used up, and how long what it said is good for (seconds)."""

    limits: Mapping[Signal, float | None]
    stale_after: float = 2.0
    expire: float = 180.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the balancer itself knows of a backend: turns begun, and those in flight."""

    turns_total: int = 0
    busy: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """What a backend said, and the traffic at the time it was asked."""

    at: float
    readings: Readings
    traffic: Traffic = Traffic()


@dataclass(frozen=True, slots=True)
class LoadTrack:
    """A backend through time. `smoothed` follows its load, `applied` is what balancing was last told."""

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
    """Turns that came to a backend since then and are not over.

    Only ever added to what it said: a backend whose connections broke is not an idle one.
    """
    if now.turns_total < then.turns_total:
        return now.busy  # the counters began anew
    return max(0, now.busy - then.busy)


def utilisation(readings: Readings, limits: Mapping[Signal, float | None], more: int = 0) -> float | None:
    """How far the scarcest thing is used up, 1 being all of it. None when nothing is known that has a limit.

    `more` requests came since: whether they wait or run is not known, so they count as both.
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
    """The tracks `elapsed` seconds after the last step. The average is that of the backends that are `serving`."""
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
    """Where the factors would be if they followed at once; 1 everywhere when nothing is known of the pool."""
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
    """How little the last sample counts: 0 while it is fresh, 1 once it has expired."""
    if now < track.trusted_from:
        return 1.0
    return min(1.0, max(0.0, (track.age(now) - rules.stale_after) / max(rules.expire - rules.stale_after, 1e-9)))


def _doubted(own: float | None, average: float, fade: float) -> float:
    """Good news that is in doubt is not believed; bad news fades with time."""
    return average if own is None else min(average, own + (average - own) * fade)
