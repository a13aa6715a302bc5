"""A pure state machine over check results: when a backend is up, and when it is checked next.

It counts as HAProxy does: consecutive results decide, and one contradicting result resets the count. A backend that was
never checked is pending: it gets no session before its first successful check, and that one brings it up. A backend
whose checks fail from the beginning goes down like any other, so that the failure is reported.

Some results are inconclusive. If a check times out while the backend sends bytes to its clients, the state stays as it
is, but not for ever. If this host could not make the check, the state stays for as long as that lasts: a shortage on
this host is not the backend's fault.

A backend that goes down again soon after it came up is flapping: each time it needs twice as many successful checks.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace

from l4lb.config import model
from l4lb.health.probes.base import Outcome
from l4lb.status import HealthState

UNDECIDED_MAX = 10
"""Consecutive results that may be inconclusive; further ones count as failures."""

FLAP_WINDOW = 60.0
FLAP_INTERVALS = 10
"""Going down within this many seconds of coming up, or this many intervals if that is longer, is flapping."""

FLAPS_MAX = 4
"""Flaps that count: a backend needs at most 2**4 times as many successful checks as a steady one."""


class Finding(enum.Enum):
    """What a check says about a backend."""

    GOOD = "success"
    BAD = "failure"
    UNDECIDED = "inconclusive"
    HINDERED = "hindered"


def finding(outcome: Outcome, *, bytes_flowed: bool) -> Finding:
    """What the outcome of a check means, given whether the backend sent bytes to clients during the check."""
    if outcome is Outcome.SUCCESS:
        return Finding.GOOD
    if outcome is Outcome.HINDERED:
        return Finding.HINDERED
    if outcome is Outcome.TIMEOUT and bytes_flowed:
        return Finding.UNDECIDED
    return Finding.BAD


@dataclass(frozen=True, slots=True)
class HealthTrack:
    """`streak` counts consecutive results that contradict `state`, `undecided` those that are inconclusive. `risen_at`
    is when the backend last came up after it was down. Times are in seconds of a monotonic clock."""

    state: HealthState = HealthState.PENDING
    streak: int = 0
    undecided: int = 0
    flaps: int = 0
    risen_at: float = -math.inf

    def observe(self, found: Finding, settings: model.Health, now: float) -> HealthTrack:
        """The state after one more result."""
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
        """Consecutive successful checks that bring the backend up."""
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
