"""The fleet without sockets: what its balancers know, and what they must not do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.fleet import ideal
from bench.fleet.engine import Gpu
from bench.fleet.placement import Fleet
from bench.fleet.plan import SCENARIOS, Timeline
from bench.fleet.policies import Balancer, Policy, View
from bench.placement import POLICIES, Run, run, sheets

QUICK = SCENARIOS["pooled"].quick()
FULL = replace(QUICK, load=1.5, timeline=replace(QUICK.timeline, drain=200.0))


def most_in_flight(fleet: Fleet) -> dict[str, int]:
    """The most requests that each replica had at a time, from when they were placed and ended."""
    found = {}
    for replica in fleet._replicas:
        asked = [one for one in fleet._asked.values() if one.replica is replica]
        ends = [one.outcome.at + (one.outcome.end or 0) for one in asked]
        moments = [(round(one.placed, 6), 1) for one in asked] + [(round(end, 6), -1) for end in ends]
        count = most = 0
        for _, step in sorted(moments):
            count += step
            most = max(most, count)
        found[replica.name] = most
    return found


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_every_request_is_placed_once_and_answered(policy: Policy) -> None:
    outcomes = Fleet(FULL, 1, policy).run()
    assert len(outcomes) == len(FULL.requests(1))
    assert {outcome.failure for outcome in outcomes} == {None}
    assert {outcome.replica for outcome in outcomes} == set(FULL.names)


def test_a_limit_is_never_exceeded_and_used_up() -> None:
    fleet = Fleet(FULL, 1, Policy("limit", limit=5))
    fleet.run()
    assert set(most_in_flight(fleet).values()) == {5}


def test_a_limit_that_is_learnt_is_the_batch_of_each_replica() -> None:
    batches = (4, 8, 12)
    line = Timeline(measured=1, added=1000, stalled=1000, end=80, drain=200)
    gpus = tuple(Gpu(batch=batch) for batch in batches)
    scenario = replace(QUICK, gpus=gpus, load=1.2, stalls=0, timeline=line)
    fleet = Fleet(scenario, 1, Policy("learnt", learns="scraped"))
    fleet.run()
    for limit, batch in zip(fleet.limits().end, batches, strict=False):
        assert batch < limit <= batch + 1 + max(1, batch // 4)


def test_a_cold_replica_has_few_requests_until_it_has_responded() -> None:
    balancer = Balancer(Policy("cold", cold=2, responses=3))
    balancer.views = [View(1, 16, busy=9, answers=3), View(1, 16, busy=2)]
    assert balancer.pick(0) is balancer.views[0]
    balancer.views[1].answers = 3
    assert balancer.pick(0) is balancer.views[1]


def test_a_replica_is_hot_by_its_requests_and_the_fastest_of_the_cold_ones_is_chosen() -> None:
    balancer = Balancer(Policy("hot", "hot_cold"))
    balancer.views = [View(1, 16, busy=busy) for busy in (9, 4, 5)]
    for view, seconds in zip(balancer.views, (0.1, 0.9, 0.3), strict=True):
        view.note_first_token(view.busy, seconds, 0)
    assert balancer.pick(1) is balancer.views[2]


def test_the_ideal_is_the_same_for_the_same_seed() -> None:
    assert ideal.outcomes(QUICK, 3) == ideal.outcomes(QUICK, 3) != ideal.outcomes(QUICK, 4)


def test_ratios_are_to_the_policy_that_a_policy_is_compared_with() -> None:
    found = run("pooled", "least-busy", 1)
    twice = Run("pooled", "limit-16", 1, {name: 2 * late for name, late in found.late.items()}, found.limits)
    (sheet,) = sheets([found, twice])
    assert [row[2] for row in sheet.rows] == ["1.00", "2.00"]
