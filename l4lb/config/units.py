"""Durations and rates as people write them: a number and its unit.

A bare number is refused on purpose: `timeout: 30` means seconds to one reader and milliseconds to the next.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice

SECONDS_MAX = 365 * 86400.0
"""The longest duration: a year. Anything longer is a slip of the keyboard, and `off` says it better."""

DURATION_PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,9})?(ms|s|m|h|d)$"

_DURATION = re.compile(DURATION_PATTERN, re.ASCII)
_BARE = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> float:
    """Seconds that `250ms`, `5s`, `1.5s`, `10m`, `1h` or `1d` stands for. ValueError says what to write instead."""
    found = _DURATION.fullmatch(text)
    if found is None:
        if _BARE.fullmatch(text):
            raise ValueError(f"{text} has no unit; write {text}s for seconds (units: ms, s, m, h, d)")
        raise ValueError(
            f"{shorten(text)} is not a duration; write a number and a unit, such as 250ms, 5s, 10m, 1h or 1d"
        )
    unit = found.group(2)
    seconds = float(text.removesuffix(unit)) * _SECONDS[unit]
    if seconds > SECONDS_MAX:
        raise ValueError(f"{text} is longer than the longest duration, 365d")
    return round(seconds, 9)


RATE_PATTERN = r"^[0-9]{1,9}(\.[0-9]{1,6})?/(s|m|h)$"
_RATE = re.compile(RATE_PATTERN, re.ASCII)


def parse_rate(text: str) -> float:
    """How many a second `50/s`, `10/m` or `1/h` stands for. ValueError says what to write instead."""
    found = _RATE.fullmatch(text)
    if found is None:
        raise ValueError(f"{shorten(text)} is not a rate; write a number and a unit, such as 50/s, 10/m or 1/h")
    number, _, unit = text.partition("/")
    return float(number) / _SECONDS[unit]


def format_duration(seconds: float) -> str:
    """The shortest exact spelling that `parse_duration` reads back: 90.0 -> `90s`, 3600.0 -> `1h`."""
    for unit in ("d", "h", "m", "s"):
        count = seconds / _SECONDS[unit]
        if count >= 1 and count == int(count):
            return f"{int(count)}{unit}"
    return f"{seconds * 1000:.6f}".rstrip("0").rstrip(".") + "ms"


def shorten(value: object, limit: int = 60) -> str:
    """A value as it is quoted in an error sentence: never longer than one line can bear, nor more work than that."""
    text = value[: limit + 1] if isinstance(value, str) else _text(value, limit)
    text = text if text.isprintable() else repr(text)[1:-1]
    return f"'{text}'" if len(text) <= limit else f"'{text[:limit]}…'"


def _text(value: object, limit: int, depth: int = 3) -> str:
    """What `repr` says, begun: of a value that is large or deep only its beginning is looked at."""
    if isinstance(value, str | bytes):
        return repr(value[: limit + 1])
    if isinstance(value, int) and value.bit_length() > 4 * limit:
        return "a very large number"
    if isinstance(value, Mapping):
        if depth == 0:
            return "{…}"
        pairs = islice(value.items(), limit // 2)
        return f"{{{', '.join(f'{_text(key, limit, 0)}: {_text(one, limit, depth - 1)}' for key, one in pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_text(one, limit, depth - 1) for one in value[: limit // 2])}]" if depth else "[…]"
    return repr(value)
