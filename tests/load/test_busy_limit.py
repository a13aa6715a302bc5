"""How many requests a backend works on at once, from what it says of itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.load.busy_limit import CONFIRMATIONS, EPOCH, LimitTrack, Look, grown, limits, observe, resumed


def watched(
    looks: int, batch: int, demand: Callable[[int], int], track: LimitTrack | None = None
) -> list[tuple[LimitTrack, int | None]]:
    """The tracks and limits of a server that runs `batch` at once, when `demand` requests want to be in flight."""
    track, seen = track or LimitTrack(), []
    for number in range(looks):
        limit = track.limit
        busy = demand(number) if limit is None else min(demand(number), limit)
        running = min(busy, batch)
        track = observe(track, Look(running, busy - running), limit)
        seen.append((track, track.limit))
    return seen


def settled(seen: list[tuple[LimitTrack, int | None]]) -> tuple[int | None, int | None]:
    """The least and most limit of the last epoch."""
    last = [limit for _, limit in seen[-EPOCH:]]
    assert None not in last
    known = [limit for limit in last if limit is not None]
    return min(known), max(known)


@pytest.mark.parametrize("batch", [1, 2, 16, 64, 256])
def test_the_limit_becomes_the_batch_and_a_few_more(batch: int) -> None:
    seen = watched(3 * EPOCH, batch, lambda _: 1000)
    assert seen[CONFIRMATIONS - 2][1] is None
    assert [limit for _, limit in seen[CONFIRMATIONS:EPOCH]] == [batch + 1 + batch // 32] * (
        EPOCH - CONFIRMATIONS - 1
    ) + [batch + 1 + batch // 32 + grown(batch)]
    assert settled(seen) == (batch + 1 + batch // 32, batch + 1 + batch // 32 + grown(batch))


def test_a_backend_that_is_never_full_gets_no_limit() -> None:
    assert {limit for _, limit in watched(10 * EPOCH, 16, lambda number: number % 17)} == {None}


def test_a_moment_in_which_requests_wait_is_no_full_batch() -> None:
    """A burst waits for the next step of the server, with few requests running."""
    track = LimitTrack()
    for running in (3, 5, 2, 7, 4, 6, 1, 8) * 3:
        track = observe(track, Look(running, 4), None)
        track = observe(track, Look(running + 4, 0), None)
    assert track.limit is None


@given(st.integers(1, 300), st.integers(0, 300), st.integers(0, 5), st.integers(0, EPOCH + 10))
def test_a_limit_below_the_batch_does_not_last(batch: int, most: int, before: int, full: int) -> None:
    """Whatever was learnt: once the backend is in demand, its limit is soon no less than its batch."""
    wrong = LimitTrack(batch=max(1, most), most=most, full=full, before=before)
    for _, limit in watched(2 * EPOCH, batch, lambda _: 1000, wrong)[40:]:
        assert limit is not None
        assert limit > batch


def test_a_batch_that_shrinks_is_noticed_after_two_epochs() -> None:
    seen = watched(2 * EPOCH, 64, lambda _: 1000)
    least, most = settled(watched(4 * EPOCH, 8, lambda _: 1000, seen[-1][0]))
    assert (least, most) == (9, 11)


def test_a_quiet_night_leaves_what_was_learnt() -> None:
    seen = watched(2 * EPOCH, 16, lambda _: 1000)
    seen = watched(100 * EPOCH, 16, lambda number: number % 3, seen[-1][0])
    assert seen[-1][0].batch == 16


def test_a_backend_that_is_not_known_has_the_largest_limit_of_its_pool() -> None:
    small, large = LimitTrack(batch=10), LimitTrack(batch=16)
    assert limits({"a": small, "b": large, "new": LimitTrack()}) == {"a": 11, "b": 17, "new": 17}
    assert limits({"a": LimitTrack(), "b": LimitTrack()}) == {}
    # Its own batch is larger: it is at its limit, and nothing waits inside.
    track = LimitTrack()
    for _ in range(20):
        limit = limits({"b": large, "new": track})["new"]
        track = observe(track, Look(min(limit, 64), max(0, limit - 64)), limit)
    assert track.batch is not None
    assert track.batch >= 64


@given(st.integers(1, 100_000))
def test_a_limit_that_is_handed_over_is_the_same_afterwards(batch: int) -> None:
    limit = LimitTrack(batch=batch).limit
    assert limit is not None
    assert resumed(limit).limit == limit


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=400))
def test_no_numbers_lead_to_a_limit_below_two(looks: list[tuple[int, int]]) -> None:
    track = LimitTrack()
    for running, waiting in looks:
        track = observe(track, Look(running, waiting), track.limit)
        assert track.limit is None or track.limit >= 2
        assert track.batch is None or track.batch <= 62
