"""Which backends are cold, and for how long: those that have just become usable, and no others."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from l4lb.balancer import cold_starts
from l4lb.status import AdminState
from tests.helpers.build import config
from tests.helpers.loops import eventually, run
from tests.helpers.stage import CHECKED, DOWN, GOOD, UP, A, B, Stage, staged

SPARED: dict[str, Any] = {"slow_start": {"turns": 2, "responses": 3}}


@contextlib.asynccontextmanager
async def running(*backends: object, **pool: Any) -> AsyncIterator[Stage]:
    """A balancer that has served clients for longer than the start lasts."""
    async with staged() as stage:
        await stage.apply(config(*backends, pool=SPARED | pool))
        stage.balancer.accept()
        yield stage


def cold(stage: Stage) -> dict[str, int]:
    """Responses for which backends are cold, by name."""
    names = {backend.slot: backend.name for backend in stage.engine.snapshot.pools[0].backends}
    return {names[slot]: responses for slot, responses in stage.engine.cold.items() if slot in names}


def test_backends_that_are_there_at_the_start_are_warm_and_one_that_joins_is_cold() -> None:
    async def main() -> None:
        async with running(A) as stage:
            assert cold(stage) == {}
            await stage.apply(config(A, B, pool=SPARED))
            assert cold(stage) == {B: 3}
            assert [backend.cold_max_busy for backend in stage.engine.snapshot.pools[0].backends] == [2, 2]

    run(main())


def test_a_reload_makes_no_backend_cold_that_stays_as_it_is() -> None:
    async def main() -> None:
        async with running(A) as stage:
            await stage.apply(config(A, B, pool=SPARED))
            stage.engine.cold.clear()
            await stage.apply(config({"address": A, "weight": 3}, B, pool=SPARED | {"retries": 1}))
            assert cold(stage) == {}

    run(main())


def test_a_backend_is_cold_after_maintenance() -> None:
    async def main() -> None:
        async with running(A, B) as stage:
            stage.balancer.set_backend("app", B, state=AdminState.MAINT)
            assert cold(stage) == {}
            stage.balancer.set_backend("app", B, state=AdminState.READY)
            assert cold(stage) == {B: 3}

    run(main())


def test_a_backend_that_comes_up_is_cold_before_it_gets_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("l4lb.balancer.weight_controller.START_GRACE", 0.0)
    seen: list[bool] = []

    async def main() -> None:
        async with running(A, B, **CHECKED) as stage:
            on_health, publish = stage.balancer.parts.findings.on_health, stage.engine.publish

            def watch(snapshot: Any) -> None:
                seen.extend(backend.slot in stage.engine.cold for backend in snapshot.pools[0].backends[1:])
                publish(snapshot)

            await eventually(lambda: [stage.backend(name).health for name in (A, B)] == [DOWN, DOWN])
            monkeypatch.setattr(stage.engine, "publish", watch)
            on_health(("app", B), UP, GOOD)
            await eventually(lambda: bool(seen))
            assert seen[0]
            assert cold(stage) == {B: 3}

    run(main())


def test_a_backend_does_not_stay_cold_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold_starts, "COLD_MAX", 0.01)

    async def main() -> None:
        async with running(A) as stage:
            await stage.apply(config(A, B, pool=SPARED))
            await eventually(lambda: cold(stage) == {B: 0})

    run(main())


def test_a_slot_that_is_gone_by_then_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with running(A) as stage:
            await stage.apply(config(A, B, pool=SPARED))
            (slot,) = stage.engine.cold
            await stage.apply(config(A, pool=SPARED))
            stage.balancer.parts.cold_starts._end(slot)
            assert stage.engine.cold == {slot: 3}

    run(main())


@pytest.mark.parametrize("slow_start", ["off", "30s", {"responses": 5}])
def test_without_turns_no_backend_is_cold(slow_start: object) -> None:
    async def main() -> None:
        pool = {"slow_start": slow_start}
        async with running(A, **pool) as stage:
            await stage.apply(config(A, B, pool=pool))
            assert cold(stage) == {}

    run(main())
