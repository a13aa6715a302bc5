"""How far what l4lb says of its sessions is from what the servers counted. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

GUARD_SECONDS = 0.05
"""A request that begins this near to a sample may be counted by one and not yet by the other."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A request in flight, in seconds of the monotonic clock."""

    begun: float
    ended: float


@dataclass(frozen=True, slots=True)
class Seen:
    """A session as l4lb lists it."""

    busy: bool
    turns: int


@dataclass(frozen=True, slots=True)
class Sample:
    """What l4lb said at some time from `before` to `after`: the backend's count, and its sessions by client port."""

    before: float
    after: float
    busy: int
    sessions: Mapping[int, Seen]


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests in flight, of a connection or of all of them."""

    begun: Sequence[float]
    ended: Sequence[float]

    @classmethod
    def of(cls, intervals: Sequence[Interval]) -> Requests:
        return cls(sorted(each.begun for each in intervals), sorted(each.ended for each in intervals))

    def began_by(self, at: float) -> int:
        return bisect_right(self.begun, at)

    def begins_within(self, first: float, last: float) -> bool:
        return bisect_left(self.begun, first) < bisect_right(self.begun, last)

    def in_flight(self, at: float) -> int:
        return bisect_right(self.begun, at) - bisect_right(self.ended, at)

    def least_and_most(self, first: float, last: float) -> tuple[int, int]:
        """Of the requests in flight at any time from `first` to `last`."""
        changes = [at for times in (self.begun, self.ended) for at in _between(times, first, last)]
        counts = [self.in_flight(at) for at in (first, *changes)]
        return min(counts), max(counts)


def _between(times: Sequence[float], first: float, last: float) -> Sequence[float]:
    return times[bisect_right(times, first) : bisect_right(times, last)]


@dataclass(slots=True)
class Areas:
    """Integrals over the time, in seconds."""

    truth: float = 0.0
    over: float = 0.0
    """l4lb says more than there are."""
    under: float = 0.0

    def add(self, said: int, least: int, most: int, seconds: float) -> None:
        """The truth may be anything from `least` to `most`: what lies between is no error."""
        self.truth += seconds * (least + most) / 2
        self.over += seconds * max(0, said - most)
        self.under += seconds * max(0, least - said)


@dataclass(slots=True)
class Books:
    """Turns against requests: of all connections, once each has begun a request."""

    requests: int = 0
    handshakes: int = 0
    """Turns before the first request of a connection."""
    split: int = 0
    """Turns too many."""
    merged: int = 0
    """Turns too few."""


@dataclass(slots=True)
class Findings:
    """`pool` compares the sum, which balancing goes by. The others look at each connection, so that nothing cancels
    out: `sessions` with its requests, `lines` with whether it has any. `late_s` is the mean time from the end of a
    request to when l4lb takes it for over; None where nothing is known of connections."""

    pool: Areas = field(default_factory=Areas)
    sessions: Areas = field(default_factory=Areas)
    lines: Areas = field(default_factory=Areas)
    books: Books = field(default_factory=Books)
    late_s: float | None = None


def compare(samples: Sequence[Sample], by_port: Mapping[int | None, Sequence[Interval]]) -> Findings:
    """`by_port` has the requests of each connection by its client's port; None has those of unknown ones."""
    found = Findings()
    everything = Requests.of([each for intervals in by_port.values() for each in intervals])
    known = {port: Requests.of(intervals) for port, intervals in by_port.items() if port is not None}
    late = 0.0
    for sample, following in pairwise(samples):
        seconds = following.before - sample.before
        found.pool.add(sample.busy, *everything.least_and_most(sample.before, sample.after), seconds)
        for port, requests in known.items():
            seen = sample.sessions.get(port)
            if seen is None:
                continue
            least, most = requests.least_and_most(sample.before, sample.after)
            said = int(seen.busy)
            found.sessions.add(said, least, most, seconds)
            found.lines.add(said, min(least, 1), min(most, 1), seconds)
            if requests.began_by(sample.before) > 0:
                late += seconds * max(0, said - most)
    if known and samples:
        ended = sum(len(_between(each.ended, samples[0].before, samples[-1].before)) for each in known.values())
        found.late_s = late / ended if ended else None
    for port, requests in known.items():
        _keep_books(found.books, port, requests, samples)
    return found


def _keep_books(books: Books, port: int, requests: Requests, samples: Sequence[Sample]) -> None:
    """Follow how far the count of turns is from that of requests, where no request begins near the sample."""
    distance: int | None = None
    counted = 0
    for sample in samples:
        seen = sample.sessions.get(port)
        asked = requests.began_by(sample.before)
        if (
            seen is None
            or asked == 0
            or requests.begins_within(sample.before - GUARD_SECONDS, sample.after + GUARD_SECONDS)
        ):
            continue
        now = seen.turns - asked
        if distance is None:
            books.handshakes += max(0, now)
            distance = max(0, now)
        books.split += max(0, now - distance)
        books.merged += max(0, distance - now)
        distance, counted = now, asked
    books.requests += counted
