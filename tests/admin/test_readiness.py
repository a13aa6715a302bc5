"""Ready: this process lets clients in. Which pools have backends only counts for those that ask for them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from l4lb.admin import readiness
from l4lb.engine.statistics import ListenerStatistics
from l4lb.errors import ControlError
from l4lb.status import DiscoveryStatus, HealthState, ListenerStatus
from tests.admin.fake_control import backend_status, make_status, pool_status

NO_CLIENTS = ListenerStatistics(connections=0, connections_total=0)
DOWN = backend_status(effective_weight=0, health=HealthState.DOWN)
GOOD_AND_BAD = {"good": pool_status({"a": backend_status(), "b": DOWN}), "bad": pool_status({"a": DOWN})}
BAD = "pool 'bad' has no usable backend"


def test_a_pool_without_backends_is_told_and_takes_nothing_away() -> None:
    status = make_status(GOOD_AND_BAD)
    assert readiness.problems(status) == []
    assert readiness.warnings(status) == [BAD]
    assert readiness.body([], [BAD]) == {"ready": True, "warnings": [BAD]}


def test_a_pool_that_is_asked_for_needs_a_usable_backend() -> None:
    status = make_status(GOOD_AND_BAD)
    assert readiness.problems(status, frozenset({"good"})) == []
    wanted = frozenset({"good", "bad"})
    assert (readiness.problems(status, wanted), readiness.warnings(status, wanted)) == ([BAD], [])


def test_queries_name_one_pool_several_or_all() -> None:
    pools = ["a", "b", "c"]
    assert readiness.wanted_pools([], pools) == set()
    assert readiness.wanted_pools([("pool", "a"), ("pool", "c")], pools) == {"a", "c"}
    assert readiness.wanted_pools([("pools", "all")], pools) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ([("pool", "d")], 404, "there is no pool 'd'"),
        ([("pool", "")], 404, "there is no pool ''"),
        ([("pools", "some")], 400, "the query may have pool=NAME"),
        ([("pol", "a")], 400, "the query may have pool=NAME"),
    ],
)
def test_a_query_for_nothing_is_refused(query: list[tuple[str, str]], status: int, sentence: str) -> None:
    with pytest.raises(ControlError, match=sentence) as refused:
        readiness.wanted_pools(query, ["a"])
    assert refused.value.status == status


def test_what_keeps_the_process_from_serving_is_named() -> None:
    listeners = {
        "deaf": ListenerStatus(bind=(), pool="good", statistics=NO_CLIENTS),
        "lost": ListenerStatus(bind=("unix:/x",), lost=("unix:/x",), pool="good", statistics=NO_CLIENTS),
    }
    problems = readiness.problems(make_status(GOOD_AND_BAD, listeners=listeners, stopping=True))
    assert len(problems) == 3
    for word, problem in zip(("stopping", "'deaf'", "unix:/x"), problems, strict=True):
        assert word in problem


def test_a_process_that_starts_is_not_ready() -> None:
    status = make_status(GOOD_AND_BAD)
    assert readiness.problems(replace(status, started=False)) == [
        "l4lb is starting: backends are checked for the first time"
    ]


def test_a_pool_that_scales_to_zero_may_have_no_ready_backend() -> None:
    pools = {name: pool_status({"a": DOWN}, scale_to_zero=name == "asleep") for name in ("asleep", "bad")}
    assert readiness.warnings(make_status(pools)) == [BAD]


@pytest.mark.parametrize(
    ("age", "problems"), [(None, ["pool 'asleep' has not heard of its backends yet: dns does not answer"]), (9.0, [])]
)
def test_a_source_must_have_answered_before_a_pool_may_be_empty(age: float | None, problems: list[str]) -> None:
    source = DiscoveryStatus(
        source="dns", working=False, message="refused", age=age, endpoints=0, held=0, updates_total={}
    )
    pool = replace(pool_status({}, scale_to_zero=True), discovery=source)
    assert readiness.problems(make_status({"asleep": pool}), frozenset({"asleep"})) == problems


def test_an_answer_is_bounded() -> None:
    sentences = [f"pool 'p{number}' has no usable backend" for number in range(1000)]
    answer = readiness.body(sentences, sentences)
    for part in (answer["problems"], answer["warnings"]):
        assert isinstance(part, list)
        assert len(part) == readiness.SENTENCES_MAX + 1
        assert part[-1] == "and 900 more"
