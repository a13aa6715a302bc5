"""Work that repeats for as long as the process lives: a mistake in one round is logged, and the next round comes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Generic, TypeVar

BACKOFF_MAX = 30.0

_log = logging.getLogger(__name__)

T = TypeVar("T")


async def repeat(name: str, interval: float, action: Callable[[], Awaitable[None]]) -> None:
    """Run `action` every `interval` seconds until cancelled; after failures ever later, up to BACKOFF_MAX."""
    delay = interval
    while True:
        await asyncio.sleep(delay)
        try:
            await action()
            delay = interval
        except Exception:
            delay = min(max(delay, interval) * 2, max(BACKOFF_MAX, interval))
            _log.exception("%s failed; next try in %g s", name, delay)


async def see_through(task: asyncio.Task[T], hurry: Callable[[], object]) -> T:
    """The result of `task`, which is waited for whatever happens: whoever waits and is cancelled says `hurry`, once,
    and is cancelled when the task is done."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            if cancelled is None:
                hurry()
            cancelled = error
    if cancelled is not None:
        # What became of the task is no news then.
        if not task.cancelled():
            task.exception()
        raise cancelled
    return task.result()


class Background:
    """Tasks that somebody owns: none outlives `close`."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, coroutine: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(coroutine, name=name))

    async def close(self) -> None:
        """Cancel all of them and wait until they are gone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()


class Coalesced(Generic[T]):
    """Runs `action` on request, one run at a time. Requests during a run share one more run after it.

    So whoever asks gets the outcome of a run that began after the request, and a storm of requests costs two runs.
    """

    def __init__(self, action: Callable[[], Awaitable[T]]) -> None:
        self._action = action
        self._next: asyncio.Future[T] | None = None
        self._wake = asyncio.Event()

    def request(self) -> asyncio.Future[T]:
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            # Whether anybody waits for it or not, an outcome that nobody looks at is no error.
            self._next.add_done_callback(lambda future: future.cancelled() or future.exception())
            self._wake.set()
        return self._next

    async def run(self) -> None:
        """Serve requests until cancelled. Whoever still waits then is cancelled too."""
        current: asyncio.Future[T] | None = None
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                current, self._next = self._next, None
                if current is not None and not current.done():
                    await self._serve(current)
        finally:
            for waiting in (current, self._next):
                if waiting is not None:
                    waiting.cancel()

    async def _serve(self, request: asyncio.Future[T]) -> None:
        try:
            outcome = await self._action()
        except Exception as error:
            if not request.done():
                request.set_exception(error)
        else:
            if not request.done():
                request.set_result(outcome)
