"""Fetches session events from the rings of the data plane and delivers them, many at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from l4lb.engine.api import Engine, SessionRecord

PAUSE = 0.05
"""Seconds between two rounds: waking up for each event would cost more than the event."""

BATCH = 4096


_log = logging.getLogger(__name__)


class EventPump:
    """Calls `deliver` on the loop with the events in the rings. Rings are bounded; lost events are counted."""

    def __init__(self, engine: Engine, deliver: Callable[[list[SessionRecord]], None]) -> None:
        self._engine = engine
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._fd = engine.event_fd
        self._watch()

    def drain(self) -> None:
        """Deliver all events that are in the rings now."""
        while events := self._engine.take_events(BATCH):
            try:
                self._deliver(events)
            except Exception:
                # The next batch may be deliverable.
                _log.exception("%d events of sessions could not be delivered", len(events))
            if len(events) < BATCH:
                return

    def close(self) -> None:
        """Stop watching. `drain` still delivers the events that are left. Idempotent."""
        self._loop.remove_reader(self._fd)
        if self._timer is not None:
            self._timer.cancel()

    def _watch(self) -> None:
        self._loop.add_reader(self._fd, self._on_events)

    def _on_events(self) -> None:
        self._loop.remove_reader(self._fd)
        self._timer = self._loop.call_later(PAUSE, self._watch)
        self.drain()
