"""How large a Maglev table has to be for the backends of its pool. Pure.

In a file, a table that is too small is an error. Sources may find more backends than the file foresees: then a larger
table is used, since a backend without a place would get no client.
"""

from __future__ import annotations

from functools import lru_cache

from l4lb.config.fields.numbers import TABLE_SIZE_MAX, is_prime
from l4lb.state.state import PoolEntry

PLACES = 100
"""Places for each backend in a table that is made larger, so that shares are about even."""

MAGLEV = ("maglev", "source_hash")


def table_size(pool: PoolEntry) -> int:
    """The size to use: what the file has, where every backend has a place in it."""
    given, backends = pool.config.hash.table_size, len(pool.backends)
    return given if backends <= given or pool.config.balance not in MAGLEV else _large_enough(backends)


@lru_cache(maxsize=1024)
def _large_enough(backends: int) -> int:
    """A prime above a power of two, so that it seldom changes as backends come and go: that moves clients."""
    least = min(1 << (PLACES * backends - 1).bit_length(), TABLE_SIZE_MAX)
    return next(number for number in range(least, TABLE_SIZE_MAX + 1) if is_prime(number))
