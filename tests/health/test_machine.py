"""When a backend is up: the state machine against a model that looks at the whole history."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.control.api import HealthState
from l4lb.health.machine import Health

UP, DOWN, PENDING = HealthState.UP, HealthState.DOWN, HealthState.PENDING


def after(results: list[bool], *, rise: int = 2, fall: int = 3, state: HealthState = PENDING) -> HealthState:
    health = Health(state)
    for ok in results:
        health = health.observe(ok, rise=rise, fall=fall)
    return health.state


def model(results: list[bool], rise: int, fall: int, state: HealthState) -> HealthState:
    """The state by definition: it flips when the last `rise` or `fall` results since the last flip all say so."""
    since: list[bool] = []
    for ok in results:
        since.append(ok)
        good = 1 if state is PENDING else rise
        if state is not UP and len(since) >= good and all(since[-good:]):
            state, since = UP, []
        elif state is not DOWN and len(since) >= fall and not any(since[-fall:]):
            state, since = DOWN, []
    return state


@given(
    st.lists(st.booleans(), max_size=40),
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from([UP, DOWN, PENDING]),
)
def test_agrees_with_the_model(results: list[bool], rise: int, fall: int, state: HealthState) -> None:
    assert after(results, rise=rise, fall=fall, state=state) is model(results, rise, fall, state)


@pytest.mark.parametrize(
    ("state", "results", "expected"),
    [
        (PENDING, [True], UP),
        (PENDING, [False, False], PENDING),
        (PENDING, [False, False, True], UP),
        (PENDING, [False, False, False], DOWN),
        (UP, [False, False], UP),
        (UP, [False, False, True, False, False], UP),
        (UP, [False, False, False], DOWN),
        (DOWN, [True], DOWN),
        (DOWN, [True, False, True], DOWN),
        (DOWN, [True, True], UP),
    ],
)
def test_rise_2_fall_3(state: HealthState, results: list[bool], expected: HealthState) -> None:
    assert after(results, state=state) is expected


def test_settings_may_change_between_checks() -> None:
    health = Health(UP).observe(False, rise=2, fall=5)
    assert health.observe(False, rise=2, fall=2).state is DOWN
