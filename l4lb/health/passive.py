"""Passive health: which backends are ejected because of what happens on client connections, and for how long. Pure.

This is Envoy's outlier detection without its known traps: the time of an ejection grows with the number of recent
ejections and shrinks again, a share of the pool always stays in service, and the last usable backend is never ejected.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from l4lb.engine.api import BackendSummary
from l4lb.health.server_errors import History, Moment, ServerErrorRule, extended, is_too_high, share

MULTIPLE_MAX = 10
"""An ejection lasts at most this many times as long as the first one."""

OWED_MIN = 3
"""Minimum number of responses that a black hole owes: a single request may just take long."""

EXCESS_MAX = 2
"""The count of failures is limited to this many times the number that ejects."""

PATIENCE = 5
"""A backend counts as silent after this many times the longest time that its peers take to start a response."""

Key = TypeVar("Key", bound=str)


class Cause(enum.StrEnum):
    FAILURES = "failures"
    BLACK_HOLE = "black_hole"
    SERVER_ERRORS = "server_errors"


@dataclass(frozen=True, slots=True)
class PassiveRules:
    """`failures` more failures than successes eject for `eject` seconds. At most a share `max_ejected` of a pool is
    out."""

    failures: int
    eject: float
    max_ejected: float
    black_hole: float | None
    server_errors: ServerErrorRule | None = None


@dataclass(frozen=True, slots=True)
class OutlierTrack:
    """A backend over time, in seconds of a monotonic clock.

    `excess` is the number of failures minus successes, at least 0. `silent_since` is since when the backend owes
    responses and sends nothing, `heard_at` when it last sent something. `responses` are those of the recent past, with
    the server errors among them. `ejections` counts recent ones, as of `returned_at`.
    """

    summary: BackendSummary | None = None
    excess: int = 0
    silent_since: float | None = None
    heard_at: float = -math.inf
    responses: History = ()
    ejections: int = 0
    returned_at: float = -math.inf
    out_until: float | None = None
    cause: Cause | None = None
    withheld: bool = False

    @property
    def is_out(self) -> bool:
        return self.out_until is not None


class Event(enum.Enum):
    EJECTED = enum.auto()
    RETURNED = enum.auto()
    LIFTED = enum.auto()
    WITHHELD = enum.auto()


@dataclass(frozen=True, slots=True)
class PoolDecision(Generic[Key]):
    """The tracks of a pool after a round, and what happened to which backend."""

    tracks: dict[Key, OutlierTrack]
    events: dict[Key, Event] = field(default_factory=dict)


def observe(track: OutlierTrack, summary: BackendSummary, rules: PassiveRules, now: float) -> OutlierTrack:
    """The track after another look at the backend's counters."""
    before = track.summary
    if (
        before is None
        or summary.failures_total < before.failures_total
        or summary.responded_total < before.responded_total
    ):
        return replace(track, summary=summary, responses=_recent((), summary, rules, now))
    spoke = summary.received_bytes_total != before.received_bytes_total
    owes = summary.busy >= OWED_MIN and not spoke
    responses = _recent(track.responses or (_moment(before, now),), summary, rules, now)
    if summary == before and owes is (track.silent_since is not None) and responses is track.responses:
        return track  # most of thousands of backends are unchanged
    failed = summary.failures_total - before.failures_total
    answered = summary.responded_total - before.responded_total
    return replace(
        track,
        summary=summary,
        # Limited, so that a thousand failures do not take a thousand successes to make up for.
        excess=min(EXCESS_MAX * rules.failures, max(0, track.excess + failed - answered)),
        silent_since=(now if track.silent_since is None else track.silent_since) if owes else None,
        heard_at=now if spoke else track.heard_at,
        responses=responses,
    )


def _recent(known: History, summary: BackendSummary, rules: PassiveRules, now: float) -> History:
    if rules.server_errors is None:
        return ()
    return extended(known, _moment(summary, now), rules.server_errors)


def _moment(summary: BackendSummary, now: float) -> Moment:
    return Moment(now, summary.responses_total, summary.server_errors_total)


def decide(
    tracks: Mapping[Key, OutlierTrack], eligible: Collection[Key], rules: PassiveRules, now: float
) -> PoolDecision[Key]:
    """Decides which backends of a pool are out. `eligible` backends would take sessions without an ejection."""
    verdict = PoolDecision({key: track if key in eligible else _forgiven(track) for key, track in tracks.items()})
    _bring_back(verdict, eligible, now)
    suspects = _suspects(verdict.tracks, eligible, rules, now)
    room = places(len(eligible), rules) - sum(verdict.tracks[key].is_out for key in eligible)
    for key in sorted(suspects, key=lambda key: (-verdict.tracks[key].excess, key)):
        track = verdict.tracks[key]
        if room > 0:
            room -= 1
            verdict.tracks[key] = _ejected(track, suspects[key], rules, now)
            verdict.events[key] = Event.EJECTED
        elif not track.withheld:
            verdict.tracks[key] = replace(track, withheld=True)
            verdict.events[key] = Event.WITHHELD
    for key in eligible - suspects.keys():
        if verdict.tracks[key].withheld:
            verdict.tracks[key] = replace(verdict.tracks[key], withheld=False)
    return verdict


def places(backends: int, rules: PassiveRules) -> int:
    """How many backends may be out at once."""
    if rules.max_ejected == 0:
        return 0
    return min(max(1, math.floor(rules.max_ejected * backends + 1e-9)), max(0, backends - 1))


def _forgiven(track: OutlierTrack) -> OutlierTrack:
    """A backend that is already out of service by checks or an operator starts afresh when it returns."""
    if track.excess == 0 and track.silent_since is None and not track.responses and not track.withheld:
        return track
    return replace(track, excess=0, silent_since=None, responses=(), withheld=False)


def _bring_back(verdict: PoolDecision[Key], eligible: Collection[Key], now: float) -> None:
    out = [key for key, track in verdict.tracks.items() if track.is_out]
    stranded = bool(eligible) and all(verdict.tracks[key].is_out for key in eligible)
    for key in out:
        until = verdict.tracks[key].out_until
        if until is not None and until <= now:
            verdict.events[key] = Event.RETURNED
        elif stranded:
            verdict.events[key] = Event.LIFTED
        else:
            continue
        verdict.tracks[key] = replace(_forgiven(verdict.tracks[key]), out_until=None, cause=None, returned_at=now)


def _suspects(
    tracks: Mapping[Key, OutlierTrack], eligible: Collection[Key], rules: PassiveRules, now: float
) -> dict[Key, Cause]:
    serving = [key for key in eligible if not tracks[key].is_out]
    found: dict[Key, Cause] = {}
    for key in serving:
        track = tracks[key]
        if track.excess >= rules.failures:
            found[key] = Cause.FAILURES
        elif track.silent_since is not None and _is_black_hole(
            now - track.silent_since, [tracks[other] for other in serving if other != key], rules, now
        ):
            found[key] = Cause.BLACK_HOLE
    if rules.server_errors is not None:
        fresh = {key: tracks[key] for key in serving}
        found = dict.fromkeys(_with_server_errors(fresh, rules.server_errors, now), Cause.SERVER_ERRORS) | found
    return found


def _with_server_errors(serving: Mapping[Key, OutlierTrack], rule: ServerErrorRule, now: float) -> list[Key]:
    """The backends that fail requests; none if all do, for then it is not the backends that have a fault."""
    shares = {
        key: 0.0 if track.summary is None else share(track.responses, _moment(track.summary, now), rule)
        for key, track in serving.items()
    }
    failing = [key for key, found in shares.items() if is_too_high(found, rule)]
    return [] if len(failing) == len(serving) else failing


def _is_black_hole(silence: float, peers: Collection[OutlierTrack], rules: PassiveRules, now: float) -> bool:
    """Whether the silence stands out: other backends sent data meanwhile, and none is ever silent for that long."""
    if rules.black_hole is None or silence < rules.black_hole:
        return False
    heard = [peer for peer in peers if now - peer.heard_at < silence]
    slowest = max((peer.summary.latency for peer in heard if peer.summary is not None), default=0.0)
    return bool(heard) and silence >= PATIENCE * slowest


def _ejected(track: OutlierTrack, cause: Cause, rules: PassiveRules, now: float) -> OutlierTrack:
    # Each `eject` seconds in service cancel one ejection.
    served = now - track.returned_at
    made_up = MULTIPLE_MAX if math.isinf(served) else math.floor(served / rules.eject)
    ejections = min(max(0, track.ejections - made_up) + 1, MULTIPLE_MAX)
    return replace(_forgiven(track), ejections=ejections, out_until=now + rules.eject * ejections, cause=cause)
