"""When changes are passed on to the data plane: the first at once, those after it together, what failed once more."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

PUBLISH_INTERVAL = 0.02
"""Seconds between two snapshots for changes of health: a first change counts at once, the ones after it together."""

PUBLISH_PAUSE = 4
"""And so many times as long as the last one took: with thousands of backends, passing changes on is work."""

PUBLISH_RETRY = 1.0

_log = logging.getLogger(__name__)


class Publisher:
    """Calls `publish` on the loop. It may raise; then nothing was passed on."""

    def __init__(self, publish: Callable[[], None]) -> None:
        self._publish = publish
        self._timer: asyncio.TimerHandle | None = None
        self._published_at = 0.0
        self._pause = PUBLISH_INTERVAL

    @property
    def waiting(self) -> bool:
        """Whether something is to be passed on later."""
        return self._timer is not None

    def soon(self) -> None:
        """Pass changes on, together with those of the next moment if there were others in the last one."""
        if self._timer is None:
            loop, due = asyncio.get_running_loop(), self._published_at + self._pause
            if loop.time() < due:
                self._timer = loop.call_at(due, self.now)
            else:
                # Now, not soon: whoever reads that a backend is up may send it a client.
                self.now()

    def now(self) -> None:
        """Pass changes on; until that succeeds it is tried again."""
        self.close()
        try:
            self.once()
        except Exception:
            _log.exception("changes of backends could not be passed on to the data plane; trying again")
            self.later()

    def later(self) -> None:
        """Pass changes on once more in a while: something was not taken."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PUBLISH_RETRY, self.now)

    def once(self) -> None:
        """Pass changes on, or raise what `publish` does."""
        self._published_at = asyncio.get_running_loop().time()
        began = time.monotonic()
        self._publish()
        self._pause = max(PUBLISH_INTERVAL, PUBLISH_PAUSE * (time.monotonic() - began))

    def close(self) -> None:
        """Pass nothing on later. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
