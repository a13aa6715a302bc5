"""The statistics of bench/turns."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bench.turns import trace
from bench.turns.relay import Conversation, Piece
from bench.turns.rows import ROWS, WORKS
from bench.turns.truth import Interval, Requests, Sample, Seen, compare

IDLE, BUSY = False, True


def _samples(*said: tuple[float, bool, int]) -> list[Sample]:
    """At each time, whether the session of port 1 is busy, and its turns."""
    return [Sample(at, at, int(busy), {1: Seen(busy, turns)}) for at, busy, turns in said]


def test_requests_in_flight_are_those_begun_and_not_ended() -> None:
    requests = Requests.of([Interval(1.0, 4.0), Interval(2.0, 3.0)])
    assert [requests.in_flight(at) for at in (0.5, 1.0, 2.5, 3.5, 4.5)] == [0, 1, 2, 1, 0]
    assert requests.least_and_most(0.5, 2.5) == (0, 2)
    assert requests.least_and_most(2.1, 2.2) == (2, 2)


def test_errors_are_weighted_by_time_and_both_ways_are_told_apart() -> None:
    found = compare(
        _samples((0.0, IDLE, 0), (1.0, BUSY, 1), (3.0, IDLE, 1), (4.0, IDLE, 1), (5.0, BUSY, 1), (6.0, IDLE, 1)),
        {1: [Interval(0.9, 4.5)]},
    )
    for areas in (found.pool, found.sessions, found.lines):
        assert (areas.truth, areas.under, areas.over) == pytest.approx((4.0, 2.0, 1.0))


def test_what_changes_while_the_balancer_is_asked_is_no_error() -> None:
    samples = [Sample(1.0, 1.2, 1, {1: Seen(BUSY, 1)}), Sample(2.0, 2.0, 0, {1: Seen(IDLE, 1)})]
    found = compare(samples, {1: [Interval(0.5, 1.1)]})
    assert (found.pool.over, found.pool.under) == (0, 0)


def test_one_connection_too_busy_does_not_hide_another_too_idle() -> None:
    samples = [Sample(at, at, 1, {1: Seen(BUSY, 1), 2: Seen(IDLE, 1)}) for at in (1.0, 2.0)]
    found = compare(samples, {1: [Interval(0.1, 0.2)], 2: [Interval(0.5, 3.0)]})
    assert (found.pool.over, found.pool.under) == (0, 0)
    assert (found.sessions.over, found.sessions.under) == (1.0, 1.0)


def test_a_connection_with_several_requests_at_once_is_in_use_once() -> None:
    samples = [Sample(at, at, 1, {1: Seen(BUSY, 1)}) for at in (1.0, 2.0)]
    found = compare(samples, {1: [Interval(0.5, 3.0), Interval(0.6, 3.0)]})
    assert (found.sessions.truth, found.sessions.under) == (2.0, 1.0)
    assert (found.lines.truth, found.lines.under) == (1.0, 0.0)


def test_the_end_of_a_request_is_late_by_the_time_it_is_taken_for_busy_afterwards() -> None:
    found = compare(
        _samples((0.0, IDLE, 0), (1.0, BUSY, 1), (2.0, BUSY, 1), (2.5, IDLE, 1), (9.0, IDLE, 1)),
        {1: [Interval(0.9, 1.9), Interval(8.0, 8.9)]},
    )
    assert found.late_s == pytest.approx(0.5 / 2)


def test_turns_are_booked_as_handshakes_splits_and_merges() -> None:
    requests = [Interval(1.0, 1.5), Interval(2.0, 2.5), Interval(3.0, 3.5), Interval(4.0, 4.5)]
    told = _samples((0.5, BUSY, 2), (1.2, BUSY, 3), (2.2, BUSY, 4), (3.2, BUSY, 6), (4.2, BUSY, 6))
    books = compare(told, {1: requests}).books
    assert (books.requests, books.handshakes, books.split, books.merged) == (4, 2, 1, 1)


def test_a_request_that_begins_near_a_sample_is_not_booked_yet() -> None:
    books = compare(_samples((1.01, BUSY, 2), (1.2, BUSY, 1)), {1: [Interval(1.0, 1.5)]}).books
    assert (books.split, books.merged) == (0, 0)


def test_a_pause_comes_on_top_of_the_pace() -> None:
    for seed in range(200):
        question = WORKS["stream"].question(random.Random(seed))
        waits = list(question.waits(random.Random(seed)))
        assert len(waits) == question.pieces
        assert waits[0] == question.delay
        long = [number for number, wait in enumerate(waits) if number > 0 and wait > 1.2 * question.pace]
        assert long == ([] if question.pause_before is None else [question.pause_before])


def test_questions_are_the_same_for_a_seed() -> None:
    row = ROWS["short.tls"]
    assert row.work.question(row.chance(1, 2, 0)) == row.work.question(row.chance(1, 2, 0))
    assert row.work.question(row.chance(1, 2, 0)) != row.work.question(row.chance(2, 2, 0))


def test_a_trace_is_in_the_order_of_time_and_begins_at_zero(tmp_path: Path) -> None:
    path = tmp_path / "a.trace"
    conversations = [
        Conversation(7, [Piece(10.0, True, 100), Piece(10.5, False, 200)]),
        Conversation(8, [Piece(10.25, True, 50)]),
    ]
    trace.write(path, ["made up"], conversations, {7: [Interval(10.001, 10.4)]})
    assert path.read_text().splitlines() == [
        "# made up",
        "0 0 > 100",
        "1000 0 +",
        "250000 1 > 50",
        "400000 0 -",
        "500000 0 < 200",
    ]
