"""Every backend has a place in the table of its pool, however many a source finds."""

from __future__ import annotations

import logging

import pytest

from l4lb.balancer.alarms import Alarms
from l4lb.config.fields.numbers import TABLE_SIZE_MAX, is_prime
from l4lb.engine._native import maglev_table
from l4lb.state.state import State
from l4lb.state.tables import _large_enough, table_size
from tests.helpers.build import config, merged


def state(backends: int, **pool: object) -> State:
    """A pool that was found to have so many."""
    wanted = config(pool={"balance": "maglev", "hash": {"table_size": 7}, "discover": {"file": {"path": "x"}}} | pool)
    found = [{"name": f"b{number}", "address": f"10.0.0.1:{number + 1}"} for number in range(backends)]
    filled = config(*found).pools["app"].backends
    app = wanted.pools["app"].model_copy(update={"backends": filled})
    return merged(wanted.model_copy(update={"pools": {"app": app}}))


def size(backends: int, **pool: object) -> int:
    return table_size(state(backends, **pool).pools["app"])


def test_the_table_of_the_file_is_used_as_long_as_all_have_a_place() -> None:
    assert (size(0), size(7), size(12, balance="random")) == (7, 7, 7)


@pytest.mark.parametrize("balance", ["maglev", "source_hash"])
def test_a_table_that_is_too_small_is_made_larger(balance: str) -> None:
    large = size(12, balance=balance)
    assert large == size(13, balance=balance) == 2053
    names = [f"b{number}" for number in range(12)]
    assert len(set(maglev_table(names, [1] * 12, large))) == 12


def test_sizes_are_primes_within_bounds() -> None:
    sizes = [_large_enough(backends) for backends in (1, 2, 8, 1000, 16_384, 64_000)]
    assert sizes == sorted(sizes)
    assert all(is_prime(one) and one <= TABLE_SIZE_MAX for one in sizes)
    assert sizes[-1] > 64_000


def test_it_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    alarms = Alarms()
    with caplog.at_level(logging.WARNING):
        for backends in (7, 12, 13, 12):
            alarms.look_for_tables(state(backends))
    (record,) = caplog.records
    assert "pool app has 12 backends, more than the 7 entries" in record.getMessage()
