"""Who is checked, how often, how many at once, and what a change of settings does to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from l4lb.config.model import Health
from l4lb.control.api import HealthState
from l4lb.health import scheduler as module
from l4lb.health.probes import Result, Target
from l4lb.health.scheduler import CONCURRENCY, Check, Scheduler
from tests.helpers.loops import eventually, run, turns

UP, DOWN, PENDING = HealthState.UP, HealthState.DOWN, HealthState.PENDING
GOOD, BAD = Result(True, "fine"), Result(False, "broken")
FAST = Health(interval=0.01, timeout=0.01, rise=2, fall=3)
RARELY = Health(interval=3600, timeout=1)


def target(number: int) -> Target:
    return Target(socket.AF_INET, ("127.0.0.1", number))


class Backends:
    """Stands in for the network: what each target answers, and who was asked with which settings."""

    def __init__(self) -> None:
        self.answers: dict[Target, Result] = {}
        self.asked: Counter[Target] = Counter()
        self.settings: list[Health] = []
        self.now = 0
        self.most = 0
        self.gate: asyncio.Event | None = None

    async def probe(self, where: Target, settings: Health) -> Result:
        self.asked[where] += 1
        self.settings.append(settings)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if self.gate is not None:
                await self.gate.wait()
            return self.answers.get(where, GOOD)
        finally:
            self.now -= 1


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch) -> Backends:
    backends = Backends()
    monkeypatch.setattr(module, "probe", backends.probe)
    return backends


class Heard:
    """What the scheduler reported."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, HealthState, str]] = []

    def __call__(self, key: str, state: HealthState, message: str) -> None:
        self.changes.append((key, state, message))


@contextlib.asynccontextmanager
async def scheduling(heard: Heard | None = None) -> AsyncIterator[Scheduler[str]]:
    scheduler: Scheduler[str] = Scheduler(heard or Heard())
    try:
        yield scheduler
    finally:
        await scheduler.close()


def test_first_check_is_at_once_and_brings_up(backends: Backends) -> None:
    async def main() -> None:
        heard = Heard()
        async with scheduling(heard) as scheduler:
            scheduler.apply({"a": Check(target(1), RARELY)})
            await eventually(lambda: heard.changes)
            assert heard.changes == [("a", UP, "fine")]
            watch = scheduler.watch("a")
            assert watch is not None
            assert (watch.message, dict(watch.results_total)) == ("fine", {"success": 1, "failure": 0})

    run(main())


def test_changes_are_reported_once_each(backends: Backends) -> None:
    async def main() -> None:
        heard = Heard()
        async with scheduling(heard) as scheduler:
            scheduler.apply({"a": Check(target(1), FAST)})
            await eventually(lambda: backends.asked[target(1)] >= 5)
            backends.answers[target(1)] = BAD
            await eventually(lambda: len(heard.changes) == 2)
            before = backends.asked[target(1)]
            await eventually(lambda: backends.asked[target(1)] >= before + 5)
            backends.answers[target(1)] = GOOD
            await eventually(lambda: len(heard.changes) == 3)
        assert heard.changes == [("a", UP, "fine"), ("a", DOWN, "broken"), ("a", UP, "fine")]

    run(main())


def test_results_are_counted(backends: Backends) -> None:
    async def main() -> None:
        backends.answers[target(1)] = BAD
        async with scheduling() as scheduler:
            scheduler.apply({"a": Check(target(1), FAST)})
            watch = scheduler.watch("a")
            assert watch is not None
            await eventually(lambda: watch.results_total["failure"] >= 3)
            assert watch.results_total["success"] == 0

    run(main())


def test_mistake_in_the_listener_stops_no_check(backends: Backends, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        def on_change(key: str, state: HealthState, message: str) -> None:
            raise RuntimeError("listener is broken")

        scheduler: Scheduler[str] = Scheduler(on_change)
        scheduler.apply({"a": Check(target(1), FAST)})
        await eventually(lambda: backends.asked[target(1)] >= 3)
        await scheduler.close()

    run(main())
    assert "listener is broken" in caplog.text


def test_applying_the_same_again_keeps_the_watch_and_starts_no_check(backends: Backends) -> None:
    async def main() -> None:
        async with scheduling() as scheduler:
            scheduler.apply({"a": Check(target(1), RARELY)})
            await eventually(lambda: backends.asked[target(1)] == 1)
            await turns()
            watch = scheduler.watch("a")
            for _ in range(100):
                scheduler.apply({"a": Check(target(1), RARELY, UP)})
                await turns(3)
            assert scheduler.watch("a") is watch
            assert backends.asked[target(1)] == 1

    run(main())


def test_new_interval_counts_at_once_and_what_is_known_is_kept(backends: Backends) -> None:
    async def main() -> None:
        heard = Heard()
        async with scheduling(heard) as scheduler:
            scheduler.apply({"a": Check(target(1), RARELY)})
            await eventually(lambda: heard.changes)
            scheduler.apply({"a": Check(target(1), FAST, UP)})
            await eventually(lambda: backends.asked[target(1)] >= 5)
            watch = scheduler.watch("a")
            assert watch is not None
            assert watch.results_total["success"] >= 5
            assert backends.settings[-1] == FAST
        assert heard.changes == [("a", UP, "fine")]

    run(main())


def test_streak_survives_a_change_of_settings(backends: Backends) -> None:
    async def main() -> None:
        heard = Heard()
        backends.answers[target(1)] = BAD
        async with scheduling(heard) as scheduler:
            for turn in range(3):
                settings = RARELY.model_copy(update={"timeout": 1.0 + turn, "fall": 3})
                scheduler.apply({"a": Check(target(1), settings, UP)})
                await eventually(lambda: backends.asked[target(1)] == turn + 1)  # noqa: B023
                await turns()
            assert heard.changes == [("a", DOWN, "broken")]

    run(main())


def test_moved_target_is_checked_anew_and_keeps_its_counts(backends: Backends) -> None:
    async def main() -> None:
        heard = Heard()
        async with scheduling(heard) as scheduler:
            scheduler.apply({"a": Check(target(1), RARELY)})
            await eventually(lambda: heard.changes)
            backends.gate = asyncio.Event()
            scheduler.apply({"a": Check(target(2), RARELY, PENDING)})
            watch = scheduler.watch("a")
            assert watch is not None
            assert watch.health.state is PENDING
            backends.gate.set()
            await eventually(lambda: len(heard.changes) == 2)
            assert watch.results_total["success"] == 2
            assert backends.asked == {target(1): 1, target(2): 1}

    run(main())


def test_backend_that_moved_behind_the_same_check_port_is_checked_anew(backends: Backends) -> None:
    async def main() -> None:
        heard = Heard()
        async with scheduling(heard) as scheduler:
            scheduler.apply({"a": Check(target(1), RARELY)})
            await eventually(lambda: heard.changes)
            scheduler.apply({"a": Check(target(1), RARELY, PENDING)})
            await eventually(lambda: len(heard.changes) == 2)
            assert backends.asked[target(1)] == 2

    run(main())


def test_who_served_without_checks_is_up_until_they_fail(backends: Backends) -> None:
    async def main() -> None:
        heard = Heard()
        backends.answers[target(1)] = BAD
        async with scheduling(heard) as scheduler:
            scheduler.apply({"a": Check(target(1), FAST, UP)})
            await eventually(lambda: heard.changes)
            assert heard.changes == [("a", DOWN, "broken")]
            assert backends.asked[target(1)] >= FAST.fall

    run(main())


def test_removed_backend_is_checked_no_more(backends: Backends) -> None:
    async def main() -> None:
        async with scheduling() as scheduler:
            scheduler.apply({"a": Check(target(1), FAST), "b": Check(target(2), FAST)})
            await eventually(lambda: len(backends.asked) == 2)
            scheduler.apply({"b": Check(target(2), FAST, UP)})
            asked = backends.asked[target(1)]
            before = backends.asked[target(2)]
            await eventually(lambda: backends.asked[target(2)] >= before + 5)
            assert backends.asked[target(1)] == asked
            assert scheduler.watch("a") is None

    run(main())


def test_checks_at_once_are_bounded(backends: Backends) -> None:
    async def main() -> None:
        backends.gate = asyncio.Event()
        heard = Heard()
        async with scheduling(heard) as scheduler:
            scheduler.apply({str(n): Check(target(n), RARELY) for n in range(3 * CONCURRENCY)})
            await eventually(lambda: backends.now == CONCURRENCY)
            await turns()
            backends.gate.set()
            await eventually(lambda: len(heard.changes) == 3 * CONCURRENCY)
        assert backends.most == CONCURRENCY

    run(main())


def test_close_in_the_middle_of_checks_leaves_no_task(backends: Backends) -> None:
    async def main() -> None:
        backends.gate = asyncio.Event()
        scheduler: Scheduler[str] = Scheduler(Heard())
        scheduler.apply({str(n): Check(target(n), FAST) for n in range(2 * CONCURRENCY)})
        await eventually(lambda: backends.now == CONCURRENCY)
        await scheduler.close()
        assert backends.now == 0

    run(main())


def test_intervals_vary_so_that_checks_do_not_march_in_step(
    backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> list[float]:
        delays: list[float] = []
        real_sleep = asyncio.sleep

        async def sleep(delay: float) -> None:
            delays.append(delay)
            await real_sleep(0)

        scheduler: Scheduler[str] = Scheduler(Heard())
        monkeypatch.setattr(asyncio, "sleep", sleep)
        scheduler.apply({"a": Check(target(1), Health(interval=100, timeout=1))})
        while len(delays) < 200:
            await real_sleep(0)
        monkeypatch.undo()
        await scheduler.close()
        return delays

    delays = run(main())
    assert all(89 < delay <= 110 for delay in delays)
    assert len({round(delay) for delay in delays}) > 10
