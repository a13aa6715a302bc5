"""Durations and intervals."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema

from l4lb.base.text import quoted
from l4lb.config.fields.shape import Schema, Written, is_number
from l4lb.config.units import DURATION_PATTERN, SECONDS_MAX, format_duration, parse_duration

KEEPALIVE_MAX = 32_767.0
"""The kernel's, tcp(7)."""


def _duration(least: float, *, most: float = SECONDS_MAX, off: bool = False, whole: bool = False) -> BeforeValidator:
    def read(value: Any, info: ValidationInfo) -> float | None:
        if off and (value == "off" or (value is None and not info.context)):
            return None
        if value == "off":
            raise ValueError("this timer cannot be off; write a duration such as 5s")
        if isinstance(value, str):
            seconds = parse_duration(value)
        elif not is_number(value):
            raise ValueError(f"a duration is expected, such as 250ms, 5s, 10m or 1h{' (or off)' if off else ''}")
        elif info.context:
            raise ValueError(f"{value} has no unit; write {value}s for seconds (units: ms, s, m, h, d)")
        else:
            seconds = float(value)
        if not least <= seconds <= most:
            raise ValueError(f"a duration from {format_duration(least)} to {format_duration(most)} is expected")
        if whole and seconds != int(seconds):
            raise ValueError("whole seconds are expected, because the kernel counts these in seconds")
        return seconds

    return BeforeValidator(read)


_WRITTEN: Schema = {"type": "string", "pattern": DURATION_PATTERN, "examples": ["250ms", "5s", "10m", "1h"]}
_DURATION_SCHEMA = WithJsonSchema(_WRITTEN)
_DURATION_OR_OFF_SCHEMA = WithJsonSchema({"anyOf": [_WRITTEN, {"const": "off"}]})

Timeout = Annotated[float, _duration(0.001), _DURATION_SCHEMA, Written("duration, `1ms` and up")]
TimeoutOrOff = Annotated[
    float | None, _duration(0.001, off=True), _DURATION_OR_OFF_SCHEMA, Written("duration, `1ms` and up, or `off`")
]

Patience = Annotated[float, _duration(0.0), _DURATION_SCHEMA, Written("duration, `0s` and up")]
"""A wait that may be nothing at all: 0s."""

Spread = Annotated[float, _duration(0.0, most=86400.0), _DURATION_SCHEMA, Written("duration, `0s` to `1d`")]
"""A time over which many do something, each in a moment of its own; 0s is all at once."""

PatienceOrOff = Annotated[
    float | None, _duration(0.0, off=True), _DURATION_OR_OFF_SCHEMA, Written("duration, `0s` and up, or `off`")
]


def _read_failback(value: Any) -> Any:
    if value == "on":
        return "0s"
    if isinstance(value, str) and value != "off" and not value[:1].isdigit():
        raise ValueError(f"{quoted(value)} is not known here; write on, off, or a duration such as 5m")
    return value


FailbackOrOff = Annotated[
    float | None,
    _duration(0.0, off=True),
    BeforeValidator(_read_failback),
    WithJsonSchema({"anyOf": [_WRITTEN, {"enum": ["on", "off"]}]}),
    Written("`on`, `off` or a duration"),
]
"""How long to wait before going back: `on` is not at all, `off` for ever."""

Interval = Annotated[float, _duration(0.01, most=86400.0), _DURATION_SCHEMA, Written("duration, `10ms` to `1d`")]
"""The pace of something that repeats."""

_KEEPALIVE_WRITTEN = f"`1s` to `{KEEPALIVE_MAX:.0f}s`, whole seconds"
Keepalive = Annotated[
    float, _duration(1.0, most=KEEPALIVE_MAX, whole=True), _DURATION_SCHEMA, Written(_KEEPALIVE_WRITTEN)
]
KeepaliveOrOff = Annotated[
    float | None,
    _duration(1.0, most=KEEPALIVE_MAX, off=True, whole=True),
    _DURATION_OR_OFF_SCHEMA,
    Written(f"{_KEEPALIVE_WRITTEN}, or `off`"),
]
UserTimeout = Annotated[
    float | None,
    _duration(0.1, most=86400.0, off=True),
    _DURATION_OR_OFF_SCHEMA,
    Written("duration, `100ms` to `1d`, or `off`"),
]
