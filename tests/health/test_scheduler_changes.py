"""Changed settings and targets: what a scheduler checks anew, and what it keeps."""

from __future__ import annotations

import asyncio

from l4lb.health.scheduler import Check
from tests.health.scheduling import BAD, DOWN, FAST, PENDING, RARELY, UP, FakeNetwork, Heard, scheduling, target
from tests.helpers.loops import eventually, run, turns


def test_applying_the_same_again_keeps_the_watch_and_starts_no_check(network: FakeNetwork) -> None:
    async def main() -> None:
        async with scheduling() as scheduler:
            scheduler.apply({"a": Check(target(1), RARELY)})
            await eventually(lambda: network.asked[target(1)] == 1)
            await turns()
            watch = scheduler.watch("a")
            for _ in range(100):
                scheduler.apply({"a": Check(target(1), RARELY, UP)})
                await turns(3)
            assert scheduler.watch("a") is watch
            assert network.asked[target(1)] == 1

    run(main())


def test_new_interval_counts_at_once_and_what_is_known_is_kept(network: FakeNetwork) -> None:
    async def main() -> None:
        heard = Heard()
        async with scheduling(heard) as scheduler:
            scheduler.apply({"a": Check(target(1), RARELY)})
            await eventually(lambda: heard.changes)
            scheduler.apply({"a": Check(target(1), FAST, UP)})
            await eventually(lambda: network.asked[target(1)] >= 5)
            watch = scheduler.watch("a")
            assert watch is not None
            assert watch.results_total["success"] >= 5
            assert network.settings[-1] == FAST
        assert heard.changes == [("a", UP, "fine")]

    run(main())


def test_streak_survives_a_change_of_settings(network: FakeNetwork) -> None:
    async def main() -> None:
        heard = Heard()
        network.answers[target(1)] = BAD
        async with scheduling(heard) as scheduler:
            for turn in range(3):
                settings = RARELY.model_copy(update={"timeout": 1.0 + turn, "fall": 3})
                scheduler.apply({"a": Check(target(1), settings, UP)})
                await eventually(lambda: network.asked[target(1)] == turn + 1)  # noqa: B023
                await turns()
            assert heard.changes == [("a", DOWN, "broken")]

    run(main())


def test_moved_target_is_checked_anew_and_keeps_its_counts(network: FakeNetwork) -> None:
    async def main() -> None:
        heard = Heard()
        async with scheduling(heard) as scheduler:
            scheduler.apply({"a": Check(target(1), RARELY)})
            await eventually(lambda: heard.changes)
            network.gate = asyncio.Event()
            scheduler.apply({"a": Check(target(2), RARELY, PENDING)})
            watch = scheduler.watch("a")
            assert watch is not None
            assert watch.health.state is PENDING
            network.gate.set()
            await eventually(lambda: len(heard.changes) == 2)
            assert watch.results_total["success"] == 2
            assert network.asked == {target(1): 1, target(2): 1}

    run(main())


def test_backend_that_moved_behind_the_same_check_port_is_checked_anew(network: FakeNetwork) -> None:
    async def main() -> None:
        heard = Heard()
        async with scheduling(heard) as scheduler:
            scheduler.apply({"a": Check(target(1), RARELY)})
            await eventually(lambda: heard.changes)
            scheduler.apply({"a": Check(target(1), RARELY, PENDING)})
            await eventually(lambda: len(heard.changes) == 2)
            assert network.asked[target(1)] == 2

    run(main())


def test_a_backend_that_served_without_checks_is_up_until_they_fail(network: FakeNetwork) -> None:
    async def main() -> None:
        heard = Heard()
        network.answers[target(1)] = BAD
        async with scheduling(heard) as scheduler:
            scheduler.apply({"a": Check(target(1), FAST, UP)})
            await eventually(lambda: heard.changes)
            assert heard.changes == [("a", DOWN, "broken")]
            assert network.asked[target(1)] >= FAST.fall

    run(main())


def test_removed_backend_is_checked_no_more(network: FakeNetwork) -> None:
    async def main() -> None:
        async with scheduling() as scheduler:
            scheduler.apply({"a": Check(target(1), FAST), "b": Check(target(2), FAST)})
            await eventually(lambda: len(network.asked) == 2)
            scheduler.apply({"b": Check(target(2), FAST, UP)})
            asked = network.asked[target(1)]
            before = network.asked[target(2)]
            await eventually(lambda: network.asked[target(2)] >= before + 5)
            assert network.asked[target(1)] == asked
            assert scheduler.watch("a") is None

    run(main())
