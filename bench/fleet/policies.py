"""How a balancer that places each request might choose, and what it might learn. Deterministic, without a clock.

Each of several balancers knows its own requests only. What it learns, it learns of the numbers that a replica shows, or
of the times of its own requests.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from l4lb.load.busy_limit import LimitTrack, Look, limits, observe

Choice = Literal["least_busy", "known_speed", "learnt_speed", "hot_cold"]
Learning = Literal["scraped", "scraped alone", "first tokens"]

HOT = 0.84
"""Prequal's quantile of requests in flight from which on a replica is hot."""

SAMPLES = 16
SAMPLE_SECONDS = 20.0
"""The latest times to the first token that count, and for how long."""

KNEE = 2.0
SLACK_SECONDS = 0.05
CALM = 4
"""First tokens are late from so many times their median with at most CALM requests in flight, and a little more."""


@dataclass(frozen=True, slots=True)
class Policy:
    """`limit` requests at a time for each replica, or one that is learnt; the others wait in one queue. A replica that
    has come may have `cold` of them until it has given `responses`. `than` is the policy to compare with."""

    name: str
    choice: Choice = "least_busy"
    limit: int | None = None
    learns: Learning | None = None
    cold: int | None = None
    responses: int = 3
    balancers: int = 1
    than: str = "least-busy"


@dataclass(slots=True, eq=False)
class View:
    """What a balancer knows of a replica."""

    speed: float
    batch: int
    busy: int = 0
    answers: int = 0
    track: LimitTrack = field(default_factory=LimitTrack)
    knee: float = math.inf
    calm: deque[float] = field(default_factory=lambda: deque(maxlen=64))
    recent: list[tuple[int, float]] = field(default_factory=list)
    times: dict[int, deque[tuple[float, float]]] = field(default_factory=dict)
    """By the number of bits of the requests in flight: the time to the first token, and when."""

    def note_first_token(self, busy: int, seconds: float, now: float) -> None:
        self.times.setdefault(busy.bit_length(), deque(maxlen=SAMPLES)).append((seconds, now))
        self.recent.append((busy, seconds))
        if busy <= CALM:
            self.calm.append(seconds)

    def usual_time(self, now: float) -> float | None:
        """The median time to the first token with about as many requests in flight; None if it is not known."""
        bits = self.busy.bit_length()
        near = [time for about in (bits - 1, bits, bits + 1) for time in self.times.get(about, ())]
        fresh = [seconds for seconds, at in near if now - at < SAMPLE_SECONDS]
        return median(fresh[-SAMPLES:]) if fresh else None

    def find_knee(self) -> None:
        """One more while first tokens come in time, one less when they are late."""
        if len(self.calm) < 8:
            self.recent.clear()
            return
        near = [one for one in self.recent if one[0] >= (self.knee - 2 if self.knee < math.inf else 2 * CALM)]
        if len(near) < 3:
            del self.recent[:-50]
            return
        self.recent.clear()
        if median(seconds for _, seconds in near) > KNEE * median(self.calm) + SLACK_SECONDS:
            self.knee = max(CALM, min(self.knee, median(busy for busy, _ in near)) - 1)
        elif self.knee < math.inf:
            self.knee += 1


class Balancer:
    """`views` are those of the replicas that are there."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.views: list[View] = []
        self._choose: dict[Choice, Callable[[Sequence[View], float], View]] = {
            "least_busy": lambda room, _now: min(room, key=lambda view: view.busy),
            "known_speed": lambda room, _now: min(room, key=lambda view: (view.busy + 1) / view.speed),
            "learnt_speed": self._fastest,
            "hot_cold": self._coldest,
        }

    def limit(self, view: View) -> float:
        """How many requests the replica may have."""
        policy = self.policy
        limit = math.inf if policy.limit is None else policy.limit
        if policy.learns is not None:
            limit = self.learnt(view)
        return min(limit, policy.cold) if policy.cold and view.answers < policy.responses else limit

    def pick(self, now: float) -> View | None:
        """Where the next request goes; None if it has to wait."""
        room = [view for view in self.views if view.busy < self.limit(view)]
        return self._choose[self.policy.choice](room, now) if room else None

    def look(self, view: View, running: int, waiting: int) -> None:
        """A scrape, once a second."""
        if self.policy.learns == "first tokens":
            view.find_knee()
        elif self.policy.learns is not None:
            limit = self.learnt(view)
            view.track = observe(view.track, Look(running, waiting), None if limit == math.inf else int(limit))

    def learnt(self, view: View) -> float:
        """The limit that was learnt; infinite while it is not known."""
        if self.policy.learns == "scraped alone":
            return math.inf if view.track.limit is None else view.track.limit
        if self.policy.learns == "scraped":
            return limits({id(each): each.track for each in self.views}).get(id(view), math.inf)
        known = [each.knee for each in self.views if each.knee < math.inf]
        return view.knee if view.knee < math.inf or not known else max(known)

    def _fastest(self, room: Sequence[View], now: float) -> View:
        usual = self._usual(now)
        return min(room, key=lambda view: (view.busy + 1) * (view.usual_time(now) or usual))

    def _coldest(self, room: Sequence[View], now: float) -> View:
        """Prequal's rule: of the cold replicas the fastest, and if all are hot, the least busy."""
        loads = sorted(view.busy for view in self.views)
        hot_from, usual = loads[min(len(loads) - 1, int(HOT * len(loads)))], self._usual(now)
        cold = [view for view in room if view.busy < hot_from]
        if not cold:
            return min(room, key=lambda view: view.busy)
        return min(cold, key=lambda view: (view.usual_time(now) or usual, view.busy))

    def _usual(self, now: float) -> float:
        """Of the whole pool, for replicas of which nothing is known."""
        times = [time for view in self.views if (time := view.usual_time(now)) is not None]
        return median(times) if times else 1.0
