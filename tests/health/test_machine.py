"""When a backend is up and when it is checked next: the state machine against one that looks at the whole history."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.config import model
from l4lb.health.machine import FLAP_WINDOW, FLAPS_MAX, UNDECIDED_MAX, Finding, HealthTrack, finding
from l4lb.health.probes import Outcome
from l4lb.status import HealthState

UP, DOWN, PENDING = HealthState.UP, HealthState.DOWN, HealthState.PENDING
GOOD, BAD, UNDECIDED, HINDERED = Finding.GOOD, Finding.BAD, Finding.UNDECIDED, Finding.HINDERED

RARELY = 10 * FLAP_WINDOW


def settings(**values: Any) -> model.Health:
    return model.Health.model_validate({"rise": 2, "fall": 3} | values)


def after(results: list[Finding], health: HealthTrack, rules: model.Health, pause: float = RARELY) -> HealthTrack:
    """The health after these results, `pause` seconds apart."""
    for number, result in enumerate(results):
        health = health.observe(result, rules, number * pause)
    return health


def wanted(results: list[bool], rise: int, fall: int, state: HealthState) -> HealthState:
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
def test_agrees_with_the_definition(results: list[bool], rise: int, fall: int, state: HealthState) -> None:
    found = [GOOD if ok else BAD for ok in results]
    rules = settings(rise=rise, fall=fall)
    assert after(found, HealthTrack(state), rules).state is wanted(results, rise, fall, state)


@pytest.mark.parametrize(
    ("state", "results", "expected"),
    [
        (PENDING, [GOOD], UP),
        (PENDING, [BAD, BAD], PENDING),
        (PENDING, [BAD, BAD, GOOD], UP),
        (PENDING, [BAD, BAD, BAD], DOWN),
        (UP, [BAD, BAD], UP),
        (UP, [BAD, BAD, GOOD, BAD, BAD], UP),
        (UP, [BAD, BAD, BAD], DOWN),
        (DOWN, [GOOD], DOWN),
        (DOWN, [GOOD, BAD, GOOD], DOWN),
        (DOWN, [GOOD, GOOD], UP),
    ],
)
def test_rise_2_fall_3(state: HealthState, results: list[Finding], expected: HealthState) -> None:
    assert after(results, HealthTrack(state), settings()).state is expected


def test_settings_may_change_between_checks() -> None:
    health = HealthTrack(UP).observe(BAD, settings(fall=5), 0)
    assert health.observe(BAD, settings(fall=2), 1).state is DOWN


# ---- results that say nothing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "flowed", "expected"),
    [
        (Outcome.SUCCESS, False, GOOD),
        (Outcome.SUCCESS, True, GOOD),
        (Outcome.FAILURE, False, BAD),
        (Outcome.FAILURE, True, BAD),
        (Outcome.TIMEOUT, False, BAD),
        (Outcome.TIMEOUT, True, UNDECIDED),
        (Outcome.HINDERED, False, HINDERED),
        (Outcome.HINDERED, True, HINDERED),
    ],
)
def test_only_a_timeout_is_excused_by_bytes_that_flow(outcome: Outcome, flowed: bool, expected: Finding) -> None:
    assert finding(outcome, bytes_flowed=flowed) is expected


@given(st.lists(st.sampled_from([GOOD, BAD, UNDECIDED]), max_size=60), st.sampled_from([UP, DOWN, PENDING]))
def test_a_few_undecided_results_change_nothing(results: list[Finding], state: HealthState) -> None:
    runs = [list(run) for _, run in itertools.groupby(results)]
    limited = [found for run in runs for found in (run[:UNDECIDED_MAX] if run[0] is UNDECIDED else run)]
    decided = [found for found in limited if found is not UNDECIDED]
    assert after(limited, HealthTrack(state), settings()).state is after(decided, HealthTrack(state), settings()).state


def test_too_many_undecided_results_in_a_row_are_failures() -> None:
    rules = settings(fall=3)
    held = after([UNDECIDED] * (UNDECIDED_MAX + 2), HealthTrack(UP), rules)
    assert held.state is UP
    assert after([UNDECIDED], held, rules).state is DOWN
    assert after([GOOD, *[UNDECIDED] * (UNDECIDED_MAX + 2)], held, rules).state is UP


@given(
    st.lists(st.sampled_from([GOOD, BAD, UNDECIDED, HINDERED]), max_size=60),
    st.integers(0, 1000),
    st.sampled_from([UP, DOWN, PENDING]),
)
def test_checks_that_this_host_could_not_make_change_nothing_however_many(
    results: list[Finding], more: int, state: HealthState
) -> None:
    made = [found for found in results if found is not HINDERED]
    health = after(made, HealthTrack(state), settings(), pause=0)
    assert after(results, HealthTrack(state), settings(), pause=0) == health
    assert after([HINDERED] * more, health, settings()) == health


# ---- flapping --------------------------------------------------------------------------------------------------------


def flap(health: HealthTrack, rules: model.Health, pause: float) -> tuple[HealthTrack, int]:
    """Fail until it is down and pass until it is up; the good checks that it took."""
    now = health.risen_at if health.risen_at > 0 else 0.0
    while health.state is UP:
        now += pause
        health = health.observe(BAD, rules, now)
    for count in itertools.count(1):
        now += pause
        health = health.observe(GOOD, rules, now)
        if health.state is UP:
            return health, count
    raise AssertionError


def test_backend_that_flaps_needs_ever_more_good_checks_up_to_a_bound() -> None:
    health, counts = HealthTrack(UP), []
    for _ in range(FLAPS_MAX + 3):
        health, count = flap(health, settings(), pause=1)
        counts.append(count)
    assert counts == [2, 4, 8, 16, 32, 32, 32]


def test_backend_that_stayed_up_for_long_does_not_flap() -> None:
    health = HealthTrack(UP)
    for _ in range(4):
        health, count = flap(health, settings(), pause=FLAP_WINDOW)
        assert count == 2


def test_what_is_soon_depends_on_how_often_is_asked() -> None:
    health, counts = HealthTrack(UP), []
    for _ in range(3):
        health, count = flap(health, settings(interval=RARELY), pause=RARELY)
        counts.append(count)
    assert counts == [2, 4, 8]


# ---- intervals -------------------------------------------------------------------------------------------------------

PACED = settings(interval=10, fast_interval=1, down_interval=30)


@pytest.mark.parametrize(
    ("state", "results", "expected"),
    [
        (PENDING, [], 1),
        (PENDING, [BAD], 1),
        (PENDING, [GOOD], 10),
        (UP, [], 10),
        (UP, [BAD], 1),
        (UP, [BAD, GOOD], 10),
        (UP, [BAD, BAD, BAD], 30),
        (DOWN, [], 30),
        (DOWN, [GOOD], 1),
        (DOWN, [GOOD, BAD], 30),
        (UP, [UNDECIDED], 10),
    ],
)
def test_checks_come_faster_when_the_state_may_change_and_rarely_when_it_is_down(
    state: HealthState, results: list[Finding], expected: float
) -> None:
    assert after(results, HealthTrack(state), PACED).interval(PACED) == expected


@pytest.mark.parametrize("state", [UP, DOWN, PENDING])
def test_without_other_intervals_there_is_one(state: HealthState) -> None:
    assert HealthTrack(state, streak=1).interval(settings(interval=7)) == 7
    assert HealthTrack(state).interval(settings(interval=7)) == 7
