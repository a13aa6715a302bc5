"""When checks start: whole intervals apart, with jitter, spread over the interval."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from l4lb.config.model import Health
from l4lb.health import scheduler as module
from l4lb.health.scheduler import Check, Scheduler
from tests.health.scheduling import FakeNetwork, Heard, target
from tests.helpers.loops import run


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
    network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No time passes, so the first wait is to a turn within the interval, the next one to the turn after it, and so on.
    steady = waits(monkeypatch, 50, jitter=0.0)
    assert 0 < steady[0] <= 100
    assert [round(wait - steady[0]) for wait in steady] == [100 * turn for turn in range(50)]


def test_second_check_is_never_at_once(network: FakeNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.random, "random", lambda: 1.0)
    monkeypatch.setattr(module.random, "uniform", lambda least, most: least)
    assert round(waits(monkeypatch, 2, jitter=0.2)[0]) == 20


def test_jitter_moves_each_check_and_never_the_turns(network: FakeNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.random, "random", lambda: 0.0)
    monkeypatch.setattr(module, "probe", network.probe)
    shifts = [wait - 100 * (turn + 1) for turn, wait in enumerate(waits(monkeypatch, 200, jitter=0.2))]
    assert all(-21 < shift < 21 for shift in shifts)
    assert len({round(shift) for shift in shifts}) > 10


def test_turns_of_many_backends_are_spread_over_the_interval(
    network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
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
