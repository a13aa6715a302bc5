"""A loop on a thread of its own: a caller that is interrupted in its wait leaves nothing running there."""

from __future__ import annotations

import asyncio
import signal
import threading

import pytest

from l4lb.embedding.thread import LoopThread
from l4lb.errors import ControlError
from tests.helpers.waiting import DEADLINE

pytestmark = pytest.mark.usefixtures("clean")


class Work:
    """Goes on for ever and says when it was cancelled. It interrupts the main thread once it runs."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    async def __call__(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


async def nothing() -> None:
    pass


def test_a_call_that_is_interrupted_is_cancelled() -> None:
    work, thread = Work(), LoopThread(nothing, nothing)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        thread.call(work)
    assert work.cancelled.wait(DEADLINE)
    assert thread.open
    thread.end()


def test_a_start_that_is_interrupted_is_cancelled() -> None:
    work = Work()
    thread = LoopThread(work, nothing)
    with pytest.raises(KeyboardInterrupt):
        thread.start()
    assert work.cancelled.is_set()
    assert thread.ending


def test_ending_it_from_elsewhere_ends_the_start() -> None:
    begun = threading.Event()

    async def begin() -> None:
        begun.set()
        await asyncio.Event().wait()

    thread = LoopThread(begin, nothing)

    def end() -> None:
        begun.wait(DEADLINE)
        thread.end()

    ending = threading.Thread(target=end)
    ending.start()
    with pytest.raises(ControlError, match="is closed"):
        thread.start()
    ending.join()


def test_it_is_finished_before_its_end_returns() -> None:
    finished: list[str] = []

    async def finish() -> None:
        finished.append(threading.current_thread().name)

    thread = LoopThread(nothing, finish)
    thread.start()
    thread.end()
    assert finished == ["l4lb-control"]
    with pytest.raises(ControlError, match="is closed"):
        thread.call(nothing)


def test_what_a_call_raises_comes_out() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    thread = LoopThread(nothing, nothing)
    thread.start()
    with pytest.raises(ZeroDivisionError):
        thread.call(fail)
    thread.end()
