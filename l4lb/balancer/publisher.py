"""Paces publications: the first change is published at once, later ones together, and failures are retried."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

PUBLISH_INTERVAL = 0.02
"""Seconds between two snapshots for changes of health: the first is published at once, the next ones together."""

PUBLISH_PAUSE = 4
"""Publishing may use one part in so many of the time: with thousands of backends, a snapshot takes long to build."""

PUBLISH_RETRY = 1.0

_log = logging.getLogger(__name__)


class Publisher:
    """Calls `publish` on the loop. If it raises, nothing was published."""

    def __init__(self, publish: Callable[[], None]) -> None:
        self._publish = publish
        self._timer: asyncio.TimerHandle | None = None
        self._published_at = 0.0
        self._pause = PUBLISH_INTERVAL

    @property
    def waiting(self) -> bool:
        """Whether a publication is due later."""
        return self._timer is not None

    def soon(self) -> None:
        """Publish now, or shortly if the last publication was a moment ago."""
        if self._timer is None:
            loop, due = asyncio.get_running_loop(), self._published_at + self._pause
            if loop.time() < due:
                self._timer = loop.call_at(due, self.now)
            else:
                # Now, not soon: a client may come as soon as the status shows that a backend is up.
                self.now()

    def now(self) -> None:
        """Publish; a failure is retried until it succeeds."""
        self.close()
        try:
            self.once()
        except Exception:
            _log.exception("changes of backends could not be passed on to the data plane; trying again")
            self.later()

    def later(self) -> None:
        """Publish once more in a while, because the data plane refused something."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PUBLISH_RETRY, self.now)

    def once(self) -> None:
        """Publish, or raise what `publish` raises."""
        self._published_at = asyncio.get_running_loop().time()
        began = time.monotonic()
        self._publish()
        self._pause = max(PUBLISH_INTERVAL, PUBLISH_PAUSE * (time.monotonic() - began))

    def close(self) -> None:
        """Cancel a publication that is due. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
