"""Pieces of a handover that fit into messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

Json = dict[str, Any]

BATCH = 256
"""Things told in one message: some kilobytes each at most."""


def batches(items: Sequence[Any], size: int = BATCH) -> Iterator[Sequence[Any]]:
    """The items in pieces that fit into messages."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
