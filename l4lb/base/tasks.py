"""Background tasks that survive errors: an error in one round is logged, and the next round follows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

BACKOFF_MIN = 0.1
BACKOFF_MAX = 30.0

_log = logging.getLogger(__name__)

T = TypeVar("T")


def cancel_requested() -> bool:
    """Whether this task was cancelled. A CancelledError without such a request comes from something that the task
    awaited, and counts as an ordinary failure."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def repeat(
    name: str, interval: float, action: Callable[[], Awaitable[None]], *, longest: float = BACKOFF_MAX
) -> None:
    """Run `action` every `interval` seconds until cancelled. After failures the interval doubles, up to `longest`."""
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
            _log.exception("unexpected error in %s; next try in %g s", name, delay)


async def supervise(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work`, which should never return, until cancelled. If it fails or returns, start it again with a backoff."""
    loop, delay = asyncio.get_running_loop(), BACKOFF_MIN
    while True:
        begun = loop.time()
        try:
            await work()
        except (Exception, asyncio.CancelledError):
            if cancel_requested():
                raise
            _log.exception("unexpected error in %s; next try in %g s", name, delay)
        else:
            _log.error("%s ended unexpectedly; next try in %g s", name, delay)
        await asyncio.sleep(delay)
        delay = BACKOFF_MIN if loop.time() - begun > BACKOFF_MAX else min(2 * delay, BACKOFF_MAX)


async def await_uncancelled(task: asyncio.Task[T], hurry: Callable[[], object]) -> T:
    """The result of `task`, which is awaited to its end even if the caller is cancelled. The first cancellation calls
    `hurry`; the caller's CancelledError is raised once the task is done."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            if cancelled is None:
                hurry()
            cancelled = error
    if cancelled is not None:
        # The caller is cancelled, so it cannot use the outcome of the task.
        if not task.cancelled():
            task.exception()
        raise cancelled
    return task.result()


class Supervisor:
    """Runs parts until it is closed. A part that fails or returns is started again, see `supervise`."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run a part from now on; `run` should never return."""
        self._tasks.append(asyncio.get_running_loop().create_task(supervise(name, run), name=name))

    async def close(self) -> None:
        """Cancel all parts and wait until they have ended. Idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Coalesced(Generic[T]):
    """Runs `action` on request, one run at a time. Requests that arrive during a run share one run after it.

    So each caller gets the outcome of a run that began after its request, and a storm of requests costs two runs.
    """

    def __init__(self, action: Callable[[], Awaitable[T]]) -> None:
        self._action = action
        self._next: asyncio.Future[T] | None = None
        self._wake = asyncio.Event()
        self._running = False

    @property
    def busy(self) -> bool:
        """Whether a run is in progress or requested."""
        return self._running or self._next is not None

    def request(self) -> asyncio.Future[T]:
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            # Retrieve the exception, so that asyncio does not log it if no caller awaits the future.
            self._next.add_done_callback(lambda future: future.cancelled() or future.exception())
            self._wake.set()
        return self._next

    async def run(self) -> None:
        """Serve requests until cancelled. Requests still open then are cancelled too."""
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
            # A request made by a signal has no caller that would see the error.
            _log.exception("unexpected error in a requested operation")
            if not request.done():
                request.set_exception(error if isinstance(error, Exception) else RuntimeError("it was interrupted"))
        else:
            if not request.done():
                request.set_result(outcome)
        finally:
            self._running = False
