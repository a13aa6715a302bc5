"""When health is ignored, and when it counts again."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.state.panic import Standing, is_panic

UP = Standing(tier=0, in_service=True, healthy=True, known=True)
DOWN = Standing(tier=0, in_service=True, healthy=False, known=True)
PENDING = Standing(tier=0, in_service=True, healthy=False, known=False)
DRAINED = Standing(tier=0, in_service=False, healthy=False, known=True)

STANDINGS = st.lists(
    st.builds(
        lambda tier, ready, healthy, known: Standing(tier, ready, ready and healthy and known, known),
        st.integers(0, 2),
        *[st.booleans()] * 3,
    ),
    max_size=12,
)


@pytest.mark.parametrize(
    ("standings", "threshold", "panic"),
    [
        ([UP, DOWN, DOWN, DOWN], 0.5, True),
        ([UP, UP, DOWN, DOWN], 0.5, False),
        ([UP, DOWN, DOWN, DOWN], 0.25, False),
        ([DOWN, DOWN], 0.01, True),
        ([DOWN, DOWN], 0.0, False),
        ([UP, DOWN], 1.0, True),
        ([UP, UP], 1.0, False),
        ([], 1.0, False),
    ],
)
def test_a_panic_is_less_than_the_threshold(standings: list[Standing], threshold: float, panic: bool) -> None:
    assert is_panic(standings, threshold) is panic


@pytest.mark.parametrize("percent", range(1, 101))
def test_exactly_the_threshold_is_enough(percent: int) -> None:
    standings = [UP] * percent + [DOWN] * (100 - percent)
    assert not is_panic(standings, float(str(percent)) / 100)
    assert is_panic([*standings, DOWN], float(str(percent)) / 100)


def test_those_out_of_service_or_not_checked_yet_do_not_count() -> None:
    assert not is_panic([UP, DRAINED, DRAINED, PENDING, PENDING], 1.0)
    assert not is_panic([DRAINED, PENDING], 1.0)
    assert is_panic([DOWN, PENDING, PENDING], 0.5)


def test_a_tier_that_is_well_takes_what_another_cannot() -> None:
    reserve = Standing(tier=1, in_service=True, healthy=True, known=True)
    assert not is_panic([DOWN, DOWN, reserve], 0.5)
    assert is_panic([DOWN, DOWN, Standing(tier=1, in_service=True, healthy=False, known=True)], 0.5)
    assert is_panic([DOWN, DOWN, Standing(tier=1, in_service=False, healthy=False, known=True)], 0.5)


@given(STANDINGS, st.integers(0, 100))
def test_it_is_a_panic_exactly_when_each_tier_that_serves_is_below(standings: list[Standing], percent: int) -> None:
    shares = []
    for tier in range(3):
        ready = [item for item in standings if item.tier == tier and item.in_service and item.known]
        if ready:
            shares.append(Fraction(sum(item.healthy for item in ready), len(ready)))
    expected = bool(shares) and max(shares) < Fraction(percent, 100)
    assert is_panic(standings, percent / 100) is expected
