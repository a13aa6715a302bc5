"""`max_busy: auto`: from what servers report to the limits of the data plane."""

from __future__ import annotations

from typing import Any

import pytest

from l4lb.balancer.limit_controller import LimitController
from l4lb.load.busy_limit import CONFIRMATIONS
from l4lb.load.exposition import Readings
from l4lb.status import AdminState
from tests.helpers.build import config
from tests.helpers.loops import run
from tests.helpers.stage import A, B, C, Stage, staged

AUTO: dict[str, Any] = {"load": {"signals": {"running": "r", "queue": "q"}, "interval": 3600}, "queue": {}}
FULL: Readings = {"running": 16.0, "queue": 3.0}


def auto(*addresses: str) -> list[dict[str, Any]]:
    return [{"address": address, "max_busy": "auto"} for address in addresses]


def limits(stage: Stage) -> dict[str, int]:
    return {backend.name: backend.max_busy for backend in stage.engine.snapshot.pools[0].backends}


def controller(stage: Stage) -> LimitController:
    return stage.balancer.parts.limits


async def report(stage: Stage, name: str, readings: Readings, times: int = CONFIRMATIONS) -> None:
    for _ in range(times):
        controller(stage).note(("app", name), readings)
    await controller(stage).round()


def test_a_limit_that_is_learnt_is_put_into_force_and_explained() -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(*auto(A, B), C, pool=AUTO))
            assert limits(stage) == {A: 0, B: 0, C: 0}
            assert stage.backend(A).max_busy is None
            assert stage.backend(A).max_busy_message == "not known yet: no request has waited in the server"
            await report(stage, A, FULL)
            assert limits(stage) == {A: 17, B: 17, C: 0}
            assert (stage.backend(A).max_busy, stage.backend(A).max_busy_message) == (17, "learnt: 16 run at once")
            assert stage.backend(B).max_busy_message == "not known yet, so the largest of the pool"
            assert stage.backend(C).max_busy_message is None

    run(main())


def test_what_changes_no_limit_is_not_published() -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(*auto(A, B), pool=AUTO))
            await report(stage, A, FULL)
            published = len(stage.engine.snapshots)
            for running in (16.0, 3.0, 0.0, 12.0):
                await report(stage, A, {"running": running, "queue": 0.0}, 10)
            assert len(stage.engine.snapshots) == published

    run(main())


@pytest.mark.parametrize("readings", [{}, {"running": 16.0}, {"queue": 3.0}, {"kv": 0.5}])
def test_half_of_the_numbers_teach_nothing(readings: Readings) -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(*auto(A), pool=AUTO))
            for _ in range(CONFIRMATIONS):
                controller(stage).note(("app", A), readings)
            assert not controller(stage).dirty.is_set()

    run(main())


def test_a_reload_keeps_what_was_learnt_of_a_server_and_forgets_it_with_the_server() -> None:
    async def main() -> None:
        async with staged() as stage:
            named = {"name": "a", "max_busy": "auto"}
            await stage.apply(config(named | {"address": A}, pool=AUTO))
            await report(stage, "a", FULL)
            await stage.apply(config(named | {"address": A, "weight": 3}, pool=AUTO | {"retries": 1}))
            assert limits(stage) == {"a": 17}
            stage.balancer.set_backend("app", "a", state=AdminState.MAINT)
            stage.balancer.set_backend("app", "a", state=AdminState.READY)
            assert limits(stage) == {"a": 17}
            await stage.apply(config(named | {"address": B}, pool=AUTO))
            assert limits(stage) == {"a": 0}

    run(main())


def test_a_number_in_the_file_replaces_what_was_learnt() -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(*auto(A), pool=AUTO))
            await report(stage, A, FULL)
            await stage.apply(config({"address": A, "max_busy": 5}, pool=AUTO))
            controller(stage).note(("app", A), FULL)
            assert limits(stage) == {A: 5}
            assert stage.backend(A).max_busy_message is None

    run(main())
