"""Which targets are asked, how often, how many at once, and that a silent one delays no other."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

import pytest

from l4lb.load.poller import CONCURRENCY, Poller
from tests.helpers.loops import eventually, run, turns


@dataclass(frozen=True)
class Job:
    number: int = 0
    interval: float = 0.002


class Asker:
    """Stands in for the network."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.jobs: dict[str, Job] = {}
        self.errors: dict[str, Exception] = {}
        self.silent: set[str] = set()
        self.now = self.most = 0

    async def ask(self, key: str, job: Job) -> str:
        self.asked[key] += 1
        self.jobs[key] = job
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if key in self.silent:
                await asyncio.Event().wait()
            if key in self.errors:
                raise self.errors[key]
            return "fine"
        finally:
            self.now -= 1


def test_targets_are_asked_again_and_again_and_a_silent_one_delays_no_other() -> None:
    async def main() -> None:
        asker = Asker()
        asker.silent = {"silent"}
        poller: Poller[str, Job] = Poller("test", asker.ask)
        poller.apply({"a": Job(), "b": Job(), "silent": Job()})
        await eventually(lambda: min(asker.asked["a"], asker.asked["b"]) >= 5)
        assert asker.asked["silent"] <= 1
        await poller.close()
        assert asker.now == 0

    run(main())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (TimeoutError("no answer within 1s"), "no answer within 1s"),
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"), "Connection refused"),
        (ValueError("nothing there"), "nothing there"),
        (OSError(), "OSError"),
    ],
)
def test_failures_are_counted_and_said(error: Exception, message: str) -> None:
    async def main() -> None:
        asker = Asker()
        asker.errors["a"] = error
        poller: Poller[str, Job] = Poller("test", asker.ask)
        poller.apply({"a": Job()})
        asked = poller.asked("a")
        assert asked is not None
        await eventually(lambda: asked.results_total["failure"] >= 2)
        assert (asked.message, asked.results_total["success"]) == (message, 0)
        del asker.errors["a"]
        await eventually(lambda: asked.results_total["success"] and asked.message == "fine")
        await poller.close()

    run(main())


def test_a_mistake_of_our_own_ends_no_task(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        asker = Asker()
        asker.errors["a"] = ZeroDivisionError()
        poller: Poller[str, Job] = Poller("test", asker.ask)
        poller.apply({"a": Job()})
        await eventually(lambda: asker.asked["a"] >= 2)
        await poller.close()

    run(main())
    assert "unexpected error in the test of a" in caplog.text


def test_only_a_change_begins_anew_and_counts_survive_it() -> None:
    async def main() -> None:
        asker = Asker()
        poller: Poller[str, Job] = Poller("test", asker.ask)
        poller.apply({"a": Job(interval=3600), "b": Job()})
        first = poller.asked("a")
        assert first is not None
        task = first.task
        poller.apply({"a": Job(interval=3600)})
        assert first.task is task
        assert poller.asked("b") is None
        poller.apply({"a": Job(number=1)})
        await eventually(lambda: asker.jobs.get("a") == Job(number=1))
        again = poller.asked("a")
        assert again is first
        await poller.close()

    run(main())


def test_a_bounded_number_is_asked_at_once() -> None:
    async def main() -> None:
        asker = Asker()
        keys = [str(number) for number in range(CONCURRENCY + 10)]
        asker.silent = set(keys)
        poller: Poller[str, Job] = Poller("test", asker.ask)
        poller.apply({key: Job() for key in keys})
        await eventually(lambda: asker.now == CONCURRENCY)
        await turns()
        assert asker.most == CONCURRENCY
        await poller.close()

    run(main())
