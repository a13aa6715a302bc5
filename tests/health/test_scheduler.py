"""Who is checked, how often, how many at once, and what a change of settings does to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from l4lb.config.model import Health
from l4lb.health import scheduler as module
from l4lb.health.machine import UNDECIDED_MAX
from l4lb.health.probes import NOBODY, Outcome, Result, Subject, command, failure, success
from l4lb.health.scheduler import CONCURRENCY, Check, Scheduler
from l4lb.net.target import Target
from l4lb.status import HealthState
from tests.helpers.loops import eventually, run, turns

UP, DOWN, PENDING = HealthState.UP, HealthState.DOWN, HealthState.PENDING
GOOD, BAD = success("fine"), failure("broken")
LATE = Result(Outcome.TIMEOUT, "no answer within 1s")
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

    async def probe(self, where: Target, settings: Health, subject: Subject = NOBODY) -> Result:
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
            assert (watch.message, dict(watch.results_total)) == (
                "fine",
                {"success": 1, "failure": 0, "inconclusive": 0, "hindered": 0},
            )

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


class Sleeps:
    """Lets no time pass, and remembers how much was wanted: the clock that checks are planned by is its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wanted: list[float] = []
        self.really = asyncio.sleep
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    async def sleep(self, delay: float) -> None:
        self.wanted.append(delay)
        await self.really(0)

    async def until(self, number: int) -> None:
        while len(self.wanted) < number:
            await self.really(0)


def waits(monkeypatch: pytest.MonkeyPatch, number: int, **settings: float) -> list[float]:
    """How long one backend's checks wait for their turn, counted from the start, when no time passes."""

    async def main() -> list[float]:
        scheduler: Scheduler[str] = Scheduler(Heard())
        sleeps = Sleeps(monkeypatch)
        scheduler.apply({"a": Check(target(1), Health.model_validate({"interval": 100, "timeout": 1} | settings))})
        await sleeps.until(number)
        monkeypatch.undo()
        await scheduler.close()
        return sleeps.wanted

    return run(main())


def test_turns_are_whole_intervals_apart_give_or_take_the_jitter(
    backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No time passes, so the first wait is to a turn within the interval, the next one to the turn after it, and so on.
    steady = waits(monkeypatch, 50, jitter=0.0)
    assert 0 < steady[0] <= 100
    assert [round(wait - steady[0]) for wait in steady] == [100 * turn for turn in range(50)]


def test_second_check_is_never_at_once(backends: Backends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.random, "random", lambda: 1.0)
    monkeypatch.setattr(module.random, "uniform", lambda least, most: least)
    assert round(waits(monkeypatch, 2, jitter=0.2)[0]) == 20


def test_jitter_moves_each_check_and_never_the_turns(backends: Backends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.random, "random", lambda: 0.0)
    monkeypatch.setattr(module, "probe", backends.probe)
    shifts = [wait - 100 * (turn + 1) for turn, wait in enumerate(waits(monkeypatch, 200, jitter=0.2))]
    assert all(-21 < shift < 21 for shift in shifts)
    assert len({round(shift) for shift in shifts}) > 10


def test_turns_of_many_backends_are_spread_over_the_interval(
    backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> list[float]:
        scheduler: Scheduler[str] = Scheduler(Heard(), concurrency=1000)
        sleeps = Sleeps(monkeypatch)
        scheduler.apply({str(n): Check(target(n), Health(interval=100, timeout=1, jitter=0.0)) for n in range(400)})
        await sleeps.until(400)
        monkeypatch.undo()
        await scheduler.close()
        return sleeps.wanted[:400]

    tenths = Counter(int(wait // 10) for wait in run(main()))
    assert all(tenths[tenth] > 10 for tenth in range(10))


@pytest.mark.parametrize(("flowing", "expected"), [(True, UP), (False, DOWN)])
def test_timeout_while_bytes_flow_is_busy_and_not_dead(
    backends: Backends, flowing: bool, expected: HealthState
) -> None:
    async def main() -> None:
        backends.answers[target(1)] = LATE
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
        await eventually(lambda: backends.asked[target(1)] > FAST.fall)
        assert backends.asked[target(1)] < UNDECIDED_MAX
        assert watch.health.state is expected
        if flowing:
            assert watch.message == "busy: no answer within 1s, while clients get their answers"
            assert watch.results_total["inconclusive"] >= FAST.fall
        await scheduler.close()
        assert [state for _, state, _ in heard.changes] == ([] if flowing else [DOWN])

    run(main())


def test_backend_that_is_busy_for_too_long_is_down(backends: Backends) -> None:
    async def main() -> None:
        backends.answers[target(1)] = LATE
        received = iter(range(1_000_000))
        heard = Heard()
        scheduler: Scheduler[str] = Scheduler(heard, lambda key: next(received))
        scheduler.apply({"a": Check(target(1), FAST, UP)})
        await eventually(lambda: heard.changes)
        assert heard.changes == [("a", DOWN, "no answer within 1s")]
        assert backends.asked[target(1)] == UNDECIDED_MAX + FAST.fall
        await scheduler.close()

    run(main())


@pytest.mark.parametrize("state", [UP, DOWN, PENDING])
def test_checks_that_this_host_could_not_make_say_nothing(backends: Backends, state: HealthState) -> None:
    async def main() -> None:
        backends.answers[target(1)] = Result(Outcome.HINDERED, "Too many open files")
        async with scheduling() as scheduler:
            scheduler.apply({"a": Check(target(1), FAST, state)})
            watch = scheduler.watch("a")
            assert watch is not None
            await eventually(lambda: watch.results_total["hindered"] > UNDECIDED_MAX + FAST.fall + FAST.rise)
            assert (watch.health.state, watch.message) == (state, "checks hindered: Too many open files")
            assert not watch.checked.is_set()
            backends.answers[target(1)] = GOOD
            await watch.checked.wait()

    run(main())


def test_message_says_that_a_backend_flaps(backends: Backends) -> None:
    async def main() -> None:
        heard = Heard()
        async with scheduling(heard) as scheduler:
            scheduler.apply({"a": Check(target(1), FAST, UP)})
            for turn in range(4):
                backends.answers[target(1)] = BAD if turn % 2 == 0 else GOOD
                await eventually(lambda: len(heard.changes) == turn + 1)  # noqa: B023
                if heard.changes[-1][1] is DOWN and turn == 2:
                    assert heard.changes[-1][2] == "broken; it flaps: 4 good checks will bring it up"
        assert [state for _, state, _ in heard.changes] == [DOWN, UP, DOWN, UP]

    run(main())


def test_programs_are_bounded_on_their_own(backends: Backends) -> None:
    async def main() -> None:
        backends.gate = asyncio.Event()
        program = Health.model_validate({"type": "exec", "command": "/bin/true", "interval": 3600, "timeout": 1})
        async with scheduling() as scheduler:
            scheduler.apply({str(n): Check(target(n), program) for n in range(3 * command.CONCURRENCY)})
            await eventually(lambda: backends.now == command.CONCURRENCY)
            await turns()
            assert backends.most == command.CONCURRENCY
            scheduler.apply({"tcp": Check(target(1000), RARELY)})
            await eventually(lambda: backends.asked[target(1000)] == 1)

    run(main())


def test_a_change_that_could_not_be_told_is_told_again(backends: Backends, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        heard: list[HealthState] = []

        def hear(_key: str, state: HealthState, _message: str) -> None:
            heard.append(state)
            if len(heard) < 3:
                raise RuntimeError("not now")

        scheduler: Scheduler[str] = Scheduler(hear)
        scheduler.apply({"a": Check(target(1), FAST)})
        await eventually(lambda: len(heard) == 3)
        before = backends.asked[target(1)]
        # Meanwhile its owner goes by what it knows: that starts nothing anew.
        scheduler.apply({"a": Check(target(1), FAST, UP)})
        await eventually(lambda: backends.asked[target(1)] >= before + 3)
        assert heard == [UP] * 3
        await scheduler.close()

    run(main())
    assert caplog.messages == ["the result of a health check of a could not be used"] * 2


def test_a_check_that_ends_is_begun_again(
    backends: Backends, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fails = iter([True, False])

    async def probe(where: Target, settings: Health, subject: Subject = NOBODY) -> Result:
        if next(fails, False):
            raise RuntimeError("never foreseen")
        return await backends.probe(where, settings, subject)

    monkeypatch.setattr(module, "probe", probe)

    async def main() -> None:
        heard = Heard()
        async with scheduling(heard) as scheduler:
            scheduler.apply({"a": Check(target(1), FAST)})
            await eventually(lambda: heard.changes)

    run(main())
    assert caplog.messages == ["unexpected error in the health check of a; next try in 0.1 s"]
