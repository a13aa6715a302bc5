"""A failure that no code waits for is logged once, with its name and its traceback."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading

import pytest

from l4lb.base.unexpected import log_unhandled
from tests.helpers.loops import eventually, run, turns


def fail() -> None:
    raise ValueError("unforeseen")


def test_callbacks_and_forgotten_tasks_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    async def forgotten() -> None:
        fail()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with log_unhandled(loop):
            loop.call_soon(fail)
            await turns()
            loop.call_later(0, fail)
            await eventually(lambda: len(caplog.messages) == 2)
            task = loop.create_task(forgotten(), name="forgotten one")
            await asyncio.wait([task])
            del task
            gc.collect()
            await eventually(lambda: len(caplog.messages) == 3)

    run(main())
    assert all(message.startswith("unexpected error in") for message in caplog.messages)
    assert "fail" in caplog.messages[0]
    assert "forgotten one" in caplog.messages[2]
    assert caplog.text.count("ValueError: unforeseen") == 3


def test_threads_and_finalizers_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    class Failing:
        def __del__(self) -> None:
            fail()

    async def main() -> None:
        with log_unhandled(asyncio.get_running_loop()):
            thread = threading.Thread(target=fail, name="weak thread")
            thread.start()
            await asyncio.to_thread(thread.join)
            Failing()
            gc.collect()

    before = threading.excepthook, sys.unraisablehook
    run(main())
    assert (threading.excepthook, sys.unraisablehook) == before
    first, second = caplog.messages
    assert "the thread weak thread has ended" in first
    assert "Failing.__del__" in second
    assert caplog.text.count("ValueError: unforeseen") == 2
