"""A source is kept going, and what it found survives its failures."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn

import pytest

from l4lb.config import Address
from l4lb.config.sections.discover import Discover
from l4lb.discovery import follower as module
from l4lb.discovery.follower import BACKOFF_MAX, BACKOFF_MIN, PATIENCE, QUIET, Follower, backoff, due
from l4lb.discovery.source import ENDPOINTS_MAX, DiscoveryError, Endpoint, NothingThere, Report
from tests.helpers.loops import eventually, run, turns

Step = Callable[[Report], object]


def endpoints(names: str) -> list[Endpoint]:
    return [Endpoint(name, Address("10.0.0.1", ord(name))) for name in names]


class Scripted:
    """A source that does what the test puts into it; an exception breaks it."""

    interval = math.inf

    def __init__(self) -> None:
        self.steps: asyncio.Queue[Step | BaseException] = asyncio.Queue()
        self.watches = 0

    async def watch(self, report: Report) -> NoReturn:
        self.watches += 1
        while True:
            step = await self.steps.get()
            if isinstance(step, BaseException):
                raise step
            if (found := step(report)) is not None:
                await found

    def find(self, names: str) -> None:
        self.steps.put_nowait(lambda report: report.found(endpoints(names)))

    def confirm(self) -> None:
        self.steps.put_nowait(lambda report: report.unchanged())

    def fail(self, error: BaseException | None = None) -> None:
        self.steps.put_nowait(error or DiscoveryError("it is broken"))


class Stage:
    def __init__(self, **settings: Any) -> None:
        self.source = Scripted()
        self.changes = 0
        discover = Discover.model_validate({"file": {"path": "x.json"}} | settings)
        self.follower = Follower("app", discover, self.source, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    @property
    def names(self) -> str:
        return "".join(endpoint.name for endpoint in self.follower.endpoints)

    @property
    def status(self) -> Any:
        return self.follower.status(asyncio.get_running_loop().time())


@contextlib.asynccontextmanager
async def staged(**settings: Any) -> AsyncIterator[Stage]:
    stage = Stage(**settings)
    try:
        yield stage
    finally:
        await stage.follower.close()


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_MIN", 0.001)


def test_first_answer_counts_at_once() -> None:
    async def main() -> None:
        async with staged() as stage:
            assert (stage.status.age, stage.status.message) == (None, "not answered yet")
            stage.source.find("ba")
            await stage.follower.answered.wait()
            assert (stage.names, stage.changes) == ("ab", 1)
            assert (stage.status.working, stage.status.endpoints, stage.status.held) == (True, 2, 0)
            assert stage.status.age >= 0

    run(main())


def test_an_empty_first_answer_is_an_answer() -> None:
    async def main() -> None:
        async with staged() as stage:
            stage.source.find("")
            await stage.follower.answered.wait()
            assert (stage.names, stage.changes) == ("", 1)

    run(main())


def test_a_burst_of_changes_is_one() -> None:
    async def main() -> None:
        async with staged(hold=0) as stage:
            stage.source.find("a")
            await stage.follower.answered.wait()
            for number in range(50):
                stage.source.find("abcdefgh"[: 1 + number % 8])
            stage.source.find("abc")
            await eventually(lambda: stage.names == "abc")
            assert stage.changes == 2

    run(main())


def test_the_same_answer_in_another_order_changes_nothing() -> None:
    async def main() -> None:
        async with staged() as stage:
            for names in ("abc", "cba", "bac", "aabbcc"):
                stage.source.find(names)
            await eventually(lambda: stage.status.updates_total["success"] == 4)
            assert stage.changes == 1
            stage.source.find("abcd")
            await eventually(lambda: stage.changes == 2)

    run(main())


def test_bursts_end_when_it_is_quiet_or_patience_ends() -> None:
    assert due(10.0, 10.0) == 10.0 + QUIET
    assert due(10.0, 10.5) == 10.5 + QUIET
    assert due(10.0, 10.0 + PATIENCE) == 10.0 + PATIENCE


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DiscoveryError("it is broken"), "it is broken"),
        (ConnectionRefusedError(111, "whatever"), "Connection refused"),
        (TimeoutError("no answer within 5s"), "no answer within 5s"),
        (ValueError("no number"), "no number"),
        (KeyError("surprise"), "KeyError('surprise')"),
    ],
)
def test_a_failure_keeps_what_is_known(error: Exception, message: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with staged() as stage:
            stage.source.find("ab")
            await stage.follower.answered.wait()
            stage.source.fail(error)
            await eventually(lambda: not stage.status.working)
            assert (stage.names, stage.changes) == ("ab", 1)
            assert (stage.status.message, stage.status.endpoints) == (message, 2)
            assert stage.status.updates_total == {"success": 1, "failure": 1}
            stage.source.find("abc")
            await eventually(lambda: stage.names == "abc")
            assert (stage.status.working, stage.status.message) == (True, "3 endpoints")

    run(main())
    assert ("unexpected error" in caplog.text) is isinstance(error, KeyError)


def test_a_source_that_stays_broken_is_logged_once_and_so_is_its_return(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "l4lb")

    async def main() -> None:
        async with staged() as stage:
            stage.source.find("ab")
            for _ in range(5):
                stage.source.fail()
            await eventually(lambda: stage.source.watches == 6)
            stage.source.find("ab")
            await eventually(lambda: stage.status.working)
            assert stage.status.updates_total == {"success": 2, "failure": 5}
            assert stage.changes == 1

    run(main())
    lines = [record.message for record in caplog.records]
    assert lines == [
        "pool app: file has 2 backends, 2 new, 0 gone",
        "pool app: file fails: it is broken; keeping the 2 backends known, trying again",
        "pool app: file works again",
    ]


def test_waits_between_tries_grow_up_to_a_bound_and_differ() -> None:
    dice = random.Random(1)
    waits = [[backoff(failures, dice) for _ in range(50)] for failures in (1, 2, 5, 1000)]
    module_min = module.BACKOFF_MIN
    for failures, drawn in zip((1, 2, 5), waits, strict=False):
        base = module_min * 2 ** (failures - 1)
        assert all(base / 2 <= wait <= base for wait in drawn)
        assert len(set(drawn)) > 10
    assert BACKOFF_MIN < BACKOFF_MAX / 2 <= min(waits[3]) <= max(waits[3]) <= BACKOFF_MAX


def test_too_many_endpoints_are_a_failure() -> None:
    async def main() -> None:
        async with staged() as stage:
            stage.source.find("ab")
            await stage.follower.answered.wait()
            many = [Endpoint(str(number), Address("10.0.0.1", 80)) for number in range(ENDPOINTS_MAX + 1)]
            stage.source.steps.put_nowait(lambda report: report.found(many))
            await eventually(lambda: not stage.status.working)
            assert stage.names == "ab"
            assert "more than the" in stage.status.message

    run(main())


def test_an_answer_that_lost_too_much_is_held_and_believed_in_the_end(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with staged(hold=0.2) as stage:
            stage.source.find("abcd")
            stage.source.find("")
            await eventually(lambda: stage.status.held == 4)
            assert (stage.names, stage.status.message) == ("abcd", "4 endpoints, 4 held")
            await eventually(lambda: stage.names == "")
            assert stage.status.held == 0

    run(main())
    assert "has only 0 of 4 backends now; the others are kept for 0.2 s in case that is a fault" in caplog.text


def test_an_answer_is_not_believed_while_the_source_is_broken() -> None:
    async def main() -> None:
        async with staged(hold=0.05) as stage:
            stage.source.find("abcd")
            stage.source.find("")
            stage.source.fail()
            await eventually(lambda: not stage.status.working)
            held = asyncio.get_running_loop().time()
            await eventually(lambda: asyncio.get_running_loop().time() > held + 0.2)
            assert (stage.names, stage.status.held) == ("abcd", 4)
            stage.source.confirm()
            await eventually(lambda: stage.names == "")

    run(main())


def test_what_another_source_had_found_stays_until_this_one_answers() -> None:
    async def main() -> None:
        async with staged() as stage:
            stage.follower.inherit(tuple(endpoints("xy")))
            stage.source.fail()
            await eventually(lambda: not stage.status.working)
            assert stage.names == "xy"
            stage.source.find("a")
            await eventually(lambda: stage.names == "a")
            stage.follower.inherit(tuple(endpoints("xy")))
            assert stage.names == "a"

    run(main())


def test_nothing_happens_after_the_end() -> None:
    async def main() -> None:
        async with staged(hold=0.01) as stage:
            stage.source.find("abcd")
            stage.source.find("abcdefg")
            stage.source.find("")
            await eventually(lambda: stage.status.held == 7 or stage.status.held == 4)
        await turns()
        assert stage.changes == 1
        assert stage.names == "abcd"

    run(main())


def test_an_answer_without_anything_is_believed_where_all_answers_are() -> None:
    async def main() -> None:
        for settings, left in (({"hold": 0}, ""), ({}, "ab")):
            async with staged(**settings) as stage:
                stage.source.find("ab")
                await stage.follower.answered.wait()
                stage.source.fail(NothingThere("it has none"))
                await eventually(lambda: stage.source.watches > 1)
                await eventually(lambda: stage.names == left)  # noqa: B023
                assert stage.status.working is (left == "")

    run(main())


def test_a_source_with_an_interval_is_asked_again_no_later_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "backoff", lambda _failures, _dice: 3600.0)

    async def main() -> None:
        async with staged() as stage:
            stage.source.interval = 0.001
            stage.source.fail()
            await eventually(lambda: stage.source.watches > 1)

    run(main())
