"""Which backends are ejected, for how long, and which may not be: decided over made-up histories of pools."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.engine.api import BackendSummary
from l4lb.health.passive import (
    MULTIPLE_MAX,
    OWED_MIN,
    PATIENCE,
    Cause,
    Event,
    OutlierTrack,
    PassiveRules,
    decide,
    observe,
    places,
)
from l4lb.health.server_errors import ServerErrorRule

TICK = 0.25
RULES = PassiveRules(failures=5, eject=30.0, max_ejected=0.5, black_hole=30.0)


class Pool:
    """Backends whose counters a test moves; `look` is one round."""

    def __init__(self, names: str, rules: PassiveRules = RULES) -> None:
        self.rules = rules
        self.now = 1000.0
        self.summaries = dict.fromkeys(names, BackendSummary())
        self.tracks = dict.fromkeys(names, OutlierTrack())
        self.eligible = set(names)
        self.log: list[tuple[str, Event]] = []
        self.look()

    def happen(self, name: str, *, failed: int = 0, answered: int = 0, received: int = 0) -> None:
        summary = self.summaries[name]
        self.summaries[name] = summary._replace(
            failures_total=summary.failures_total + failed,
            responded_total=summary.responded_total + answered,
            received_bytes_total=summary.received_bytes_total + max(received, answered),
        )

    def respond(self, name: str, *, good: int = 0, bad: int = 0) -> None:
        """Responses of HTTP with their statuses."""
        self.happen(name, answered=good + bad)
        summary = self.summaries[name]
        self.summaries[name] = summary._replace(
            responses_total=summary.responses_total + good + bad,
            server_errors_total=summary.server_errors_total + bad,
        )

    def look(self, seconds: float = TICK) -> None:
        self.now += seconds
        self.tracks = {
            name: observe(track, self.summaries[name], self.rules, self.now) for name, track in self.tracks.items()
        }
        verdict = decide(self.tracks, self.eligible, self.rules, self.now)
        self.tracks = verdict.tracks
        self.log += verdict.events.items()

    def fail(self, *names: str, times: int = 5) -> None:
        for name in names:
            self.happen(name, failed=times)
        self.look()

    @property
    def out(self) -> set[str]:
        return {name for name, track in self.tracks.items() if track.is_out}

    def time_out(self, name: str) -> float:
        """Let the ejection of a backend pass; how long it lasted."""
        until = self.tracks[name].out_until
        assert until is not None
        left = until - self.now
        self.look(left)
        assert name not in self.out
        return left


# ---- failures --------------------------------------------------------------------------------------------------------


def test_failures_in_a_row_eject() -> None:
    pool = Pool("abcd")
    pool.fail("a", times=4)
    assert pool.out == set()
    pool.fail("a", times=1)
    assert pool.out == {"a"}
    assert pool.log == [("a", Event.EJECTED)]
    assert pool.tracks["a"].cause is Cause.FAILURES


def test_failures_that_successes_outnumber_eject_no_backend() -> None:
    pool = Pool("abcd")
    for _ in range(100):
        pool.happen("a", failed=10, answered=10)
        pool.look()
    assert pool.out == set()


def test_failures_that_outnumber_successes_eject() -> None:
    pool = Pool("abcd")
    for _ in range(5):
        pool.happen("a", failed=3, answered=2)
        pool.look()
    assert pool.out == {"a"}


def test_many_failures_are_made_up_for_by_few_successes() -> None:
    pool = Pool("ab", replace(RULES, max_ejected=0))
    pool.fail("a", times=1000)
    pool.happen("a", answered=10)
    pool.look()
    assert pool.tracks["a"].excess == 0


def test_counters_that_begin_anew_say_nothing() -> None:
    pool = Pool("abcd")
    pool.fail("a", times=4)
    pool.summaries["a"] = BackendSummary(failures_total=3)
    pool.look()
    assert pool.out == set()


# ---- server errors ---------------------------------------------------------------------------------------------------

STATUSES = replace(RULES, server_errors=ServerErrorRule(share=0.5, responses=20, within=10.0))


def test_a_share_of_server_errors_ejects() -> None:
    pool = Pool("abc", STATUSES)
    pool.respond("a", good=11, bad=10)
    pool.look()
    assert pool.out == set()
    pool.respond("a", bad=1)
    pool.look()
    assert pool.out == {"a"}
    assert pool.tracks["a"].cause is Cause.SERVER_ERRORS


def test_few_server_errors_prove_nothing() -> None:
    pool = Pool("abc", STATUSES)
    pool.respond("a", bad=19)
    pool.look()
    assert pool.out == set()


def test_server_errors_of_long_ago_do_not_count() -> None:
    pool = Pool("abc", STATUSES)
    for _ in range(200):
        pool.respond("a", bad=1)
        pool.look(1.0)
    assert pool.out == set()
    # Those of the time before do not excuse the ones of now.
    pool.respond("a", good=1000)
    pool.look(1.0)
    pool.look(11.0)
    pool.respond("a", bad=20)
    pool.look(1.0)
    assert pool.out == {"a"}


def test_server_errors_that_all_backends_give_eject_none() -> None:
    pool = Pool("abc", STATUSES)
    for name in "abc":
        pool.respond(name, bad=30)
    pool.look()
    assert pool.out == set()
    pool.respond("c", good=40)
    pool.look()
    assert pool.out <= {"a", "b"}
    assert len(pool.out) == 1


def test_a_backend_that_returns_begins_anew_with_its_responses() -> None:
    pool = Pool("abc", STATUSES)
    pool.respond("a", bad=20)
    pool.look()
    pool.respond("a", bad=20)  # what was in flight
    pool.time_out("a")
    pool.look()
    assert pool.out == set()
    pool.respond("a", bad=20)
    pool.look()
    assert pool.out == {"a"}


def test_statuses_do_not_count_without_a_rule() -> None:
    pool = Pool("abc")
    pool.respond("a", bad=1000)
    pool.look()
    assert pool.out == set()
    assert pool.tracks["a"].responses == ()


# ---- how long --------------------------------------------------------------------------------------------------------


def test_ejections_last_longer_each_time_up_to_a_bound() -> None:
    pool, lengths = Pool("abcd"), []
    for _ in range(MULTIPLE_MAX + 2):
        pool.fail("a")
        lengths.append(pool.time_out("a"))
    assert lengths == [30.0 * min(number, MULTIPLE_MAX) for number in range(1, MULTIPLE_MAX + 3)]


@pytest.mark.parametrize(("served", "expected"), [(29, 90), (31, 60), (61, 30), (100_000, 30)])
def test_time_in_service_makes_up_for_ejections(served: float, expected: float) -> None:
    pool = Pool("abcd")
    for _ in range(2):
        pool.fail("a")
        pool.time_out("a")
    pool.look(served - TICK)
    pool.fail("a")
    assert pool.time_out("a") == expected


def test_a_returned_backend_begins_anew() -> None:
    pool = Pool("abcd")
    pool.fail("a")
    pool.happen("a", failed=3)  # what was under way
    pool.time_out("a")
    assert pool.log[-1] == ("a", Event.RETURNED)
    pool.look()
    assert pool.tracks["a"].excess == 0


# ---- how many --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backends", "share", "expected"),
    [
        (0, 0.5, 0),
        (1, 1.0, 0),
        (2, 0.5, 1),
        (3, 0.5, 1),
        (4, 0.5, 2),
        (5, 0.1, 1),
        (10, 1.0, 9),
        (9, 0.0, 0),
        (100, 0.29, 29),
    ],
)
def test_places(backends: int, share: float, expected: int) -> None:
    assert places(backends, replace(RULES, max_ejected=share)) == expected


def test_mass_failure_ejects_the_share_that_may_go_and_tells_of_the_others_once() -> None:
    pool = Pool("abcdef")
    pool.fail(*"abcdef")
    for _ in range(10):
        pool.look()
    assert pool.out == set("abc")
    assert sorted(pool.log, key=str) == sorted(
        [*((name, Event.EJECTED) for name in "abc"), *((name, Event.WITHHELD) for name in "def")], key=str
    )


def test_the_backend_that_fails_most_goes_first() -> None:
    pool = Pool("abcd", replace(RULES, failures=5, max_ejected=0.25))
    pool.happen("b", failed=6)
    pool.happen("a", failed=5)
    pool.look()
    assert pool.out == {"b"}


def test_a_spared_backend_is_ejected_once_the_share_allows_it() -> None:
    pool = Pool("abcd", replace(RULES, max_ejected=0.25))
    pool.fail("a", "b")
    assert pool.out == {"a"}
    pool.time_out("a")
    assert pool.out == {"b"}


def test_a_backend_that_recovered_meanwhile_stays() -> None:
    pool = Pool("abcd", replace(RULES, max_ejected=0.25))
    pool.fail("a", "b")
    pool.happen("b", answered=5)
    pool.time_out("a")
    assert pool.out == set()


@pytest.mark.parametrize("names", ["a", "ab", "abc"])
def test_last_usable_backend_stays(names: str) -> None:
    pool = Pool(names, replace(RULES, max_ejected=1.0))
    pool.fail(*names)
    assert len(pool.out) == len(names) - 1


def test_backends_that_are_down_for_other_reasons_do_not_count() -> None:
    pool = Pool("abcd")
    pool.eligible = {"c", "d"}
    pool.fail("a", "c", "d")
    assert pool.out == {"c"}


def test_ejection_is_lifted_when_no_other_backend_is_left() -> None:
    pool = Pool("ab")
    pool.fail("a")
    assert pool.out == {"a"}
    pool.eligible = {"a"}
    pool.look()
    assert pool.out == set()
    assert pool.log[-1] == ("a", Event.LIFTED)


@given(
    st.integers(1, 8),
    st.sampled_from([0.0, 0.1, 0.34, 0.5, 1.0]),
    st.lists(
        st.tuples(
            st.integers(0, 7), st.integers(0, 9), st.integers(0, 9), st.sampled_from([0.25, 10.0, 40.0]), st.booleans()
        ),
        max_size=60,
    ),
)
def test_never_too_many_are_out_and_never_all(
    count: int, share: float, steps: list[tuple[int, int, int, float, bool]]
) -> None:
    names = "abcdefgh"[:count]
    pool = Pool(names, replace(RULES, max_ejected=share))
    for index, failed, answered, seconds, flips in steps:
        name = names[index % count]
        pool.happen(name, failed=failed, answered=answered)
        out_before = pool.out
        if flips:
            pool.eligible ^= {name}
        pool.look(seconds)
        assert not pool.eligible or pool.eligible - pool.out
        fresh = pool.out - out_before
        assert not fresh or len(pool.out & pool.eligible) <= places(len(pool.eligible), pool.rules)


# ---- black holes -----------------------------------------------------------------------------------------------------


def wait_in_silence(pool: Pool, seconds: float, *talking: str) -> None:
    end = pool.now + seconds
    while pool.now < end and not pool.out:
        for name in talking:
            pool.happen(name, received=100)
        pool.look()


def owing(pool: Pool, name: str, answers: int = OWED_MIN) -> None:
    pool.summaries[name] = pool.summaries[name]._replace(busy=answers)


def test_a_silent_backend_that_owes_responses_while_others_respond_is_ejected() -> None:
    pool = Pool("abc")
    owing(pool, "a")
    wait_in_silence(pool, 29.5, "b", "c")
    assert pool.out == set()
    wait_in_silence(pool, 1, "b", "c")
    assert pool.out == {"a"}
    assert pool.tracks["a"].cause is Cause.BLACK_HOLE


@pytest.mark.parametrize(
    ("answers", "talking", "more"),
    [
        (OWED_MIN - 1, "bc", {}),  # too few to tell
        (OWED_MIN, "", {}),  # everybody is silent
        (OWED_MIN, "abc", {}),  # it talks
        (OWED_MIN, "bc", {"black_hole": None}),
    ],
)
def test_backends_that_are_not_black_holes(answers: int, talking: str, more: dict[str, float | None]) -> None:
    pool = Pool("abc", replace(RULES, **more))  # type: ignore[arg-type]
    owing(pool, "a", answers)
    wait_in_silence(pool, 300, *talking)
    assert pool.out == set()


def test_one_byte_begins_the_silence_anew() -> None:
    pool = Pool("abc")
    owing(pool, "a")
    wait_in_silence(pool, 29, "b", "c")
    pool.happen("a", received=1)
    wait_in_silence(pool, 29, "b", "c")
    assert pool.out == set()


def test_silence_is_measured_by_how_long_others_take() -> None:
    pool = Pool("abc")
    owing(pool, "a")
    pool.summaries["b"] = pool.summaries["b"]._replace(latency=20.0)
    wait_in_silence(pool, PATIENCE * 20 - 1, "b")
    assert pool.out == set()
    wait_in_silence(pool, 2, "b")
    assert pool.out == {"a"}
