"""How a process leaves: it lets no new clients in, gives its sessions time to end, and closes what is left.

A stop and the old process of an upgrade leave the same way: `drain` is all of it, and `request` is how it is asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from l4lb.control.balancer import Balancer
from l4lb.control.systemd import Notifier
from l4lb.words import counted

DRAIN_POLL_INTERVAL = 0.05

_log = logging.getLogger(__name__)


class Shutdown:
    """Of the process around `balancer`, which goes on to own its sessions. Every method runs on the event loop."""

    def __init__(self, balancer: Balancer, notifier: Notifier) -> None:
        self._balancer = balancer
        self._notifier = notifier
        self._requested = asyncio.Event()
        self._hurried = asyncio.Event()

    @property
    def requested(self) -> bool:
        return self._requested.is_set()

    def request(self) -> None:
        """Ask for the stop. Asked for again, it waits for nobody."""
        if self._requested.is_set():
            self._hurried.set()
        self._requested.set()

    async def wait_requested(self) -> None:
        await self._requested.wait()

    async def drain(self, patience: float) -> None:
        """Accept nobody any more, then wait until every session has ended, `patience` seconds at most. What is left
        then is for `Balancer.close`."""
        self._requested.set()
        sessions = self._balancer.session_count()
        _log.info("stopping: no new clients; waiting up to %g s for %s to end", patience, counted(sessions, "session"))
        self._notifier.stopping(f"waiting for {counted(sessions, 'session')} to end")
        await self._balancer.stop_accepting()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._balancer.session_count() > 0 and not self._hurried.is_set():
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._hurried.wait(), DRAIN_POLL_INTERVAL)
        if left := self._balancer.session_count():
            _log.warning("stopping: %s did not end in time and will be closed", counted(left, "session"))
