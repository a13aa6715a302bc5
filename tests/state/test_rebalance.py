"""Which connections are too many, and how many of them go at once."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.config.model import Rebalance
from l4lb.state.rebalance import Share, allot, gained, surplus
from l4lb.state.state import State
from l4lb.status import HealthState
from tests.helpers.build import config, merged

A, B, C = "127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"
REBALANCED: dict[str, object] = {"rebalance": {}}
SHARES = st.dictionaries(
    st.text(min_size=1, max_size=3),
    st.builds(Share, connections=st.integers(0, 5000), weight=st.integers(0, 256)),
    max_size=8,
)


def test_joining_returning_and_growing_backends_gain() -> None:
    two, three = merged(config(A, B, pool=REBALANCED)), merged(config(A, B, C, pool=REBALANCED))
    assert gained(two, three) == {"app"}
    assert gained(two, two) == set()
    entry = two.backends().__next__()[1]
    key = ("app", A)
    down = two.with_backends({key: replace(entry, health=HealthState.DOWN)})
    assert gained(down, two) == {"app"}
    heavier = two.with_backends({key: replace(entry, weight=9)})
    assert gained(two, heavier) == {"app"}


def test_nothing_is_moved_without_rebalancing_nor_in_a_new_pool() -> None:
    assert gained(merged(config(A)), merged(config(A, B))) == set()
    assert gained(State(), merged(config(A, pool=REBALANCED))) == set()


def test_remaining_backends_gain_when_another_goes() -> None:
    two = merged(config(A, B, pool=REBALANCED))
    key, entry = next(iter(two.backends()))
    assert gained(two, two.with_backends({key: replace(entry, health=HealthState.DOWN)})) == {"app"}


def test_surplus_is_what_lies_beyond_the_share_by_weight() -> None:
    assert surplus({"a": Share(64, 1), "b": Share(64, 1), "new": Share(0, 1)}) == {"a": 21, "b": 21}
    assert surplus({"a": Share(90, 1), "new": Share(0, 2)}) == {"a": 60}
    assert surplus({"a": Share(10, 1), "b": Share(10, 1)}) == {}


@pytest.mark.parametrize("shares", [{}, {"a": Share(5, 0)}, {"a": Share(0, 1)}, {"only": Share(1000, 3)}])
def test_there_is_no_surplus_where_no_other_backend_could_take_it(shares: dict[str, Share]) -> None:
    assert surplus(shares) == {}


@given(SHARES)
def test_moving_the_surplus_away_leaves_no_backend_below_its_share(shares: dict[str, Share]) -> None:
    weights = sum(share.weight for share in shares.values())
    total = sum(share.connections for share in shares.values())
    for name, count in surplus(shares).items():
        assert 0 < count <= shares[name].connections
        assert shares[name].connections - count >= total * shares[name].weight / weights


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.integers(1, 500), min_size=1, max_size=6), st.integers())
def test_allotment_never_exceeds_surplus_or_rate(surpluses: dict[str, int], seed: int) -> None:
    settings = Rebalance(rate=40.0)
    closed = allot(surpluses, settings, 0.25, random.Random(seed))
    assert all(0 < count <= surpluses[name] for name, count in closed.items())
    assert sum(closed.values()) <= 40 * 0.25 * 1.5 + len(surpluses)


def test_low_rates_close_something_in_the_end() -> None:
    dice = random.Random(1)
    rounds = [sum(allot({"a": 10}, Rebalance(rate=1.0), 0.25, dice).values()) for _ in range(400)]
    assert 50 < sum(rounds) < 200
