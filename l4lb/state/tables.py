"""How large a Maglev table has to be for the backends of its pool. Pure.

A file with a table that is too small is an error. Sources may find more backends than the table has entries: then a
larger table is used, since a backend without an entry would get no client.
"""

from __future__ import annotations

from functools import lru_cache

from l4lb.config.fields.numbers import TABLE_SIZE_MAX, is_prime
from l4lb.state.state import PoolEntry

ENTRIES_EACH = 100
"""Entries for each backend in an enlarged table, so that shares are about even."""

MAGLEV = ("maglev", "source_hash")


def table_size(pool: PoolEntry) -> int:
    """The size to use: the configured one if it has an entry for every backend."""
    given, backends = pool.config.hash.table_size, len(pool.backends)
    return given if backends <= given or pool.config.balance not in MAGLEV else _large_enough(backends)


@lru_cache(maxsize=1024)
def _large_enough(backends: int) -> int:
    """A prime above a power of two, so that the size seldom changes: each change moves clients."""
    least = min(1 << (ENTRIES_EACH * backends - 1).bit_length(), TABLE_SIZE_MAX)
    return next(number for number in range(least, TABLE_SIZE_MAX + 1) if is_prime(number))
