"""Threads for work that must not hold the event loop.

Reading a file may hang for ever, because a file system can. So each reader has a `SerialThread`: it occupies one thread
at most, and neither the event loop nor the process waits for that thread at the end. Calls that wait for workers end in
time; they share the `ThreadPool` of their balancer, which readers cannot exhaust. Pure computation on input of bounded
size uses `asyncio.to_thread`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

READ_TIMEOUT = 10.0
"""Seconds that reading a small file may take."""

LOAD_TIMEOUT = 120.0
"""Seconds that reading a configuration may take: the largest take a few."""

P = ParamSpec("P")
T = TypeVar("T")


class SerialThread:
    """Runs one call at a time. `timeout` applies to each call, including the wait for the call before it."""

    def __init__(self, name: str, timeout: float = READ_TIMEOUT) -> None:
        self._name = name
        self._timeout = timeout
        self._out: asyncio.Future[Any] | None = None

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `function`. TimeoutError if it takes too long: its thread keeps running, and the next call
        waits for it."""
        try:
            async with asyncio.timeout(self._timeout):
                while self._out is not None and not self._out.done():
                    await asyncio.wait({self._out})
                result: T = await asyncio.shield(self._begin(functools.partial(function, *args, **kwargs)))
                return result
        except TimeoutError:
            raise TimeoutError(f"{self._name} takes longer than {self._timeout:g}s") from None

    def _begin(self, work: Callable[[], object]) -> asyncio.Future[Any]:
        self._out = in_thread(self._name, work)
        return self._out


def in_thread(name: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
    """Run `function` on its own thread, which is not awaited when the loop or the process ends."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    # Retrieve the exception, so that asyncio does not log it if the caller has given up.
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    work = functools.partial(function, *args, **kwargs)
    threading.Thread(target=_run, args=(loop, future, work), name=name, daemon=True).start()
    return future


def _run(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], work: Callable[[], object]) -> None:
    tell: Callable[[Any], None] = future.set_result
    try:
        outcome: object = work()
    except BaseException as error:
        tell, outcome = future.set_exception, error
    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(_tell, future, tell, outcome)


def _tell(future: asyncio.Future[Any], tell: Callable[[Any], None], outcome: object) -> None:
    if not future.done():
        tell(outcome)


class ThreadPool:
    """A few threads for calls that always end in time."""

    def __init__(self, name: str, count: int) -> None:
        self._executor = ThreadPoolExecutor(count, name)

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, functools.partial(function, *args, **kwargs))

    def close(self) -> None:
        """Cancel calls that have not started and wait for those that run."""
        self._executor.shutdown(cancel_futures=True)
