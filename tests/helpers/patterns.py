"""Byte patterns that know where they belong.

Byte `offset` of the pattern of `key` is a function of both, so one comparison finds a byte that was lost, doubled,
reordered or delivered to another connection.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

BLOCK = 1 << 16


@lru_cache(maxsize=512)
def _block(key: int, index: int) -> bytes:
    return hashlib.shake_128(b"%d/%d" % (key, index)).digest(BLOCK)


def pattern(key: int, offset: int, length: int) -> bytes:
    """`length` bytes of the pattern of `key` from `offset`."""
    first, last = offset // BLOCK, (offset + length + BLOCK - 1) // BLOCK
    whole = b"".join(_block(key, index) for index in range(first, last))
    start = offset - first * BLOCK
    return whole[start : start + length]


class Checker:
    """Receives the stream of one key and refuses the first byte that is not the expected one."""

    def __init__(self, key: int) -> None:
        self.key = key
        self.count = 0

    def feed(self, data: bytes) -> None:
        """AssertionError names the offset of the first wrong byte."""
        expected = pattern(self.key, self.count, len(data))
        if data != expected:
            wrong = next(i for i, (a, b) in enumerate(zip(data, expected, strict=True)) if a != b)
            raise AssertionError(
                f"stream {self.key}: wrong byte at offset {self.count + wrong}: "
                f"got {data[wrong : wrong + 8].hex()}, expected {expected[wrong : wrong + 8].hex()}"
            )
        self.count += len(data)
