"""When connections are moved, which are too many, and how many of them go at once."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.config.model import Rebalance
from l4lb.state.rebalance import (
    LASTING,
    LASTING_MAX,
    WINDOW,
    Effort,
    Share,
    allot,
    begun,
    gained,
    is_uneven,
    surplus,
    watched,
)
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


def test_nothing_is_moved_where_each_request_is_balanced() -> None:
    followed = REBALANCED | {"protocol": "http1"}
    two, three = merged(config(A, B, pool=followed)), merged(config(A, B, C, pool=followed))
    assert gained(two, three) == set()
    assert three.pools["app"].rebalance is None


def test_remaining_backends_gain_when_another_goes() -> None:
    two = merged(config(A, B, pool=REBALANCED))
    key, entry = next(iter(two.backends()))
    assert gained(two, two.with_backends({key: replace(entry, health=HealthState.DOWN)})) == {"app"}


def test_surplus_is_what_lies_beyond_the_share_by_weight() -> None:
    assert surplus({"a": Share(64, 1), "b": Share(64, 1), "new": Share(0, 1)}) == {"a": 21, "b": 21}
    assert surplus({"a": Share(90, 1), "new": Share(0, 2)}) == {"a": 60}
    assert surplus({"a": Share(10, 1), "b": Share(10, 1)}) == {}


def test_one_too_many_is_a_surplus_only_where_another_backend_has_too_few() -> None:
    assert surplus({"a": Share(16, 1), "b": Share(16, 1), "c": Share(16, 1), "new": Share(12, 1)}) == dict.fromkeys(
        "abc", 1
    )
    assert surplus({"a": Share(16, 1), "b": Share(15, 1), "c": Share(15, 1), "new": Share(14, 1)}) == {}
    assert surplus({"a": Share(3, 1), "b": Share(3, 1), "c": Share(3, 1), "new": Share(1, 1)}) == {}


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


# ---- efforts without a gain ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "uneven"),
    [
        ({"a": 15, "b": 15, "c": 15, "new": 0}, True),
        ({"a": 100, "b": 100, "c": 100, "new": 60}, True),
        ({"a": 100, "b": 110, "c": 80}, False),
        ({"a": 3, "b": 1, "c": 0}, False),
        ({"a": 0, "b": 0}, False),
        ({}, False),
    ],
)
def test_chance_makes_no_pool_uneven(counts: dict[str, int], uneven: bool) -> None:
    assert is_uneven([{name: Share(count, 1) for name, count in counts.items()}]) is uneven


def test_backends_without_new_sessions_and_other_groups_make_no_pool_uneven() -> None:
    assert not is_uneven([{"a": Share(10, 1), "b": Share(10, 1), "drained": Share(50, 0)}])
    assert not is_uneven([{"a": Share(100, 1)}, {"reserve": Share(0, 1)}])


def look(effort: Effort, seconds: range, *, uneven: bool) -> tuple[Effort, list[int]]:
    """A look every second, and the seconds at which an effort was on. Each closes a connection."""
    on = []
    for now in seconds:
        effort = watched(effort, uneven=uneven, connections=30, now=now)
        if effort.is_on(now):
            effort = effort.spent(1)
            on.append(now)
    return effort, on


def test_an_effort_begins_when_a_pool_has_been_uneven_for_a_while() -> None:
    effort, on = look(Effort(), range(100, 100 + int(LASTING)), uneven=True)
    assert on == []
    effort, on = look(effort, range(100 + int(LASTING), 150), uneven=True)
    assert on[0] == 100 + LASTING
    _, on = look(Effort(), range(100, 5000), uneven=False)
    assert on == []


def test_an_effort_closes_each_connection_about_once() -> None:
    _, on = look(Effort(), range(100, 100 + int(LASTING + WINDOW)), uneven=True)
    assert len(on) == 30


def test_efforts_in_vain_become_rare() -> None:
    _, on = look(Effort(), range(86_400), uneven=True)
    begins = [now for now, before in zip(on, [-math.inf, *on], strict=False) if now - before > 1]
    pauses = [later - now for now, later in itertools.pairwise(begins)]
    assert pauses == sorted(pauses)
    assert pauses[-1] >= LASTING_MAX
    assert len(on) < 1000


def test_a_moment_of_evenness_is_no_reason_to_try_again_soon() -> None:
    effort, _ = look(Effort(), range(2000), uneven=True)
    patience = effort.patience
    assert patience > LASTING
    effort, _ = look(effort, range(2000, 2005), uneven=False)
    assert effort.patience == patience
    effort, _ = look(effort, range(2005, 2005 + 2 * int(patience)), uneven=False)
    assert effort.patience == LASTING


def test_a_gain_begins_an_effort_at_once_and_without_a_bound_of_connections() -> None:
    _, on = look(begun(100.0), range(100, 300), uneven=False)
    assert on == list(range(100, 100 + int(WINDOW)))
