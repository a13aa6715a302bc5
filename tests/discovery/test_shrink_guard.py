"""What is accepted of an answer: never that a source that broke has nothing, always what lasts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.config import Address
from l4lb.discovery.shrink_guard import AcceptedEndpoints, ShrinkRules
from l4lb.discovery.source import Endpoint, Readiness

RULES = ShrinkRules(max_removed=0.5, hold=30.0)


def endpoints(names: str, readiness: Readiness = Readiness.READY) -> list[Endpoint]:
    return [Endpoint(name, Address("10.0.0.1", ord(name)), readiness=readiness) for name in names]


def draining(names: str) -> list[Endpoint]:
    return endpoints(names, Readiness.DRAINING)


def names(belief: AcceptedEndpoints) -> str:
    return "".join(sorted(endpoint.name for endpoint in belief.endpoints))


def after(*answers: list[Endpoint], rules: ShrinkRules = RULES) -> AcceptedEndpoints:
    belief = AcceptedEndpoints()
    for answer in answers:
        belief = belief.with_answer(answer, 0.0, rules)
    return belief


@pytest.mark.parametrize(
    ("answers", "left", "held"),
    [
        (["abcd", "abcdef"], "abcdef", 0),
        (["abcd", "ab"], "ab", 0),  # half may go
        (["abcd", "a"], "abcd", 3),  # more may not
        (["abcd", ""], "abcd", 4),
        (["a", ""], "a", 1),
        (["ab", "a"], "a", 0),
        (["abcd", "wxyz"], "wxyz", 0),  # others in their place are no loss
        (["abcd", "x"], "abcdx", 4),  # what is new is used at once
        (["abcd", "a", "abc"], "abc", 0),
        (["abcd", "", "abcd"], "abcd", 0),
        (["", "a"], "a", 0),
        ([""], "", 0),
        (["abcd", "abc", "ab", "a", ""], "a", 1),  # step by step it may shrink, but not to nothing
    ],
)
def test_a_sudden_loss_is_held_back(answers: list[str], left: str, held: int) -> None:
    belief = after(*(endpoints(answer) for answer in answers))
    assert (names(belief), belief.held_back) == (left, held)


def test_the_first_answer_is_believed_whatever_it_is() -> None:
    assert after(endpoints("a")).endpoints == tuple(endpoints("a"))
    assert after([]).accepted == ()


def test_what_was_draining_is_expected_to_go() -> None:
    belief = after(endpoints("abcd"), [*endpoints("a"), *draining("bcd")], endpoints("a"))
    assert (names(belief), belief.held_back) == ("a", 0)
    for going in (Readiness.DRAINING, Readiness.LAST_RESORT):
        assert names(after(endpoints("a"), endpoints("a", going), [])) == ""


def test_a_loss_that_lasts_is_believed_once_the_source_says_so_again() -> None:
    belief = after(endpoints("abcd")).with_answer([], 100.0, RULES)
    assert names(belief.with_answer([], 129.9, RULES)) == "abcd"
    assert names(belief.with_answer([], 130.0, RULES)) == ""
    assert names(belief.unchanged(129.9, RULES)) == "abcd"
    assert names(belief.unchanged(130.0, RULES)) == ""


def test_an_answer_in_between_that_is_whole_ends_the_wait() -> None:
    belief = after(endpoints("abcd")).with_answer([], 100.0, RULES).with_answer(endpoints("abcd"), 110.0, RULES)
    assert names(belief.with_answer([], 131.0, RULES)) == "abcd"


def test_answers_that_differ_while_one_is_held_do_not_begin_the_wait_anew() -> None:
    belief = (
        after(endpoints("abcdef")).with_answer(endpoints("a"), 100.0, RULES).with_answer(endpoints("b"), 120.0, RULES)
    )
    assert (names(belief), belief.held_back) == ("abcdef", 5)
    assert names(belief.unchanged(130.0, RULES)) == "b"


def test_endpoints_held_back_are_as_last_accepted_and_reported_ones_as_reported() -> None:
    changed = replace(endpoints("a")[0], weight=9)
    belief = after(endpoints("abcd"), [changed])
    assert belief.endpoints == (changed, *endpoints("bcd"))


def test_a_guard_that_is_off_believes_everything() -> None:
    assert names(after(endpoints("abcd"), [], rules=ShrinkRules(1.0, 0.0))) == ""


def test_with_everything_allowed_only_nothing_is_suspicious() -> None:
    rules = ShrinkRules(1.0, 30.0)
    assert names(after(endpoints("abcd"), endpoints("a"), rules=rules)) == "a"
    assert names(after(endpoints("abcd"), [], rules=rules)) == "abcd"


ANSWERS = st.lists(
    st.tuples(st.sets(st.sampled_from("abcdef")), st.floats(0, 20), st.booleans()), min_size=1, max_size=20
)


@given(ANSWERS)
def test_no_endpoint_is_invented_and_no_reported_one_left_out(steps: list[tuple[set[str], float, bool]]) -> None:
    """Against all histories: what is used has the last answer, and of others only those that were accepted before."""
    belief, now, seen, gone_since = AcceptedEndpoints(), 0.0, set[str](), dict[str, float]()
    for told, pause, confirmed in steps:
        now += pause
        belief = belief.with_answer(endpoints("".join(sorted(told))), now, RULES)
        used = set(names(belief))
        assert told <= used <= seen | told
        # No endpoint is kept for longer than the hold.
        gone_since = {name: gone_since.get(name, now) for name in used - told}
        assert all(now - since < RULES.hold for since in gone_since.values())
        assert belief.held_back == len(used - told)
        seen |= told
        if confirmed:
            later = belief.unchanged(now + RULES.hold, RULES)
            assert set(names(later)) == told


PARTS = ShrinkRules(max_removed=0.5, hold=30.0, misses=3)


def seen(*answers: tuple[float, str], rules: ShrinkRules = PARTS) -> AcceptedEndpoints:
    belief = AcceptedEndpoints()
    for now, answer in answers:
        belief = belief.with_answer(endpoints(answer), now, rules)
    return belief


def test_answers_that_show_a_part_each_change_nothing() -> None:
    one = seen((0, "abc"), (1, "cde"))
    assert one.endpoints == one.with_answer(endpoints("abc"), 2.0, PARTS).endpoints


def test_answers_that_show_a_part_each_add_up() -> None:
    belief = seen(*((float(second), "abc" if second % 2 else "cde") for second in range(1000)))
    assert (names(belief), belief.held_back) == ("abcde", 2)


@pytest.mark.parametrize(
    ("answers", "left"),
    [
        ([(0, "ab"), (10, "a"), (20, "a"), (39, "a")], "ab"),  # not for long enough
        ([(0, "ab"), (10, "a"), (50, "a")], "ab"),  # not often enough
        ([(0, "ab"), (10, "a"), (20, "a"), (40, "a")], "a"),
        ([(0, "ab"), (10, "a"), (20, "ab"), (30, "a"), (40, "a"), (50, "a")], "ab"),  # it was back
        ([(0, "ab"), (10, "c"), (20, "c"), (30, "c")], "abc"),  # what is new is used at once
        ([(0, "ab"), (10, "c"), (20, "c"), (40, "c")], "c"),
    ],
)
def test_an_endpoint_is_gone_once_it_was_missing_often_and_for_long(
    answers: list[tuple[float, str]], left: str
) -> None:
    assert names(seen(*answers)) == left


def test_without_a_hold_a_part_is_believed_at_once() -> None:
    assert names(seen((0, "abc"), (1, "a"), rules=replace(PARTS, hold=0.0))) == "a"
