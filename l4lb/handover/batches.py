"""Splits the items of a handover into pieces that fit into messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

Json = dict[str, Any]

BATCH = 256
"""Items in one message; each has some kilobytes at most."""


def batches(items: Sequence[Any], size: int = BATCH) -> Iterator[Sequence[Any]]:
    """The items, BATCH at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
