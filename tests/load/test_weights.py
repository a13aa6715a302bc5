"""Load becomes weights by rules that hold whatever backends say, or fail to say."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.load.weights import (
    BLACKOUT,
    FLOOR,
    HYSTERESIS,
    TAU,
    LoadRules,
    LoadTrack,
    Sample,
    Traffic,
    dispatched,
    observe,
    step,
    target_factors,
    utilisation,
)

RULES = LoadRules(limits={"queue": 5, "kv": 0.8, "running": None, "cpu": 1.0}, stale_after=2, expire=180)
NOW = 1000.0


def track(age: float = 0.0, /, traffic: Traffic | None = None, **readings: float) -> LoadTrack:
    """A track whose sample is that old."""
    return LoadTrack(sample=Sample(NOW - age, readings, traffic or Traffic()))  # type: ignore[arg-type]


def targets(traffic: dict[str, Traffic] | None = None, /, **tracks: LoadTrack) -> dict[str, float]:
    return target_factors(tracks, traffic or {}, tracks.keys(), RULES, NOW)


def test_a_backend_is_worth_what_it_has_left_of_the_scarcest_thing() -> None:
    found = targets(idle=track(queue=0, kv=0), queued=track(queue=2, kv=0.1), cached=track(queue=0, kv=0.6))
    assert found == pytest.approx({"idle": 1, "queued": 0.6, "cached": 0.25})


def test_a_full_backend_keeps_the_least_factor() -> None:
    assert targets(a=track(queue=5), b=track(queue=500)) == {"a": FLOOR, "b": FLOOR}


def test_what_has_no_limit_does_not_count() -> None:
    assert utilisation({"running": 400.0}, RULES.limits) is None
    assert utilisation({"running": 400.0, "queue": 1.0}, RULES.limits) == pytest.approx(0.2)


def test_turns_that_came_since_the_scrape_count_as_waiting() -> None:
    then = Traffic(turns_total=10, busy=2)
    assert dispatched(then, Traffic(turns_total=14, busy=5)) == 3
    found = targets(
        {"a": Traffic(14, 5), "b": Traffic(10, 2)}, a=track(queue=0, traffic=then), b=track(queue=0, traffic=then)
    )
    assert found == pytest.approx({"a": 0.4, "b": 1})


def test_a_backend_that_drops_its_connections_does_not_look_idle() -> None:
    then = Traffic(turns_total=90, busy=40)
    assert dispatched(then, Traffic(turns_total=90, busy=0)) == 0


def test_counters_that_began_anew_count_what_is_in_flight() -> None:
    assert dispatched(Traffic(turns_total=90, busy=40), Traffic(turns_total=3, busy=2)) == 2


@pytest.mark.parametrize("unknown", [LoadTrack(), track(500, queue=0), track(10, queue=0), track(kv=0.0)])
def test_a_backend_that_is_not_known_is_worth_the_average_at_most(unknown: LoadTrack) -> None:
    """It never said anything, said it too long ago, is late, or lacks a signal that the others have."""
    found = targets(a=track(queue=4, kv=0), b=track(queue=2, kv=0), unknown=unknown)
    assert found["unknown"] == pytest.approx((0.2 + 0.6) / 2)


def test_old_bad_news_fades() -> None:
    ages = {f"aged{age}": track(age, queue=5) for age in (1, 2, 91, 180, 500)}
    found = targets(idle=track(queue=0), **ages)
    # The one of a second counts as known, beside the idle one.
    average = (1 + FLOOR) / 2
    assert [found[name] for name in ages] == pytest.approx(
        [FLOOR, FLOOR, FLOOR + (average - FLOOR) / 2, average, average]
    )


def test_numbers_are_ignored_when_all_are_old() -> None:
    assert targets(a=track(3, queue=5), b=track(400, queue=0), c=LoadTrack()) == {"a": 1, "b": 1, "c": 1}


def test_the_average_is_that_of_the_backends_that_serve() -> None:
    tracks = {"busy": track(queue=4), "drained": track(queue=0), "unknown": LoadTrack()}
    found = target_factors(tracks, {}, {"busy", "unknown"}, RULES, NOW)
    assert found["unknown"] == pytest.approx(0.2)


def test_a_backend_that_recovers_is_not_believed_at_once() -> None:
    before = track(400, queue=0)
    recovered = observe(before, Sample(NOW, {"queue": 0}), RULES)
    tracks = {"recovered": recovered, "busy": track(queue=4)}
    assert target_factors(tracks, {}, tracks.keys(), RULES, NOW)["recovered"] == pytest.approx(0.2)
    later = NOW + BLACKOUT
    tracks = {
        "recovered": observe(recovered, Sample(later, {"queue": 0}), RULES),
        "busy": observe(tracks["busy"], Sample(later, {"queue": 4}), RULES),
    }
    assert target_factors(tracks, {}, tracks.keys(), RULES, later)["recovered"] == 1


def test_a_short_silence_needs_no_new_trust() -> None:
    assert observe(track(100, queue=0), Sample(NOW, {"queue": 0}), RULES).is_fresh(NOW, RULES)


# ---- through time ----------------------------------------------------------------------------------------------------


def test_factors_follow_a_change_in_time() -> None:
    tracks = {"a": track(queue=5), "b": track(queue=0)}
    found = step(tracks, {}, tracks.keys(), RULES, NOW, TAU)
    assert found["a"].smoothed == pytest.approx(FLOOR + (1 - FLOOR) * math.exp(-1))
    assert found["a"].applied == found["a"].smoothed
    assert found["b"].applied == 1


@pytest.mark.parametrize(("queue", "applied"), [(2.2, 0.56), (2.1, 0.6), (1.9, 0.6), (1.8, 0.64)])
def test_small_changes_are_not_applied(queue: float, applied: float) -> None:
    tracks = {"a": replace(track(queue=queue), smoothed=0.6, applied=0.6), "b": track(queue=0)}
    found = step(tracks, {}, tracks.keys(), RULES, NOW, 60.0)["a"]
    assert (found.smoothed, found.applied) == (pytest.approx(1 - queue / 5), pytest.approx(applied))


def test_an_idle_backend_gets_all_of_its_weight_back() -> None:
    tracks = {"a": replace(track(queue=0), smoothed=0.98, applied=0.96), "b": track(queue=1)}
    assert step(tracks, {}, tracks.keys(), RULES, NOW, 60.0)["a"].applied == 1


# ---- properties ------------------------------------------------------------------------------------------------------

readings = st.dictionaries(st.sampled_from(["queue", "kv", "running", "cpu"]), st.floats(0, 20), max_size=4)
traffics = st.builds(Traffic, st.integers(0, 100), st.integers(0, 100))
samples = st.none() | st.builds(
    lambda age, values, traffic: Sample(NOW - age, values, traffic), st.floats(0, 400), readings, traffics
)
factors = st.floats(FLOOR, 1)
tracks_of_a_pool = st.dictionaries(
    st.integers(0, 9),
    st.builds(LoadTrack, samples, st.sampled_from([-math.inf, NOW - 1, NOW + 5]), factors, factors),
    min_size=1,
)


@given(tracks_of_a_pool, st.dictionaries(st.integers(0, 9), traffics), st.floats(0, 60))
def test_factors_stay_between_the_floor_and_one(
    tracks: dict[int, LoadTrack], traffic: dict[int, Traffic], elapsed: float
) -> None:
    found = step(tracks, traffic, tracks.keys(), RULES, NOW, elapsed)
    assert found.keys() == tracks.keys()
    for key, after in found.items():
        assert FLOOR <= after.smoothed <= 1
        assert after.applied == tracks[key].applied or after.applied == after.smoothed
        assert abs(after.applied - after.smoothed) <= HYSTERESIS * after.applied + 1e-9


@given(tracks_of_a_pool, st.dictionaries(st.integers(0, 9), traffics))
def test_no_backend_is_preferred_for_what_is_not_known(
    tracks: dict[int, LoadTrack], traffic: dict[int, Traffic]
) -> None:
    """A fresh and complete sample is the only way to more than the average of backends that have one."""
    found = target_factors(tracks, traffic, tracks.keys(), RULES, NOW)
    fresh = [key for key, one in tracks.items() if one.is_fresh(NOW, RULES)]
    expected = {name for key in fresh for name in tracks[key].sample.readings if RULES.limits.get(name)}  # type: ignore[union-attr]
    known = [key for key in fresh if expected and expected <= tracks[key].sample.readings.keys()]  # type: ignore[union-attr]
    if not known:
        assert set(found.values()) == {1.0}
    else:
        average = sum(found[key] for key in known) / len(known)
        assert all(found[key] <= average + 1e-9 for key in tracks if key not in known)


@given(tracks_of_a_pool, st.integers(0, 9), readings)
def test_taking_numbers_away_never_makes_a_backend_the_best(
    tracks: dict[int, LoadTrack], key: int, left: dict[str, float]
) -> None:
    """Whatever is missing of a sample: some other backend that is fully known is as good, or none is known."""
    tracks = {**tracks, 10: track(queue=1, kv=0.1, cpu=0.1, running=1), 11: track(queue=1, kv=0.1, cpu=0.1, running=1)}
    left.pop("cpu", None)
    tracks[key] = LoadTrack(Sample(NOW, left))  # type: ignore[arg-type]
    found = target_factors(tracks, {}, tracks.keys(), RULES, NOW)
    assert found[key] <= max(factor for other, factor in found.items() if other != key) + 1e-9


@given(readings, readings, st.integers(0, 50))
def test_more_load_is_never_worth_more(low: dict[str, float], more: dict[str, float], turns: int) -> None:
    high = {name: value + more.get(name, 0) for name, value in low.items()}
    a, b = utilisation(low, RULES.limits), utilisation(high, RULES.limits, turns)  # type: ignore[arg-type]
    assert (a is None) == (b is None)
    if a is not None and b is not None:
        assert a <= b + 1e-9
