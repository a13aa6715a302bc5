"""Work that repeats for as long as the process lives: a mistake in one round is logged, and the next round comes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Generic, TypeVar

BACKOFF_MIN = 0.1
BACKOFF_MAX = 30.0

_log = logging.getLogger(__name__)

T = TypeVar("T")


def cancel_requested() -> bool:
    """Whether somebody has cancelled this task. A CancelledError that comes without that is of something the task
    waited for: a failure like any other."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def repeat(
    name: str, interval: float, action: Callable[[], Awaitable[None]], *, longest: float = BACKOFF_MAX
) -> None:
    """Run `action` every `interval` seconds until cancelled; after failures ever later, up to `longest`."""
    delay = interval
    while True:
        await asyncio.sleep(delay)
        try:
            await action()
            delay = interval
        except (Exception, asyncio.CancelledError):
            if cancel_requested():
                raise
            delay = min(max(delay, interval) * 2, max(longest, interval))
            _log.exception("%s failed; next try in %g s", name, delay)


async def supervise(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work`, which never ends by itself, until cancelled; begin it again when it fails, ever later."""
    loop, delay = asyncio.get_running_loop(), BACKOFF_MIN
    while True:
        begun = loop.time()
        try:
            await work()
        except (Exception, asyncio.CancelledError):
            if cancel_requested():
                raise
            _log.exception("%s failed; next try in %g s", name, delay)
        else:
            _log.error("%s has ended; next try in %g s", name, delay)
        await asyncio.sleep(delay)
        delay = BACKOFF_MIN if loop.time() - begun > BACKOFF_MAX else min(2 * delay, BACKOFF_MAX)


async def await_uncancelled(task: asyncio.Task[T], hurry: Callable[[], object]) -> T:
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


class Supervisor:
    """Tasks that somebody owns: none outlives `close`."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    async def close(self) -> None:
        """Cancel all of them and wait until they are gone."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """None of them ends by itself."""
        if task in self._tasks:
            error = None if task.cancelled() else task.exception()
            _log.error("the task %s has ended; it comes back with the next start", task.get_name(), exc_info=error)


class Coalesced(Generic[T]):
    """Runs `action` on request, one run at a time. Requests during a run share one more run after it.

    So whoever asks gets the outcome of a run that began after the request, and a storm of requests costs two runs.
    """

    def __init__(self, action: Callable[[], Awaitable[T]]) -> None:
        self._action = action
        self._next: asyncio.Future[T] | None = None
        self._wake = asyncio.Event()
        self._running = False

    @property
    def busy(self) -> bool:
        """Whether a run is under way or asked for."""
        return self._running or self._next is not None

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
        self._running = True
        try:
            outcome = await self._action()
        except (Exception, asyncio.CancelledError) as error:
            if cancel_requested():
                raise
            # Whoever asked may be a signal, which listens to no answer.
            _log.exception("what was requested failed in a way nobody foresaw")
            if not request.done():
                request.set_exception(error if isinstance(error, Exception) else RuntimeError("it was interrupted"))
        else:
            if not request.done():
                request.set_result(outcome)
        finally:
            self._running = False
