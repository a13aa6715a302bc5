from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from tests.embedding.build import LOOPS, spotless, warm_up
from tests.helpers.waiting import DEADLINE

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(scope="package", autouse=True)
def _warm() -> None:
    # A shell that starts the tests in the background has them ignore interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    warm_up()


@pytest.fixture
def clean() -> Iterator[None]:
    """The test leaves nothing behind."""
    with spotless():
        yield


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine on asyncio's loop, and on uvloop; it has a deadline and leaves no task behind."""

    def run(main: Coroutine[Any, Any, None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(2 * DEADLINE):
                await main
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, left

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(bounded())

    return run
