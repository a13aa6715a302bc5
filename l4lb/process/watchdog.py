"""Signs of life for the service manager: the data plane sends them, see `watchdog.h`. This is the control plane's part.

Sessions go on while the control plane stands still, and a restart would end them. So it has much longer than a worker.
"""

from __future__ import annotations

import logging
import os
import time

from l4lb.base.tasks import Supervisor, repeat
from l4lb.engine import NativeEngine
from l4lb.sockets.systemd import Notifier

WORKER_MAX_AGE = 5.0
"""Seconds after which a worker that shows no sign of life is stuck, as in the data plane (LB_HEARTBEAT_MAX_MS)."""

CONTROL_MAX_AGE = 300.0
"""Seconds for which the control plane may stand still. Nothing checks backends meanwhile."""

CONTROL_INTERVAL = 1.0
"""Seconds between two signs of life of the control plane."""

_log = logging.getLogger(__name__)


class Watchdog:
    """Of `engine`, for the manager of `notifier`; it does nothing where that one wants no signs of life."""

    def __init__(self, engine: NativeEngine, notifier: Notifier) -> None:
        self._engine = engine
        self._address = os.fsencode(notifier.address)
        self._interval = notifier.watchdog_interval

    def start(self, tasks: Supervisor) -> None:
        """Send the first one at once: the manager's time runs since the last one of a predecessor."""
        if self._interval is None or not self._address:
            return
        interval_ms, control_ms = max(1, round(self._interval * 1000)), round(CONTROL_MAX_AGE * 1000)
        try:
            self._engine.start_watchdog(self._address, interval_ms, control_ms)
        except OSError as error:
            _log.error("cannot start the watchdog: %s; the service manager may restart this process", error.strerror)
        show = repeat("the watchdog", CONTROL_INTERVAL, self._show_life, longest=CONTROL_INTERVAL)
        tasks.start("watchdog", show)

    def stop(self) -> None:
        """Send no more: another process is the main one of the service. Idempotent."""
        self._engine.stop_watchdog()

    async def _show_life(self) -> None:
        """The control plane works. What the missing signs of a stuck worker do not tell is told in the log."""
        self._engine.control_works()
        workers = range(self._engine.options.workers)
        oldest = min(self._engine.worker_statistics(worker).heartbeat_ns for worker in workers)
        age = (time.monotonic_ns() - oldest) / 1e9
        if age >= WORKER_MAX_AGE:
            _log.error("a worker shows no sign of life for %.1f s", age)
