"""The scheduler of health checks: what it reports, how many checks run at once, and what it survives."""

from __future__ import annotations

import asyncio

import pytest

from l4lb.config.model import Health
from l4lb.health import scheduler as module
from l4lb.health.machine import UNDECIDED_MAX
from l4lb.health.probes import NO_SUBJECT, Outcome, Result, Subject, command
from l4lb.health.scheduler import CONCURRENCY, Check, Scheduler
from l4lb.net.target import Target
from l4lb.status import HealthState
from tests.health.scheduling import (
    BAD,
    DOWN,
    FAST,
    GOOD,
    LATE,
    PENDING,
    RARELY,
    UP,
    FakeNetwork,
    Heard,
    scheduling,
    target,
)
from tests.helpers.loops import eventually, run, turns


def test_first_check_is_at_once_and_brings_up(network: FakeNetwork) -> None:
    async def main() -> None:
        heard = Heard()
        async with scheduling(heard) as scheduler:
            scheduler.apply({"a": Check(target(1), RARELY)})
            await eventually(lambda: heard.changes)
            assert heard.changes == [("a", UP, "fine")]
            watch = scheduler.watch("a")
            assert watch is not None
            assert (watch.message, dict(watch.results_total)) == (
                "fine",
                {"success": 1, "failure": 0, "inconclusive": 0, "hindered": 0},
            )

    run(main())


def test_changes_are_reported_once_each(network: FakeNetwork) -> None:
    async def main() -> None:
        heard = Heard()
        async with scheduling(heard) as scheduler:
            scheduler.apply({"a": Check(target(1), FAST)})
            await eventually(lambda: network.asked[target(1)] >= 5)
            network.answers[target(1)] = BAD
            await eventually(lambda: len(heard.changes) == 2)
            before = network.asked[target(1)]
            await eventually(lambda: network.asked[target(1)] >= before + 5)
            network.answers[target(1)] = GOOD
            await eventually(lambda: len(heard.changes) == 3)
        assert heard.changes == [("a", UP, "fine"), ("a", DOWN, "broken"), ("a", UP, "fine")]

    run(main())


def test_results_are_counted(network: FakeNetwork) -> None:
    async def main() -> None:
        network.answers[target(1)] = BAD
        async with scheduling() as scheduler:
            scheduler.apply({"a": Check(target(1), FAST)})
            watch = scheduler.watch("a")
            assert watch is not None
            await eventually(lambda: watch.results_total["failure"] >= 3)
            assert watch.results_total["success"] == 0

    run(main())


def test_mistake_in_the_listener_stops_no_check(network: FakeNetwork, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        def on_change(key: str, state: HealthState, message: str) -> None:
            raise RuntimeError("listener is broken")

        scheduler: Scheduler[str] = Scheduler(on_change)
        scheduler.apply({"a": Check(target(1), FAST)})
        await eventually(lambda: network.asked[target(1)] >= 3)
        await scheduler.close()

    run(main())
    assert "listener is broken" in caplog.text


def test_checks_at_once_are_bounded(network: FakeNetwork) -> None:
    async def main() -> None:
        network.gate = asyncio.Event()
        heard = Heard()
        async with scheduling(heard) as scheduler:
            scheduler.apply({str(n): Check(target(n), RARELY) for n in range(3 * CONCURRENCY)})
            await eventually(lambda: network.now == CONCURRENCY)
            await turns()
            network.gate.set()
            await eventually(lambda: len(heard.changes) == 3 * CONCURRENCY)
        assert network.most == CONCURRENCY

    run(main())


def test_close_in_the_middle_of_checks_leaves_no_task(network: FakeNetwork) -> None:
    async def main() -> None:
        network.gate = asyncio.Event()
        scheduler: Scheduler[str] = Scheduler(Heard())
        scheduler.apply({str(n): Check(target(n), FAST) for n in range(2 * CONCURRENCY)})
        await eventually(lambda: network.now == CONCURRENCY)
        await scheduler.close()
        assert network.now == 0

    run(main())


@pytest.mark.parametrize(("flowing", "expected"), [(True, UP), (False, DOWN)])
def test_timeout_while_bytes_flow_is_busy_and_not_dead(
    network: FakeNetwork, flowing: bool, expected: HealthState
) -> None:
    async def main() -> None:
        network.answers[target(1)] = LATE
        received = 0

        def read(key: str) -> int:
            nonlocal received
            received += flowing
            return received

        heard = Heard()
        scheduler: Scheduler[str] = Scheduler(heard, read)
        # One more check than it takes to go down, and no more than may say nothing.
        scheduler.apply({"a": Check(target(1), FAST, UP)})
        watch = scheduler.watch("a")
        assert watch is not None
        await eventually(lambda: network.asked[target(1)] > FAST.fall)
        assert network.asked[target(1)] < UNDECIDED_MAX
        assert watch.health.state is expected
        if flowing:
            assert watch.message == "busy: no answer within 1s, while clients get their answers"
            assert watch.results_total["inconclusive"] >= FAST.fall
        await scheduler.close()
        assert [state for _, state, _ in heard.changes] == ([] if flowing else [DOWN])

    run(main())


def test_backend_that_is_busy_for_too_long_is_down(network: FakeNetwork) -> None:
    async def main() -> None:
        network.answers[target(1)] = LATE
        received = iter(range(1_000_000))
        heard = Heard()
        scheduler: Scheduler[str] = Scheduler(heard, lambda key: next(received))
        scheduler.apply({"a": Check(target(1), FAST, UP)})
        await eventually(lambda: heard.changes)
        assert heard.changes == [("a", DOWN, "no answer within 1s")]
        assert network.asked[target(1)] == UNDECIDED_MAX + FAST.fall
        await scheduler.close()

    run(main())


@pytest.mark.parametrize("state", [UP, DOWN, PENDING])
def test_checks_that_this_host_could_not_make_say_nothing(network: FakeNetwork, state: HealthState) -> None:
    async def main() -> None:
        network.answers[target(1)] = Result(Outcome.HINDERED, "Too many open files")
        async with scheduling() as scheduler:
            scheduler.apply({"a": Check(target(1), FAST, state)})
            watch = scheduler.watch("a")
            assert watch is not None
            await eventually(lambda: watch.results_total["hindered"] > UNDECIDED_MAX + FAST.fall + FAST.rise)
            assert (watch.health.state, watch.message) == (state, "checks hindered: Too many open files")
            assert not watch.checked.is_set()
            network.answers[target(1)] = GOOD
            await watch.checked.wait()

    run(main())


def test_message_says_that_a_backend_flaps(network: FakeNetwork) -> None:
    async def main() -> None:
        heard = Heard()
        async with scheduling(heard) as scheduler:
            scheduler.apply({"a": Check(target(1), FAST, UP)})
            for turn in range(4):
                network.answers[target(1)] = BAD if turn % 2 == 0 else GOOD
                await eventually(lambda: len(heard.changes) == turn + 1)  # noqa: B023
                if heard.changes[-1][1] is DOWN and turn == 2:
                    assert heard.changes[-1][2] == "broken; it flaps: 4 good checks will bring it up"
        assert [state for _, state, _ in heard.changes] == [DOWN, UP, DOWN, UP]

    run(main())


def test_programs_are_bounded_on_their_own(network: FakeNetwork) -> None:
    async def main() -> None:
        network.gate = asyncio.Event()
        program = Health.model_validate({"type": "exec", "command": "/bin/true", "interval": 3600, "timeout": 1})
        async with scheduling() as scheduler:
            scheduler.apply({str(n): Check(target(n), program) for n in range(3 * command.CONCURRENCY)})
            await eventually(lambda: network.now == command.CONCURRENCY)
            await turns()
            assert network.most == command.CONCURRENCY
            scheduler.apply({"tcp": Check(target(1000), RARELY)})
            await eventually(lambda: network.asked[target(1000)] == 1)

    run(main())


def test_a_change_that_could_not_be_told_is_told_again(network: FakeNetwork, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        heard: list[HealthState] = []

        def hear(_key: str, state: HealthState, _message: str) -> None:
            heard.append(state)
            if len(heard) < 3:
                raise RuntimeError("not now")

        scheduler: Scheduler[str] = Scheduler(hear)
        scheduler.apply({"a": Check(target(1), FAST)})
        await eventually(lambda: len(heard) == 3)
        before = network.asked[target(1)]
        # Meanwhile its owner goes by what it knows: that starts nothing anew.
        scheduler.apply({"a": Check(target(1), FAST, UP)})
        await eventually(lambda: network.asked[target(1)] >= before + 3)
        assert heard == [UP] * 3
        await scheduler.close()

    run(main())
    assert caplog.messages == ["the result of a health check of a could not be used"] * 2


def test_a_check_that_ends_is_begun_again(
    network: FakeNetwork, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fails = iter([True, False])

    async def probe(where: Target, settings: Health, subject: Subject = NO_SUBJECT) -> Result:
        if next(fails, False):
            raise RuntimeError("never foreseen")
        return await network.probe(where, settings, subject)

    monkeypatch.setattr(module, "probe", probe)

    async def main() -> None:
        heard = Heard()
        async with scheduling(heard) as scheduler:
            scheduler.apply({"a": Check(target(1), FAST)})
            await eventually(lambda: heard.changes)

    run(main())
    assert caplog.messages == ["unexpected error in the health check of a; next try in 0.1 s"]
