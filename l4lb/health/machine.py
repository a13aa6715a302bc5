"""When is a backend up, and when is it checked next? A pure state machine over check results.

The counting is HAProxy's: consecutive results decide, and one that contradicts the run restores it. A backend that was
never checked is pending: it gets no session before its first good check, which is enough to bring it up. One whose
checks fail from the beginning goes down like any other, so that somebody hears of it.

Some results say nothing. No answer from a backend that sends bytes to its clients meanwhile leaves everything as it is,
but not for ever. A check that this host could not make leaves everything as it is for as long as that lasts: a shortage
here is no fault of any backend.

A backend that goes down again soon after it came up flaps: each time it takes twice as many good checks to come up.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace

from l4lb.config import model
from l4lb.health.probes.base import Outcome
from l4lb.status import HealthState

UNDECIDED_MAX = 10
"""Results in a row that may be undecided; the ones after them are failures."""

FLAP_WINDOW = 60.0
FLAP_INTERVALS = 10
"""Down again within so many seconds, or so many intervals if that is more, is flapping."""

FLAPS_MAX = 4
"""Flaps that count: a backend needs at most 2**4 times as many good checks as one that is steady."""


class Finding(enum.Enum):
    """What a check says of a backend."""

    GOOD = "success"
    BAD = "failure"
    UNDECIDED = "inconclusive"
    HINDERED = "hindered"


def finding(outcome: Outcome, *, bytes_flowed: bool) -> Finding:
    """What the outcome of a check says when the backend did, or did not, send bytes to clients meanwhile."""
    if outcome is Outcome.SUCCESS:
        return Finding.GOOD
    if outcome is Outcome.HINDERED:
        return Finding.HINDERED
    if outcome is Outcome.TIMEOUT and bytes_flowed:
        return Finding.UNDECIDED
    return Finding.BAD


@dataclass(frozen=True, slots=True)
class HealthTrack:
    """`streak` counts the results in a row that speak against `state`, `undecided` those that are undecided. `risen_at`
    is when it last came up after it was down; times are seconds of any clock that does not jump."""

    state: HealthState = HealthState.PENDING
    streak: int = 0
    undecided: int = 0
    flaps: int = 0
    risen_at: float = -math.inf

    def observe(self, found: Finding, settings: model.Health, now: float) -> HealthTrack:
        """The health after one more result."""
        if found is Finding.HINDERED:
            return self
        if found is Finding.UNDECIDED:
            if self.undecided < UNDECIDED_MAX:
                return replace(self, undecided=self.undecided + 1)
            found = Finding.BAD
        elif self.undecided > 0:
            return replace(self, undecided=0).observe(found, settings, now)
        good = found is Finding.GOOD
        if self.state is HealthState.PENDING and good:
            return HealthTrack(HealthState.UP)
        if self.state is (HealthState.UP if good else HealthState.DOWN):
            return self if self.streak == 0 else replace(self, streak=0)
        counted = replace(self, streak=self.streak + 1)
        if good:
            return counted._risen(now) if counted.streak >= self.good_needed(settings) else counted
        return counted._fallen(settings, now) if counted.streak >= settings.fall else counted

    def good_needed(self, settings: model.Health) -> int:
        """Good checks in a row that bring it up."""
        return settings.rise << self.flaps

    def interval(self, settings: model.Health) -> float:
        """Seconds from this check to the next one."""
        if self.streak > 0 or self.state is HealthState.PENDING:
            return settings.fast_interval or settings.interval
        return (settings.down_interval if self.state is HealthState.DOWN else None) or settings.interval

    def _risen(self, now: float) -> HealthTrack:
        return HealthTrack(HealthState.UP, flaps=self.flaps, risen_at=now)

    def _fallen(self, settings: model.Health, now: float) -> HealthTrack:
        soon = now - self.risen_at < max(FLAP_WINDOW, FLAP_INTERVALS * settings.interval)
        return HealthTrack(
            HealthState.DOWN, undecided=self.undecided, flaps=min(self.flaps + 1, FLAPS_MAX) if soon else 0
        )
