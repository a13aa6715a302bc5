"""Running asynchronous tests on the loop the product runs on, with a deadline, leaving no task behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

from tests.helpers.waiting import DEADLINE

T = TypeVar("T")

POLL = 0.002


def run(main: Coroutine[Any, Any, T], deadline: float = 2 * DEADLINE) -> T:
    """The result of `main`; AssertionError when it leaves a task running."""

    async def bounded() -> T:
        async with asyncio.timeout(deadline):
            result = await main
        left = asyncio.all_tasks() - {asyncio.current_task()}
        # The loop closes a generator that was dropped in a task of its own, whenever it is collected.
        closing = {task for task in left if type(task.get_coro()).__name__ == "async_generator_athrow"}
        if closing:
            await asyncio.wait(closing, timeout=deadline)
            left -= {task for task in closing if task.done()}
        assert not left, left
        return result

    return uvloop.run(bounded())


async def eventually(predicate: Callable[[], object], deadline: float = DEADLINE) -> None:
    """Return once the predicate is true; AssertionError after `deadline` seconds."""
    try:
        async with asyncio.timeout(deadline):
            while not predicate():  # noqa: ASYNC110 - what is observed signals nothing
                await asyncio.sleep(POLL)
    except TimeoutError:
        raise AssertionError(f"still not after {deadline:g} s") from None


async def turns(number: int = 20) -> None:
    """Let everything run that can run now."""
    for _ in range(number):
        await asyncio.sleep(0)
