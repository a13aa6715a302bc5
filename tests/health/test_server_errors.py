"""The share of server errors among recent responses, against a plain count of all that happened."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from l4lb.health.server_errors import STEPS, History, Moment, ServerErrorRule, extended, is_too_high, recent, share

RULE = ServerErrorRule(share=0.5, responses=1, within=10.0)


@given(st.lists(st.tuples(st.sampled_from([0.25, 0.9, 3.0]), st.integers(0, 9), st.integers(0, 9)), max_size=80))
def test_what_is_counted_is_one_time_span_and_little_more(steps: list[tuple[float, int, int]]) -> None:
    now = Moment(100.0, 0, 0)
    history: History = extended((), now, RULE)
    looks = [now]

    def before(at: float) -> Moment:
        return next((look for look in reversed(looks) if look.at <= at), looks[0])

    for seconds, good, bad in steps:
        now = Moment(now.at + seconds, now.responses + good + bad, now.errors + bad)
        history = extended(history, now, RULE)
        looks.append(now)
        assert len(history) <= STEPS + 2
        responses, errors = recent(history, now, RULE)
        begin = now.at - RULE.within
        longest = before(begin - RULE.within / STEPS - 3.0)  # a look may be 3 s late
        assert now.responses - before(begin).responses <= responses <= now.responses - longest.responses
        assert now.errors - before(begin).errors <= errors <= now.errors - longest.errors


def test_a_share_of_too_few_responses_is_none() -> None:
    history = extended((), Moment(0.0, 0, 0), RULE)
    rule = ServerErrorRule(share=0.5, responses=4, within=10.0)
    assert [share(history, Moment(1.0, responses, 2), rule) for responses in (3, 4)] == [0.0, 0.5]


def test_none_is_never_too_high() -> None:
    every = ServerErrorRule(share=0.0, responses=1, within=1.0)
    assert not is_too_high(0.0, every)
    assert is_too_high(0.01, every)
