"""Numbers: counts, limits, rates, and shares."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema

from l4lb.base.limits import CONNECTIONS_MAX, TIERS_MAX, WEIGHT_MAX
from l4lb.config.fields.shape import Schema, Written, is_number
from l4lb.config.units import RATE_PATTERN, parse_rate

RATE_MAX = 1_000_000
PIPES_MAX = 4096
WORKERS_MAX = 64
TABLE_SIZE_MAX = 5_000_011
PROBES_MAX = 127
"""The kernel's, tcp(7)."""


def _auto(least: int, most: int) -> BeforeValidator:
    def read(value: Any) -> Any:
        if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and least <= value <= most):
            return value
        raise ValueError(f"a whole number from {least} to {most}, or auto, is expected")

    return BeforeValidator(read)


Workers = Annotated[int | Literal["auto"], _auto(1, WORKERS_MAX), Written(f"1 to {WORKERS_MAX} or `auto`")]
Capacity = Annotated[int | Literal["auto"], _auto(1, CONNECTIONS_MAX), Written(f"1 to {CONNECTIONS_MAX} or `auto`")]
Pipes = Annotated[int | Literal["auto"], _auto(0, PIPES_MAX), Written(f"0 to {PIPES_MAX} or `auto`")]
Connections = Annotated[int, Field(strict=True, ge=0, le=CONNECTIONS_MAX)]
MaxBusy = Annotated[int | Literal["auto"], _auto(0, CONNECTIONS_MAX), Written(f"0 to {CONNECTIONS_MAX} or `auto`")]
Count = Annotated[int, Field(strict=True, ge=1, le=1000)]
Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
Backlog = Annotated[int, Field(strict=True, ge=1, le=65535)]
Probes = Annotated[int, Field(strict=True, ge=1, le=PROBES_MAX)]
Retries = Annotated[int, Field(strict=True, ge=0, le=100)]
Weight = Annotated[int, Field(strict=True, ge=0, le=WEIGHT_MAX)]
Tier = Annotated[int, Field(strict=True, ge=0, le=TIERS_MAX - 1)]
QueueSize = Annotated[int, Field(strict=True, ge=1, le=100_000)]
StickyEntries = Annotated[int, Field(strict=True, ge=1, le=10_000_000)]
MaxLoad = Annotated[float, Field(ge=1.01, le=100.0)]


def _rate(value: Any, info: ValidationInfo) -> float:
    if isinstance(value, str):
        rate = parse_rate(value)
    elif is_number(value) and not info.context:
        rate = float(value)
    else:
        raise ValueError("a rate is expected, such as 50/s or 10/m")
    if not 0 < rate <= RATE_MAX:
        raise ValueError(f"a rate above 0 and up to {RATE_MAX}/s is expected")
    return rate


Rate = Annotated[
    float,
    BeforeValidator(_rate),
    WithJsonSchema({"type": "string", "pattern": RATE_PATTERN, "examples": ["50/s", "10/m"]}),
    Written("rate"),
]
"""How many a second."""

NUMBER_PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,9})?$"

_NUMBER = re.compile(NUMBER_PATTERN, re.ASCII)


def _number(least: float, most: float, *, off: bool = False) -> BeforeValidator:
    def read(value: Any, info: ValidationInfo) -> float | None:
        if off and (value == "off" or (value is None and not info.context)):
            return None
        number = float(value) if is_number(value) or (isinstance(value, str) and _NUMBER.fullmatch(value)) else None
        if number is None or not least <= number <= most:
            raise ValueError(f"a number from {least:.12g} to {most:.12g}{', or off,' if off else ''} is expected")
        return number

    return BeforeValidator(read)


_WRITTEN_NUMBER: Schema = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": NUMBER_PATTERN}]}
Limit = Annotated[
    float | None,
    _number(0.001, 1e6, off=True),
    WithJsonSchema({"anyOf": [_WRITTEN_NUMBER, {"const": "off"}]}),
    Written("a number or `off`"),
]
"""How much of something is all of it."""


def _prime(value: Any) -> Any:
    if isinstance(value, int) and 2 <= value <= TABLE_SIZE_MAX and not is_prime(value):
        above = next(number for number in range(value, TABLE_SIZE_MAX + 1) if is_prime(number))
        raise ValueError(f"{value} is not a prime number; the next one is {above}")
    return value


def is_prime(number: int) -> bool:
    return all(number % divisor for divisor in range(2, int(number**0.5) + 1))


TableSize = Annotated[
    int,
    Field(strict=True, ge=2, le=TABLE_SIZE_MAX),
    BeforeValidator(_prime),
    Written(f"a prime, 2 to {TABLE_SIZE_MAX}"),
]

PERCENTAGE_PATTERN = r"^[0-9]{1,3}(\.[0-9]{1,3})?%$"

_PERCENTAGE = re.compile(PERCENTAGE_PATTERN, re.ASCII)


def _percentage(most: int) -> BeforeValidator:
    def read(value: Any, info: ValidationInfo) -> float:
        if isinstance(value, str) and _PERCENTAGE.fullmatch(value):
            share = float(value.removesuffix("%")) / 100
        elif is_number(value) and not info.context:
            share = float(value)
        else:
            raise ValueError(f"a percentage is expected, such as {most}%")
        if not 0 <= share <= most / 100:
            raise ValueError(f"a percentage from 0% to {most}% is expected")
        return share

    return BeforeValidator(read)


_PERCENTAGE_SCHEMA = WithJsonSchema({"type": "string", "pattern": PERCENTAGE_PATTERN, "examples": ["50%"]})
Percentage = Annotated[float, _percentage(100), _PERCENTAGE_SCHEMA, Written("percentage")]
"""A share of a whole."""

Spread = Annotated[float, _percentage(50), _PERCENTAGE_SCHEMA, Written("percentage up to `50%`")]
"""How far something may be off, either way."""
