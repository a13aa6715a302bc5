"""Work that repeats, and requests that share a run."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging

import pytest

from l4lb.base import tasks
from l4lb.base.tasks import Coalesced, Supervisor, await_uncancelled, repeat, supervise
from tests.helpers.loops import eventually, run, turns


class Action:
    """Counts its runs; each waits for `go` and then fails with `error` or returns its number."""

    def __init__(self) -> None:
        self.started = 0
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.started += 1
        number = self.started
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return number


@contextlib.asynccontextmanager
async def running(coalesced: Coalesced[int]):  # type: ignore[no-untyped-def]
    background = Supervisor()
    background.start("requests", coalesced.run)
    try:
        yield background
    finally:
        await background.close()


def test_storm_of_requests_costs_two_runs() -> None:
    async def main() -> None:
        action = Action()
        coalesced = Coalesced(action)
        async with running(coalesced):
            first = coalesced.request()
            await eventually(lambda: action.started == 1)
            others = [coalesced.request() for _ in range(500)]
            action.go.set()
            assert await first == 1
            assert set(await asyncio.gather(*others)) == {2}
            await turns()
            assert action.started == 2

    run(main())


def test_outcome_is_of_a_run_that_began_after_the_request() -> None:
    async def main() -> None:
        action = Action()
        action.go.set()
        coalesced = Coalesced(action)
        async with running(coalesced):
            for expected in (1, 2, 3):
                assert await coalesced.request() == expected

    run(main())


def test_requests_before_the_first_run_are_kept() -> None:
    async def main() -> None:
        action = Action()
        action.go.set()
        coalesced = Coalesced(action)
        waiting = coalesced.request()
        async with running(coalesced):
            assert await waiting == 1

    run(main())


def test_failure_reaches_the_caller_and_the_next_run_works() -> None:
    async def main() -> None:
        action = Action()
        action.go.set()
        coalesced = Coalesced(action)
        async with running(coalesced):
            action.error = ValueError("no")
            with pytest.raises(ValueError, match="no"):
                await coalesced.request()
            action.error = None
            assert await coalesced.request() == 2

    run(main())


@pytest.mark.parametrize("error", [None, ValueError("no")])
def test_a_caller_that_gives_up_stops_no_other(error: Exception | None) -> None:
    async def main() -> None:
        action = Action()
        coalesced = Coalesced(action)
        async with running(coalesced):
            impatient = coalesced.request()
            await eventually(lambda: action.started == 1)
            impatient.cancel()
            action.error = error
            action.go.set()
            await turns()
            action.error = None
            assert await coalesced.request() == 2

    run(main())


def test_end_cancels_all_waiting_callers() -> None:
    async def main() -> None:
        action = Action()
        coalesced = Coalesced(action)
        async with running(coalesced):
            current = coalesced.request()
            await eventually(lambda: action.started == 1)
            later = coalesced.request()
        assert current.cancelled()
        assert later.cancelled()

    run(main())


class Pace:
    """Stands in for asyncio.sleep: records the delays, and cancels the task after `rounds` of them."""

    def __init__(self, rounds: int) -> None:
        self.delays: list[float] = []
        self.rounds = rounds

    async def sleep(self, delay: float) -> None:
        if len(self.delays) == self.rounds:
            raise asyncio.CancelledError
        self.delays.append(delay)


def paced(monkeypatch: pytest.MonkeyPatch, rounds: int, interval: float, failures: int) -> list[float]:
    pace = Pace(rounds)
    monkeypatch.setattr(asyncio, "sleep", pace.sleep)
    done = 0

    async def action() -> None:
        nonlocal done
        done += 1
        if done <= failures:
            raise RuntimeError("once more")

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await repeat("the work", interval, action)

    run(main())
    assert done == rounds
    return pace.delays


def test_repeats_at_its_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    assert paced(monkeypatch, 4, 0.25, failures=0) == [0.25] * 4


def test_failures_slow_it_down_and_a_success_speeds_it_up_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert paced(monkeypatch, 6, 1.0, failures=3) == [1, 2, 4, 8, 1, 1]
    assert [record.message for record in caplog.records] == [
        f"unexpected error in the work; next try in {delay} s" for delay in (2, 4, 8)
    ]


def test_delay_after_failures_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert max(paced(monkeypatch, 12, 1.0, failures=12)) == tasks.BACKOFF_MAX
    assert set(paced(monkeypatch, 5, 60.0, failures=5)) == {60.0}


def test_background_tasks_end_with_their_owner() -> None:
    async def main() -> None:
        ended = []

        async def work(number: int) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(number)

        background = Supervisor()
        for number in range(3):
            background.start(f"work {number}", functools.partial(work, number))
        await turns()
        await background.close()
        assert ended == [0, 1, 2]
        await background.close()

    run(main())


def test_an_uncancelled_task_ends_after_its_waiter_was_cancelled() -> None:
    async def main() -> None:
        action, hurries = Action(), []
        task = asyncio.create_task(action())
        waiting = asyncio.create_task(await_uncancelled(task, lambda: hurries.append(1)))
        await turns()
        for _ in range(3):
            waiting.cancel()
            await turns()
        assert not waiting.done()
        assert hurries == [1]
        action.go.set()
        await asyncio.wait({waiting})
        assert waiting.cancelled()
        assert task.result() == 1

    run(main())


def test_what_is_seen_through_has_its_outcome() -> None:
    async def main() -> None:
        action = Action()
        action.go.set()
        assert await await_uncancelled(asyncio.create_task(action()), lambda: None) == 1
        action.error = ValueError("no")
        with pytest.raises(ValueError, match="no"):
            await await_uncancelled(asyncio.create_task(action()), lambda: None)
        # A caller that cancels the task, and is not cancelled itself, gets the cancellation of the task.
        waiting = asyncio.create_task(asyncio.sleep(3600))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await await_uncancelled(waiting, lambda: None)

    run(main())


def interrupted() -> asyncio.Future[None]:
    """Something to wait for that other code has cancelled."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.cancel()
    return future


def test_an_interruption_that_was_not_meant_for_it_does_not_end_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pace = Pace(3)
    monkeypatch.setattr(asyncio, "sleep", pace.sleep)
    rounds = 0

    async def action() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            await interrupted()

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await repeat("the work", 1.0, action)

    run(main())
    assert pace.delays == [1, 2, 1]
    assert caplog.messages == ["unexpected error in the work; next try in 2 s"]


@pytest.mark.parametrize("begun", [True, False])
def test_an_interruption_that_is_meant_for_it_ends_it(begun: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        working = 0

        async def action() -> None:
            nonlocal working
            working += 1
            await asyncio.Event().wait()

        background = Supervisor()
        background.start("one", lambda: repeat("the work", 0.001, action))
        background.start("other", action)
        if begun:
            await eventually(lambda: working == 2)
        await background.close()

    run(main())
    assert caplog.messages == []


def test_the_delay_may_stay_short(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace(4)
    monkeypatch.setattr(asyncio, "sleep", pace.sleep)

    async def action() -> None:
        raise RuntimeError("once more")

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await repeat("the work", 1.0, action, longest=1.0)

    run(main())
    assert pace.delays == [1] * 4


@pytest.mark.parametrize("end", ["error", "interruption", "return"])
def test_work_that_ends_by_itself_begins_again(
    end: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tasks, "BACKOFF_MIN", 0.001)
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        match end if begun < 4 else "":
            case "error":
                raise ValueError("no")
            case "interruption":
                await interrupted()
            case "return":
                return
        await asyncio.Event().wait()

    async def main() -> None:
        background = Supervisor()
        background.start("the work", work)
        await eventually(lambda: begun == 4)
        await background.close()

    run(main())
    said = "the work ended unexpectedly" if end == "return" else "unexpected error in the work"
    assert caplog.messages == [f"{said}; next try in {delay} s" for delay in (0.001, 0.002, 0.004)]


def test_delay_of_work_that_begins_again_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace(12)
    monkeypatch.setattr(asyncio, "sleep", pace.sleep)

    async def work() -> None:
        raise ValueError("no")

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await supervise("the work", work)

    run(main())
    assert pace.delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(pace.delays) == tasks.BACKOFF_MAX


def test_a_request_that_is_interrupted_fails_and_the_next_one_works(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        broken = True

        async def action() -> int:
            if broken:
                await interrupted()
            return 1

        coalesced = Coalesced(action)
        async with running(coalesced):
            with pytest.raises(RuntimeError, match="interrupted"):
                await coalesced.request()
            broken = False
            assert await coalesced.request() == 1

    run(main())
    assert caplog.messages == ["unexpected error in a requested operation"]


def test_a_failure_without_a_waiter_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        action = Action()
        action.error = ValueError("no")
        action.go.set()
        coalesced = Coalesced(action)
        async with running(coalesced):
            coalesced.request()
            await eventually(lambda: caplog.messages)

    run(main())
    assert "ValueError: no" in caplog.text


def test_a_part_that_fails_leaves_the_others_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "BACKOFF_MIN", 0.001)
    failures = 0
    begun: list[str] = []

    async def failing() -> None:
        nonlocal failures
        failures += 1
        raise ValueError("no")

    async def lasting() -> None:
        begun.append("lasting")
        await asyncio.Event().wait()

    async def main() -> None:
        supervisor = Supervisor()
        supervisor.start("failing", failing)
        supervisor.start("lasting", lasting)
        await eventually(lambda: failures == 3)
        await supervisor.close()

    run(main())
    assert begun == ["lasting"]
