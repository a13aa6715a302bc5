"""Shared parts of all field types: booleans are not numbers, and a single value may stand for a list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BeforeValidator, WithJsonSchema

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """How a value of a type is written, for the reference; pydantic ignores it."""

    text: str


ENTRIES_MAX = 4096
"""Addresses or codes in one list."""


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def one_or_many(value: Any) -> Any:
    return value if isinstance(value, list | tuple | set | frozenset) else (value,)


def _at_least_one(value: Any) -> Any:
    if isinstance(value, list | tuple) and not value:
        raise ValueError("the list is empty; give at least one entry")
    return value


AT_LEAST_ONE = BeforeValidator(_at_least_one)


def list_schema(item: Schema, most: int = ENTRIES_MAX) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [item, {"type": "array", "items": item, "maxItems": most}]})
