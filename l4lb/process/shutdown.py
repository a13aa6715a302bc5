"""Stops a process gracefully: it accepts no new clients, closes idle sessions, and gives turns in flight time to end.

The old process of an upgrade stops in the same way. `request` asks for it, and `drain` does all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from l4lb.balancer.balancer import Balancer
from l4lb.base.text import plural, short_duration
from l4lb.sockets.systemd import Notifier
from l4lb.status import ShutdownStatus

DRAIN_POLL_INTERVAL = 0.05

STATUS_INTERVAL = 1.0
"""Seconds between two messages to the service manager."""

LOG_INTERVAL = 30.0
"""Seconds between two lines in the log, unless half of the sessions have ended meanwhile."""

_log = logging.getLogger(__name__)

T = TypeVar("T")


class StopRequested(Exception):
    """A stop was requested during the start."""


class Shutdown:
    """`balancer` still owns its sessions. Every method runs on the event loop.

    While `accompanied` is true, another process of the service has sessions, which would end with this one. `outcome`
    says what became of the sessions, None until that is known.
    """

    def __init__(self, balancer: Balancer, notifier: Notifier, accompanied: Callable[[], bool] = lambda: False) -> None:
        self._balancer = balancer
        self._accompanied = accompanied
        self._notifier = notifier
        self._requested = asyncio.Event()
        self._forced = asyncio.Event()
        self._began_at: float | None = None
        self._deadline: float | None = None
        self.outcome: str | None = None

    @property
    def requested(self) -> bool:
        return self._requested.is_set()

    def request(self) -> None:
        """Request the stop. A second request ends the wait for sessions."""
        if self._requested.is_set():
            self._forced.set()
        self._requested.set()

    async def wait_requested(self) -> None:
        await self._requested.wait()

    async def unless_requested(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, a part of the start. A stop cancels it and raises StopRequested."""
        working = asyncio.ensure_future(work)
        waiting = asyncio.ensure_future(self.wait_requested())
        try:
            await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                self.outcome = "stopped; it was told to while it started"
                raise StopRequested("it was told to stop before it had taken over")
            return await working
        finally:
            for task in (working, waiting):
                task.cancel()
            await asyncio.gather(working, waiting, return_exceptions=True)

    def status(self) -> ShutdownStatus | None:
        """None before it began."""
        return None if self._began_at is None else self._status(self._began_at)

    def _status(self, began_at: float) -> ShutdownStatus:
        now = asyncio.get_running_loop().time()
        return ShutdownStatus(
            age=now - began_at,
            left=None if self._deadline is None else max(0.0, self._deadline - now),
            sessions=self._balancer.session_count(),
            busy=self._balancer.busy_count(),
        )

    async def drain(self, timeout: float | None) -> None:
        """Accept no more clients, close idle sessions, and wait until every session has ended, for `timeout` seconds at
        most, or without a limit if None. `Balancer.close` closes the sessions left then; `outcome` sums it up."""
        self._requested.set()
        self._began_at = began_at = asyncio.get_running_loop().time()
        self._deadline = None if timeout is None else began_at + timeout
        words = self._progress(began_at)
        self._notifier.stopping(words)
        _log.info("stopping: no new clients; %s", words)
        if sys.stderr.isatty() and self._balancer.session_count() > 0:
            _log.info("press Ctrl-C again to close them now")
        await self._balancer.stop_accepting()
        self._balancer.drain_all()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._deadline):
                await self._wait(began_at)
        left = self._balancer.session_count()
        if left == 0:
            self.outcome = "stopped; every session had ended"
            return
        cause = "it was told to stop once more" if self._forced.is_set() else "process.drain_timeout is over"
        _log.warning("stopping: %s; %s did not end in time and will be closed", cause, plural(left, "session"))
        self.outcome = f"stopped; {plural(left, 'session')} had to be closed"

    async def _wait(self, began_at: float) -> None:
        """Wait until no session is left or a second stop is requested, and report progress meanwhile."""
        told_at = logged_at = began_at
        logged = self._balancer.session_count()
        while (self._balancer.session_count() > 0 or self._accompanied()) and not self._forced.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._forced.wait(), DRAIN_POLL_INTERVAL)
            now = asyncio.get_running_loop().time()
            if now < told_at + STATUS_INTERVAL:
                continue
            told_at = now
            words = self._progress(began_at)
            # Also without sessions: if the service manager gave up, it would end those of the process before this one.
            self._notifier.stopping(words)
            sessions = self._balancer.session_count()
            if sessions == 0:
                continue
            if now >= logged_at + LOG_INTERVAL or 2 * sessions <= logged:
                logged_at, logged = now, sessions
                _log.info("stopping: %s", words)

    def _progress(self, began_at: float) -> str:
        """`waiting for 3 sessions to end, 2 of them busy, 9m 40s left`, or what else the process waits for."""
        status = self._status(began_at)
        left = "" if status.left is None else f", {short_duration(status.left)} left"
        if status.sessions > 0:
            return f"waiting for {plural(status.sessions, 'session')} to end, {status.busy} of them busy{left}"
        if self._accompanied():
            return f"waiting for the process that was replaced to end{left}"
        return "no session is left"
