"""When checks are due. Pure."""

from __future__ import annotations

import math


def next_turn(planned: float, interval: float, now: float) -> float:
    """The first time after `now` that is a whole number of intervals after the planned one: a late check does not delay
    later ones, and missed checks are not repeated."""
    behind = max(0, math.floor((now - planned) / interval))
    return planned + (behind + 1) * interval
