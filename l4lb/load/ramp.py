"""Slow start: a backend that has just become usable is cold, so its weight grows over time. Pure."""

from __future__ import annotations

BEGIN = 0.1
"""Share of its weight that a backend starts with."""


def ramp(elapsed: float, duration: float | None) -> float:
    """Factor of the weight `elapsed` seconds after the backend became usable. `duration` None disables slow start."""
    if duration is None or elapsed >= duration:
        return 1.0
    return max(BEGIN, elapsed / duration)
