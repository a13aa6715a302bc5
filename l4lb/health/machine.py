"""When is a backend up? A pure state machine over check results.

The counting is HAProxy's: consecutive results decide, and one that contradicts the run restores it. A backend that was
never checked is pending: it gets no session before its first good check, which is enough to bring it up. One whose
checks fail from the beginning goes down like any other, so that somebody hears of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from l4lb.control.api import HealthState


@dataclass(frozen=True, slots=True)
class Health:
    """`streak` counts the results in a row that speak against `state`."""

    state: HealthState = HealthState.PENDING
    streak: int = 0

    def observe(self, ok: bool, *, rise: int, fall: int) -> Health:
        """The health after one more result."""
        if self.state is HealthState.PENDING and ok:
            return Health(HealthState.UP)
        if self.state is (HealthState.UP if ok else HealthState.DOWN):
            return replace(self, streak=0)
        streak = self.streak + 1
        if ok:
            return Health(HealthState.UP) if streak >= rise else replace(self, streak=streak)
        return Health(HealthState.DOWN) if streak >= fall else replace(self, streak=streak)
