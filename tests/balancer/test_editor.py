"""Changes of backends at run time, beside whatever else happens: whole or not at all, and never lost."""

from __future__ import annotations

import asyncio
import errno

import pytest

from l4lb.balancer.balancer import Balancer
from l4lb.config import Address
from l4lb.engine.api import EngineOptions
from l4lb.errors import ControlError
from l4lb.net.target import Target
from l4lb.status import AdminState
from tests.helpers.build import config
from tests.helpers.fake_engine import FakeEngine
from tests.helpers.loops import run
from tests.helpers.stage import CHECKED, DOWN, UP, A, B, C, Stage, staged


def names(stage: Stage) -> list[str]:
    return [backend.name for backend in stage.engine.snapshot.pools[0].backends]


async def refused(change: object, words: str, status: int = 409) -> None:
    with pytest.raises(ControlError, match=words) as caught:
        await change  # type: ignore[misc]
    assert caught.value.status == status


def test_what_the_data_plane_refuses_changes_nothing() -> None:
    async def body() -> None:
        async with staged() as stage:
            await stage.apply(config(A, B))
            state, slots = stage.balancer.state, set(stage.engine.slots)
            stage.engine.publish_error = OSError(errno.EINVAL, "Invalid argument")
            await refused(stage.balancer.add_backend("app", {"address": C}), "data plane")
            await refused(stage.balancer.change_backend("app", A, {"address": C}), "data plane")
            await refused(stage.balancer.remove_backend("app", A), "data plane")
            stage.engine.publish_error = None
            assert (stage.balancer.state, stage.engine.slots) == (state, slots)
            assert stage.balancer.pools()["app"].removed == ()
            stage.engine.slots_left = 0
            await refused(stage.balancer.add_backend("app", {"address": C}), "No space left")
            assert await stage.balancer.remove_backend("app", A) == 0
            assert names(stage) == [B]

    run(body())


def test_nothing_is_edited_before_the_start_while_a_successor_is_told_and_in_a_stop() -> None:
    async def body() -> None:
        new = Balancer(FakeEngine(EngineOptions()), lambda _sessions: None)
        await refused(new.add_backend("app", {"address": C}), "not up yet")
        await new.close()
        async with staged() as stage:
            await stage.apply(config(A))
            with stage.balancer.unedited():
                await refused(stage.balancer.add_backend("app", {"address": C}), "an upgrade is under way")
                await refused(stage.balancer.remove_backend("app", A), "an upgrade is under way")
            await stage.balancer.add_backend("app", {"address": C})
            await stage.balancer.stop_accepting()
            await refused(stage.balancer.add_backend("app", {"address": B}), "stops")

    run(body())


def test_an_upgrade_that_begins_while_a_name_is_looked_up_ends_the_change(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with staged() as stage:
            await stage.apply(config(A))
            answer = held_look_ups(stage, monkeypatch)
            adding = asyncio.create_task(stage.balancer.add_backend("app", {"address": "name.example:80"}))
            await asyncio.sleep(0)
            with stage.balancer.unedited():
                answer.set()
                await refused(adding, "an upgrade is under way")
            assert names(stage) == [A]

    run(body())


def held_look_ups(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Let names lead somewhere once the event is set."""
    answer = asyncio.Event()

    async def look_up(names: list[Address]) -> dict[Address, Target]:
        await answer.wait()
        return {}

    monkeypatch.setattr(stage.balancer.parts.planner, "look_up", look_up)
    return answer


def test_of_two_that_add_the_same_name_one_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with staged() as stage:
            await stage.apply(config(A))
            answer = held_look_ups(stage, monkeypatch)
            adding = [
                asyncio.create_task(stage.balancer.add_backend("app", {"name": "x", "address": f"{name}.example:80"}))
                for name in "ab"
            ]
            await asyncio.sleep(0)
            answer.set()
            outcomes = await asyncio.gather(*adding, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [str, ControlError]
            assert names(stage) == [A, "x"]

    run(body())


def test_what_is_edited_while_a_reload_is_prepared_lasts() -> None:
    async def body() -> None:
        async with staged() as stage:
            await stage.apply(config(A, B))
            plan = await stage.balancer.prepare(config(A, B, pool={"retries": 1}))
            await stage.balancer.add_backend("app", {"name": "c", "address": C})
            await stage.balancer.remove_backend("app", B)
            stage.balancer.apply(plan)
            assert names(stage) == [A, "c"]
            assert stage.engine.snapshot.pools[0].retries == 1

    run(body())


def test_another_address_keeps_what_was_done_to_the_backend_and_forgets_what_was_known_of_the_server() -> None:
    async def body() -> None:
        async with staged() as stage:
            await stage.apply(config({"name": "a", "address": A}, B, pool=CHECKED))
            slot = stage.balancer.state.pools["app"].backends["a"].slot
            stage.balancer.parts.findings.on_health(("app", "a"), UP, "fine")
            stage.balancer.set_backend("app", "a", state=AdminState.DRAIN, weight=7)
            await stage.balancer.change_backend("app", "a", {"max_busy": 3})
            assert (stage.backend("a").health, stage.backend("a").max_busy) == (UP, 3)
            await stage.balancer.change_backend("app", "a", {"address": C})
            entry = stage.balancer.state.pools["app"].backends["a"]
            assert (entry.slot, entry.state, entry.weight, entry.config.max_busy) == (slot, AdminState.DRAIN, 7, 3)
            assert entry.health not in (UP, DOWN)
            assert entry.target is not None
            assert entry.target.address == ("127.0.0.1", 9003)
            await stage.apply(config({"name": "a", "address": A}, B, pool={**CHECKED, "retries": 1}))
            assert stage.balancer.state.pools["app"].backends["a"].target == entry.target

    run(body())


def test_a_pool_that_did_not_change_is_not_composed_again() -> None:
    async def body() -> None:
        async with staged() as stage:
            other = {"backends": [B]}
            pools = {"app": {"backends": [A]}, "other": other}
            await stage.apply(config(pools=pools))
            before = stage.engine.snapshot.pools[1]
            await stage.balancer.add_backend("app", {"address": C})
            assert stage.engine.snapshot.pools[1] is before

    run(body())
