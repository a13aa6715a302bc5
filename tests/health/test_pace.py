"""When checks are due: whole intervals apart, whatever came between."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from l4lb.health.pace import next_turn


@given(st.integers(0, 1000), st.integers(1, 100), st.integers(-1, 5000))
def test_next_turn_is_the_first_one_after_now(planned: int, interval: int, late: int) -> None:
    now = planned + late
    turn = next_turn(planned, interval, now)
    assert turn > now
    assert (turn - planned) % interval == 0
    assert turn == planned + interval or turn - interval <= now


def test_late_checks_shift_no_later_ones() -> None:
    turn = 0.0
    for _ in range(1000):
        turn = next_turn(turn, 1.0, turn + 0.4)
    assert turn == 1000.0
