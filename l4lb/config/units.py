"""Durations and rates as people write them: a number and its unit.

A bare number is rejected on purpose: `timeout: 30` means seconds to one reader and milliseconds to the next.
"""

from __future__ import annotations

import re

from l4lb.base.text import quoted

SECONDS_MAX = 365 * 86400.0
"""The longest duration: a year. Anything longer is probably a typo; `off` is clearer."""

DURATION_PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,9})?(ms|s|m|h|d)$"

_DURATION = re.compile(DURATION_PATTERN, re.ASCII)
_BARE = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> float:
    """Parse `250ms`, `5s`, `1.5s`, `10m`, `1h` or `1d` to seconds. ValueError says what to write instead."""
    found = _DURATION.fullmatch(text)
    if found is None:
        if _BARE.fullmatch(text):
            raise ValueError(f"{text} has no unit; write {text}s for seconds (units: ms, s, m, h, d)")
        raise ValueError(
            f"{quoted(text)} is not a duration; write a number and a unit, such as 250ms, 5s, 10m, 1h or 1d"
        )
    unit = found.group(2)
    seconds = float(text.removesuffix(unit)) * _SECONDS[unit]
    if seconds > SECONDS_MAX:
        raise ValueError(f"{text} is longer than the longest duration, 365d")
    return round(seconds, 9)


RATE_PATTERN = r"^[0-9]{1,9}(\.[0-9]{1,6})?/(s|m|h)$"
_RATE = re.compile(RATE_PATTERN, re.ASCII)


def parse_rate(text: str) -> float:
    """Parse `50/s`, `10/m` or `1/h` to a number per second. ValueError says what to write instead."""
    found = _RATE.fullmatch(text)
    if found is None:
        raise ValueError(f"{quoted(text)} is not a rate; write a number and a unit, such as 50/s, 10/m or 1/h")
    number, _, unit = text.partition("/")
    return float(number) / _SECONDS[unit]


def format_duration(seconds: float) -> str:
    """The shortest exact spelling that `parse_duration` accepts: 90.0 -> `90s`, 3600.0 -> `1h`."""
    for unit in ("d", "h", "m", "s"):
        count = seconds / _SECONDS[unit]
        if count >= 1 and count == int(count):
            return f"{int(count)}{unit}"
    return f"{seconds * 1000:.6f}".rstrip("0").rstrip(".") + "ms"
