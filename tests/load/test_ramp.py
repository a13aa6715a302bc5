"""Slow start grows steadily from a tenth to all of the weight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.load.ramp import BEGIN, ramp


@pytest.mark.parametrize(("elapsed", "factor"), [(0, 0.1), (2, 0.1), (3, 0.1), (15, 0.5), (27, 0.9), (30, 1), (99, 1)])
def test_the_weight_grows_with_time(elapsed: float, factor: float) -> None:
    assert ramp(elapsed, 30) == pytest.approx(factor)


def test_without_slow_start_there_is_none() -> None:
    assert ramp(0, None) == 1


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0.001, 1e6))
def test_it_only_ever_grows(a: float, b: float, duration: float) -> None:
    assert BEGIN <= ramp(min(a, b), duration) <= ramp(max(a, b), duration) <= 1
