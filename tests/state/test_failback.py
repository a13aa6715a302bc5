"""Where a pool stays once it left a better tier or backend: decided from ranks and times alone."""

from __future__ import annotations

import math

import pytest

from l4lb.state.failback import Candidate, Move, Rank, Seat, kept, ranks, settle

ON, OFF = 0.0, None
NOW = 1000.0


def candidate(rank: Rank, *, up: bool = True, since: float = 0.0, pending: bool = False) -> Candidate:
    return Candidate(rank=rank, serves=up, pending=pending, since=since if up else None)


def pair(*, first: bool, second: bool = True, since: float = 0.0, pending: bool = False) -> dict[str, Candidate]:
    """A backend in tier 0, which has been usable since then, and one in tier 1."""
    return {
        "a": candidate((0, 0), up=first, since=since, pending=pending),
        "b": candidate((1, 0), up=second),
    }


def move(
    seat: Seat | None, candidates: dict[str, Candidate], delay: float | None = OFF, by_backend: bool = False
) -> Move:
    return settle(seat, candidates, delay=delay, by_backend=by_backend, now=NOW)


def test_the_best_tier_is_the_first_seat() -> None:
    assert move(None, pair(first=True)) == Move(Seat(0))
    assert move(None, pair(first=False)) == Move(Seat(1))


def test_the_seat_is_open_while_a_better_backend_has_not_been_checked() -> None:
    assert move(None, pair(first=False, pending=True)) == Move(None)
    # One of a lower tier may be checked later.
    below = {"a": candidate((0, 0)), "b": candidate((1, 0), up=False, pending=True)}
    assert move(None, below) == Move(Seat(0))


def test_it_stays_until_nothing_is_left_there() -> None:
    assert move(Seat(1), pair(first=True)) == Move(Seat(1))
    assert move(Seat(1), pair(first=True, second=False)) == Move(Seat(0))
    assert move(Seat(0), pair(first=False)) == Move(Seat(1))
    two = pair(first=True, second=False) | {"c": candidate((1, 0))}
    assert move(Seat(1), two) == Move(Seat(1))


def test_while_nothing_is_usable_it_stays_where_it_was() -> None:
    assert move(Seat(1), pair(first=False, second=False)) == Move(Seat(1))
    assert move(None, pair(first=False, second=False)) == Move(None)
    assert move(Seat(1), {}) == Move(Seat(1))


def test_a_better_one_is_gone_back_to_once_it_has_been_usable_for_so_long() -> None:
    assert move(Seat(1), pair(first=True, since=NOW - 29), delay=30) == Move(Seat(1), NOW + 1)
    assert move(Seat(1), pair(first=True, since=NOW - 30), delay=30) == Move(Seat(0))
    assert move(Seat(1), pair(first=True, since=-math.inf), delay=30) == Move(Seat(0))
    # In a panic one may serve that is not usable: there is no time to wait for.
    panic = {"a": Candidate(rank=(0, 0), serves=True), "b": candidate((1, 0))}
    assert move(Seat(1), panic, delay=30) == Move(Seat(1))


def test_of_several_better_ones_the_best_that_is_old_enough_counts() -> None:
    three = {
        "a": candidate((0, 0), since=NOW - 1),
        "b": candidate((1, 0), since=NOW - 60),
        "c": candidate((2, 0)),
    }
    assert move(Seat(2), three, delay=30) == Move(Seat(1))
    assert move(Seat(1), three, delay=30) == Move(Seat(1), NOW + 29)


def test_with_an_order_each_backend_is_a_seat() -> None:
    order = ranks([("a", 0), ("b", 0), ("c", 1)], by_backend=True)
    candidates = {name: candidate(rank, up=name != "a") for name, rank in order.items()}
    assert move(None, candidates, by_backend=True) == Move(Seat(0, "b"))
    candidates["a"] = candidate(order["a"])
    assert move(Seat(0, "b"), candidates, by_backend=True) == Move(Seat(0, "b"))
    # Its place in the pool may change; the seat is the backend.
    moved = ranks([("c", 1), ("b", 0), ("a", 0)], by_backend=True)
    candidates = {name: candidate(rank) for name, rank in moved.items()}
    assert move(Seat(0, "b"), candidates, by_backend=True) == Move(Seat(0, "b"))
    del candidates["b"]
    assert move(Seat(0, "b"), candidates, by_backend=True) == Move(Seat(0, "a"))


def test_a_seat_of_the_other_kind_counts_for_nothing() -> None:
    order = ranks([("a", 0), ("b", 0)], by_backend=True)
    candidates = {name: candidate(rank) for name, rank in order.items()}
    assert move(Seat(0), candidates, by_backend=True) == Move(Seat(0, "a"))
    assert move(Seat(1, "b"), pair(first=True)) == Move(Seat(0))


@pytest.mark.parametrize(
    ("seat", "spill", "expected"),
    [
        (None, True, {"a", "b", "c"}),
        (None, False, {"a"}),
        (Seat(1), True, {"b", "c"}),
        (Seat(1), False, {"b"}),
        (Seat(2), False, {"c"}),
        (Seat(7), True, {"a", "b", "c"}),
    ],
)
def test_what_takes_sessions(seat: Seat | None, spill: bool, expected: set[str]) -> None:
    candidates = {"a": candidate((0, 0)), "b": candidate((1, 0)), "c": candidate((2, 0))}
    assert kept(seat, candidates, spill=spill) == expected


def test_a_seat_without_a_usable_backend_holds_nothing_back() -> None:
    assert kept(Seat(1), pair(first=True, second=False), spill=True) == {"a"}
    assert kept(Seat(0), pair(first=False), spill=False) == {"b"}
    assert kept(Seat(0), pair(first=False, second=False), spill=False) == set()
