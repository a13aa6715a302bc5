"""What checks send and expect."""

from __future__ import annotations

import re
from typing import Annotated, Any

import regex
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from l4lb.base.text import quoted
from l4lb.config.fields.shape import AT_LEAST_ONE, Schema, Written, is_number, list_schema, one_or_many

PAYLOAD_MAX = 4096
"""Bytes that one step of a check sends or searches for."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", re.ASCII)
_HEADER_VALUE = re.compile(r"[\t -~\x80-\xff]{0,4096}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)

STATUS_PATTERN = r"^!?[1-5][0-9]{2}(-[1-5][0-9]{2})?$"
_STATUS = re.compile(STATUS_PATTERN, re.ASCII)
_ALL_STATUSES = frozenset(range(100, 600))


def _statuses(value: Any) -> tuple[int, ...]:
    """The listed codes without those after `!`; if only such are listed, all other codes."""
    named: set[int] = set()
    excluded: set[int] = set()
    for item in one_or_many(value):
        first, _, last = str(item).removeprefix("!").partition("-")
        if isinstance(item, bool) or not _STATUS.fullmatch(str(item)) or int(last or first) < int(first):
            raise ValueError(
                f"{quoted(item)} is not a status; write a code such as 200, a range such as 200-399, "
                f"or ! before codes that count as failures"
            )
        codes = excluded if str(item).startswith("!") else named
        codes.update(range(int(first), int(last or first) + 1))
    left = ((named or _ALL_STATUSES) if excluded else named) - excluded
    if not left:
        raise ValueError("at least one status is expected, such as 200")
    return tuple(sorted(left))


_STATUS_SCHEMA: Schema = {
    "anyOf": [{"type": "integer", "minimum": 100, "maximum": 599}, {"type": "string", "pattern": STATUS_PATTERN}]
}

Statuses = Annotated[
    tuple[int, ...], BeforeValidator(_statuses), list_schema(_STATUS_SCHEMA), Written("codes and ranges")
]
STATUSES_OK = tuple(range(200, 400))


def _payload(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"text is expected, or hex: and digits such as hex:0d0a, not {quoted(value)}")
    text = str(value)
    try:
        data = bytes.fromhex(text.removeprefix("hex:")) if text.startswith("hex:") else text.encode()
    except ValueError:
        raise ValueError(f"{quoted(text)} is not hex: pairs of the digits 0-9 and a-f are expected") from None
    if not 0 < len(data) <= PAYLOAD_MAX:
        raise ValueError(f"1 to {PAYLOAD_MAX} bytes are expected, not {len(data)}")
    return data


Payload = Annotated[bytes, BeforeValidator(_payload), WithJsonSchema({"type": "string"}), Written("text or `hex:…`")]
"""Bytes, written as text or as `hex:` and their digits."""


PATTERN_MAX = 1024
PATTERNS_MAX = 16


def _pattern(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= PATTERN_MAX:
        raise ValueError(f"a regular expression of up to {PATTERN_MAX} characters is expected, not {quoted(value)}")
    try:
        regex.compile(value.removeprefix("!"))
    except regex.error as error:
        raise ValueError(f"{quoted(value)} is not a regular expression: {error}") from None
    return value


def _patterns(value: Any) -> tuple[str, ...]:
    found = tuple(map(_pattern, one_or_many(value)))
    if not 0 < len(found) <= PATTERNS_MAX:
        raise ValueError(f"1 to {PATTERNS_MAX} regular expressions are expected, not {len(found)}")
    return found


Patterns = Annotated[
    tuple[str, ...],
    BeforeValidator(_patterns),
    list_schema({"type": "string"}, PATTERNS_MAX),
    Written("[patterns](#patterns-of-checks)"),
]
"""Regular expressions that have to be found, all of them; one with `!` in front must not be."""

Pairs = tuple[tuple[str, str], ...]


def _pairs(what: str, name: re.Pattern[str], text: re.Pattern[str]) -> BeforeValidator:
    def read(value: Any) -> Pairs:
        items = value.items() if isinstance(value, dict) else value
        if not isinstance(value, dict | list | tuple):
            raise ValueError(f"a section of {what}s and their values is expected, not {quoted(value)}")
        pairs = tuple((key, str(item)) for key, item in items)
        for key, item in pairs:
            if not isinstance(key, str) or not name.fullmatch(key):
                raise ValueError(f"{quoted(key)} is not the name of a {what}")
            if not text.fullmatch(item):
                raise ValueError(
                    f"the value of {what} {quoted(key)} is too long, or has a character that is not allowed"
                )
        if len(pairs) > 64:
            raise ValueError(f"there are more than 64 {what}s")
        return pairs

    return BeforeValidator(read)


_PAIRS_SCHEMA = WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "integer"]}})
_NAMES_AND_VALUES = Written("names and values")
Headers = Annotated[Pairs, _pairs("header", _HEADER_NAME, _HEADER_VALUE), _PAIRS_SCHEMA, _NAMES_AND_VALUES]
Variables = Annotated[
    Pairs, _pairs("variable", _VARIABLE, re.compile(r"[^\x00]{0,4096}")), _PAIRS_SCHEMA, _NAMES_AND_VALUES
]
HeaderPatterns = Annotated[
    Pairs,
    _pairs("header", _HEADER_NAME, re.compile(rf".{{1,{PATTERN_MAX}}}")),
    AfterValidator(lambda pairs: tuple((name, _pattern(text)) for name, text in pairs)),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "integer"]}}),
    Written("names and [patterns](#patterns-of-checks)"),
]
"""Of a header a regular expression that has to be found in its value, or with `!` in front must not be."""

Argument = Annotated[str, BeforeValidator(lambda value: str(value) if is_number(value) else value)]
Command = Annotated[
    tuple[Argument, ...],
    Field(max_length=64),
    BeforeValidator(one_or_many),
    AT_LEAST_ONE,
    list_schema({"type": "string"}, 64),
    Written("a program and its arguments"),
]
"""A program and its arguments."""
