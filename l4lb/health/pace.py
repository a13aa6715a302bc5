"""When checks are due. Pure."""

from __future__ import annotations

import math


def next_turn(planned: float, interval: float, now: float) -> float:
    """The first turn after `now`, whole intervals after the one that was planned: late checks shift no later ones, and
    turns that were missed are not made up for."""
    behind = max(0, math.floor((now - planned) / interval))
    return planned + (behind + 1) * interval
