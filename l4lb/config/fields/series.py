"""Metrics, by the names they go by."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from l4lb.config.fields.shape import list_schema, one_or_many
from l4lb.config.units import shorten
from l4lb.load.exposition import LABEL_PATTERN, NAME_PATTERN, Series


def _series(value: Any) -> Series:
    if isinstance(value, Series):
        return value
    if not isinstance(value, str):
        raise ValueError(f"a metric name is expected, not {shorten(value)}")
    return Series.parse(value)


_LABELS_PATTERN = rf"\{{\s*({LABEL_PATTERN}(\s*,\s*{LABEL_PATTERN})*\s*,?)?\s*\}}"
SERIES_PATTERN = rf"^{NAME_PATTERN}\s*({_LABELS_PATTERN})?\s*%?$"

Chain = Annotated[
    tuple[Annotated[Series, BeforeValidator(_series)], ...],
    Field(max_length=64),
    BeforeValidator(one_or_many),
    list_schema({"type": "string", "pattern": SERIES_PATTERN}, 64),
]
"""The names a metric goes by; the first that is there counts."""
