"""Pools whose backends go down and come up: which sessions end, and where new ones go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from l4lb.agent.protocol import AgentReport
from l4lb.discovery.source import Readiness
from l4lb.engine.api import CloseReason
from l4lb.handover import restore
from l4lb.handover.records import HandoverReader, seat_messages
from l4lb.health.scheduler import Scheduler
from l4lb.state.cuts import Cut, cuts
from l4lb.state.failback import Seat
from l4lb.state.state import State
from l4lb.status import AdminState, HealthState
from tests.helpers.build import config, merged
from tests.helpers.loops import eventually, run
from tests.helpers.stage import BAD, CHECKED, DOWN, GOOD, UP, A, B, C, Stage, staged

CLOSE: dict[str, Any] = {"on_down": "close"}
TIERS = ({"name": "a", "address": A}, {"name": "b", "address": B, "tier": 1}, {"name": "c", "address": C, "tier": 1})


def state(pool: dict[str, Any], **healths: HealthState) -> State:
    """A pool with tiers whose backends are up, but for these."""
    wanted = merged(config(*TIERS, pool=CHECKED | pool))
    names = ("a", "b", "c")
    return treated(wanted, **{name: {"health": healths.get(name, UP)} for name in names})


def treated(before: State, **changes: dict[str, Any]) -> State:
    """The state with changes of backends."""
    return before.with_backends(
        {("app", name): replace(before.pools["app"].backends[name], **values) for name, values in changes.items()}
    )


def cut(before: State, after: State) -> dict[str, CloseReason]:
    return {one.key[1]: one.reason for one in cuts(before, after)}


DOWNS: dict[str, dict[str, Any]] = {
    "check": {"health": DOWN},
    "agent": {"agent": AgentReport(down=True)},
    "source": {"readiness": Readiness.NOT_READY},
    "progress": {"stalled": "nothing moves"},
    "maintenance": {"state": AdminState.MAINT},
    "agent's maintenance": {"agent": AgentReport(state=AdminState.MAINT)},
}


@pytest.mark.parametrize("change", DOWNS.values(), ids=DOWNS)
def test_sessions_end_where_a_backend_is_down_whatever_reports_it(change: dict[str, Any]) -> None:
    before = state(CLOSE)
    after = treated(before, a=change)
    assert cut(before, after) == {"a": CloseReason.BACKEND_DOWN}
    assert cut(after, treated(after, b={"weight": 3})) == {}
    kept = state({})
    assert cut(kept, treated(kept, a=change)) == {}


@pytest.mark.parametrize("change", [{"state": AdminState.DRAIN}, {"ejected": True}, {"weight": 0}])
def test_sessions_stay_where_a_backend_only_takes_no_new_ones(change: dict[str, Any]) -> None:
    before = state(CLOSE)
    drained = treated(before, a=change)
    assert cut(before, drained) == {}
    assert cut(drained, treated(drained, a={"health": DOWN})) == {"a": CloseReason.BACKEND_DOWN}


def test_a_panicking_pool_believes_no_check_until_it_has_calmed_down() -> None:
    before = state(CLOSE | {"panic_threshold": "50%"}, b=DOWN, c=DOWN)
    panic = treated(before, a={"health": DOWN})
    assert panic.pools["app"].panic
    assert cut(before, panic) == {}
    calm = treated(panic, b={"health": UP}, c={"health": UP})
    assert cut(panic, calm) == {"a": CloseReason.BACKEND_DOWN}


def test_a_backend_that_is_down_when_the_file_says_close_loses_its_sessions() -> None:
    before = state({}, a=DOWN)
    wanted = config(*TIERS, pool=CHECKED | CLOSE)
    after = treated(
        merged(wanted), **{name: {"health": one.health} for name, one in before.pools["app"].backends.items()}
    )
    assert cut(before, after) == {"a": CloseReason.BACKEND_DOWN}


def test_a_backend_that_is_new_has_no_sessions_to_lose() -> None:
    before = merged(config(TIERS[0], pool=CHECKED | CLOSE))
    assert cut(before, state(CLOSE, b=DOWN)) == {}
    assert cut(State(), state(CLOSE, a=DOWN)) == {}


def test_sessions_on_lower_tiers_end_when_a_better_backend_comes_up() -> None:
    pool = {"on_up": "close_lower"}
    before = state(pool, a=DOWN)
    after = treated(before, a={"health": UP})
    assert cut(before, after) == {"b": CloseReason.BETTER_UP, "c": CloseReason.BETTER_UP}
    assert cut(after, before) == {}
    assert cut(state({}, a=DOWN), state({})) == {}
    # One of the same tier is no better.
    assert cut(state(pool, a=DOWN, b=DOWN), state(pool, a=DOWN)) == {}


def test_a_backend_that_is_only_used_in_a_panic_has_not_come_up() -> None:
    pool = {"on_up": "close_lower", "panic_threshold": "60%"}
    before = state(pool, a=DOWN)
    panic = treated(before, b={"health": DOWN})
    assert panic.pools["app"].panic
    assert "a" in panic.pools["app"].accepting()
    assert cut(before, panic) == {}
    assert cut(panic, treated(panic, a={"health": UP})) == {"b": CloseReason.BETTER_UP, "c": CloseReason.BETTER_UP}


def test_a_better_backend_that_is_held_back_ends_no_session() -> None:
    pool = {"on_up": "close_lower", "failback": "off"}
    before = state(pool, a=DOWN)
    before = replace(before, pools={"app": replace(before.pools["app"], seat=Seat(1))})
    after = treated(before, a={"health": UP})
    assert cut(before, after) == {}
    free = replace(after, pools={"app": replace(after.pools["app"], seat=Seat(0))})
    assert cut(after, free) == {"b": CloseReason.BETTER_UP, "c": CloseReason.BETTER_UP}


def test_what_ends_is_known_by_its_slot() -> None:
    before = state(CLOSE)
    (one,) = cuts(before, treated(before, a={"health": DOWN}))
    assert one == Cut(("app", "a"), before.pools["app"].backends["a"].slot, CloseReason.BACKEND_DOWN)


@pytest.fixture(autouse=True)
def no_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests say what checks come to."""
    monkeypatch.setattr(Scheduler, "apply", lambda _scheduler, _checks: None)


# ---- the whole -------------------------------------------------------------------------------------------------------


def health(stage: Stage, name: str, up: bool) -> None:
    stage.balancer.parts.findings.on_health(("app", name), UP if up else DOWN, (GOOD if up else BAD).message)


def slots(stage: Stage) -> dict[str, int]:
    return {one.name: one.slot for one in stage.engine.snapshot.pools[0].backends}


async def accepting(stage: Stage, pool: dict[str, Any], *up: str) -> None:
    """Serve clients with the pool, these backends of it known to be up and the others to be down."""
    stage.balancer.hold()
    await stage.apply(config(*TIERS, pool=CHECKED | pool))
    for name in ("a", "b", "c"):
        health(stage, name, name in up)
    stage.balancer.accept()


def test_the_data_plane_knows_of_it_before_sessions_end_and_it_is_tried_again() -> None:
    async def main() -> None:
        async with staged() as stage:
            await accepting(stage, CLOSE, "a", "b", "c")
            stage.engine.publish_error = OSError("no memory")
            health(stage, "a", False)
            assert not stage.balancer.parts.cutter.active.is_set()
            stage.engine.publish_error = None
            stage.balancer.parts.publication.publisher.now()
            assert not stage.usable()["a"]
            stage.engine.kill_error = OSError("a worker does not answer")
            with pytest.raises(OSError, match="does not answer"):
                await stage.balancer.parts.cutter.round()
            stage.engine.kill_error = None
            await stage.balancer.parts.cutter.round()
            assert stage.engine.close_reasons == [(slots(stage)["a"], CloseReason.BACKEND_DOWN)]
            assert not stage.balancer.parts.cutter.active.is_set()

    run(main())


def test_a_backend_that_left_meanwhile_is_left_alone() -> None:
    async def main() -> None:
        async with staged() as stage:
            await accepting(stage, CLOSE, "a", "b", "c")
            health(stage, "a", False)
            await eventually(stage.balancer.parts.cutter.active.is_set)
            await stage.apply(config(*TIERS[1:], pool=CHECKED | CLOSE))
            await stage.balancer.parts.cutter.round()
            assert stage.engine.close_reasons == []

    run(main())


def test_a_pool_stays_at_its_tier_over_reloads_until_that_fails() -> None:
    async def main() -> None:
        async with staged() as stage:
            pool = {"failback": "off"}
            await accepting(stage, pool, "a", "b", "c")
            assert stage.usable() == {"a": True, "b": True, "c": True}
            health(stage, "a", False)
            await eventually(lambda: not stage.usable()["a"])
            health(stage, "a", True)
            await eventually(lambda: not stage.balancer.parts.publication.publisher.waiting)
            for weight in (2, 3):
                assert stage.usable() == {"a": False, "b": True, "c": True}
                status = stage.balancer.pools()["app"]
                assert status.failover is not None
                assert (status.failover.current, status.failover.held) == ("tier 1", ("a",))
                assert "failback is off" in status.failover.message
                tiers = (TIERS[0], TIERS[1] | {"weight": weight}, TIERS[2])
                await stage.apply(config(*tiers, pool=CHECKED | pool | {"retries": weight}))
            # To go back, an operator drains what is current.
            stage.balancer.set_backend("app", "b", state=AdminState.DRAIN)
            stage.balancer.set_backend("app", "c", state=AdminState.DRAIN)
            assert stage.usable() == {"a": True, "b": False, "c": False}
            stage.balancer.set_backend("app", "b", state=AdminState.READY)
            assert stage.usable() == {"a": True, "b": True, "c": False}
            await stage.apply(config(*TIERS, pool=CHECKED))
            assert stage.balancer.state.pools["app"].seat is None

    run(main())


def test_a_pool_goes_back_by_itself_when_its_time_has_come() -> None:
    async def main() -> None:
        async with staged() as stage:
            await accepting(stage, {"failback": "100ms"}, "a", "b", "c")
            # What comes up right after the start was there before.
            for name in ("a", "b", "c"):
                entry = stage.balancer.state.pools["app"].backends[name]
                assert entry.usable_since is not None
            health(stage, "a", False)
            await eventually(lambda: not stage.usable()["a"])
            assert stage.balancer.state.pools["app"].seat == Seat(1)
            health(stage, "a", True)
            await eventually(lambda: stage.usable()["a"])
            assert stage.balancer.state.pools["app"].seat == Seat(0)

    run(main())


def test_before_the_first_client_no_tier_is_stayed_at() -> None:
    async def main() -> None:
        async with staged() as stage:
            stage.balancer.hold()
            await stage.apply(config(*TIERS, pool=CHECKED | {"failback": "off"}))
            health(stage, "b", True)
            health(stage, "a", False)
            assert stage.balancer.state.pools["app"].seat is None
            health(stage, "a", True)
            stage.balancer.accept()
            assert stage.balancer.state.pools["app"].seat == Seat(0)

    run(main())


def test_a_lower_tier_serves_no_client_while_one_above_is_usable() -> None:
    async def main() -> None:
        async with staged() as stage:
            await accepting(stage, {"spill": "off"}, "a", "b", "c")
            assert stage.usable() == {"a": True, "b": False, "c": False}
            assert stage.balancer.pools()["app"].backends["b"].effective_weight == 0
            health(stage, "a", False)
            await eventually(lambda: stage.usable() == {"a": False, "b": True, "c": True})
            health(stage, "a", True)
            await eventually(lambda: stage.usable() == {"a": True, "b": False, "c": False})

    run(main())


# ---- a successor -----------------------------------------------------------------------------------------------------


def test_a_successor_stays_where_its_predecessor_stayed() -> None:
    seats = {"app": Seat(1), "db": Seat(0, "b")}
    listener = HandoverReader()
    for kind, fields in seat_messages(seats):
        listener.read(kind, fields)
    assert listener.memory.seats == seats
    stays = state({"failback": "off"})
    assert restore.seats(stays, seats).pools["app"].seat == Seat(1)
    assert restore.seats(stays, {}) is stays
    goes_back = state({})
    assert restore.seats(goes_back, seats) is goes_back
