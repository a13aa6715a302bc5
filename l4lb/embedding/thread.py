"""An event loop on a thread of its own, and calls to it from other threads.

The loop is asyncio's own: uvloop takes SIGCHLD from the whole process with the first program that it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from typing import ParamSpec, TypeVar

from l4lb.embedding.life import Life
from l4lb.errors import ControlError, StartError

P = ParamSpec("P")
T = TypeVar("T")


class LoopThread:
    """Runs `begin` on the loop, then what is called, then `finish`.

    It is not a daemon thread: the program runs for as long as its balancer does, until `end` is called.
    """

    def __init__(self, begin: Callable[[], Awaitable[None]], finish: Callable[[], Awaitable[None]]) -> None:
        self._begin = begin
        self._finish = finish
        self._pid = os.getpid()
        self._loop = asyncio.SelectorEventLoop()
        # Reentrant, for a signal handler that interrupts the thread that holds it.
        self._lock = threading.RLock()
        self._ending = False
        self._stop = asyncio.Event()
        self._beginning: asyncio.Future[None] | None = None
        self._begun: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="l4lb-control", daemon=False)

    @property
    def forked(self) -> bool:
        """Whether this is a child of the process that the thread is in."""
        return os.getpid() != self._pid

    @property
    def ending(self) -> bool:
        """Whether calls are refused from now on."""
        return self._ending or not self._thread.is_alive()

    @property
    def open(self) -> bool:
        """Whether `begin` is done and calls may come."""
        return not self.ending and self._begun.done()

    def start(self) -> None:
        """Return when `begin` has. What it raises, or an interrupt, ends the thread."""
        try:
            self._thread.start()
            self._begun.result()
        except CancelledError:
            raise ControlError(Life.CLOSED.value) from None
        except BaseException as error:
            self.end()
            if self._thread.ident is None and isinstance(error, RuntimeError):
                raise StartError(f"the control thread cannot start: {error}; there may be too many") from error
            raise

    def call(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `function`, run on the loop. An interrupt of the caller cancels it."""

        # An interrupt may come before the caller has the future.
        begun: list[asyncio.Task[object] | None] = []
        interrupted = threading.Event()

        async def run() -> T:
            begun.append(asyncio.current_task())
            if interrupted.is_set():
                raise asyncio.CancelledError
            return await function(*args, **kwargs)

        def cancel() -> None:
            for task in begun:
                if task is not None:
                    task.cancel()

        self.check_caller()
        try:
            with self._lock:
                if self._ending:
                    raise ControlError(Life.CLOSED.value)
                # Every call before `end` starts to run before the loop ends, so no caller waits for ever.
                future = asyncio.run_coroutine_threadsafe(run(), self._loop)
            return future.result()
        except CancelledError:
            raise ControlError(Life.CLOSED.value) from None
        except BaseException:
            interrupted.set()
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(cancel)
            raise

    def check_caller(self) -> None:
        """ControlError for a caller that would wait for itself, or in a forked child."""
        if self.forked:
            raise ControlError("the balancer runs in the parent process; a forked child needs one of its own")
        if threading.current_thread() is self._thread:
            raise ControlError("on_close runs on the thread that would have to answer; use another thread for this")

    def ask_to_end(self) -> None:
        """Let the thread end soon, and cancel running calls. From any thread, any number of times."""
        with self._lock:
            if not self._ending:
                self._ending = True
                with contextlib.suppress(RuntimeError):  # it has ended by itself
                    self._loop.call_soon_threadsafe(self._on_stop)

    def end(self) -> None:
        """Wait until `finish` is done and the thread is gone. Idempotent."""
        self.ask_to_end()
        if self._thread.ident is None:
            self._loop.close()
            return
        try:
            self._thread.join()
        except BaseException:
            # This takes a moment, and a second interrupt ends the wait.
            self._thread.join()
            raise

    # ---- on the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._live())

    async def _live(self) -> None:
        self._beginning = asyncio.ensure_future(self._begin())
        if self._stop.is_set():
            self._beginning.cancel()
        try:
            await self._beginning
        except asyncio.CancelledError:
            self._begun.cancel()
            return
        except BaseException as error:
            self._begun.set_exception(error)
            return
        self._begun.set_result(None)
        await self._stop.wait()
        await self._finish()

    def _on_stop(self) -> None:
        self._stop.set()
        if self._beginning is not None:
            self._beginning.cancel()
