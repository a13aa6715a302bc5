"""The control plane's part in the service manager's watchdog. The data plane sends the messages, see `watchdog.h`.

Sessions go on while the control plane is blocked, and a restart would end them. So it has much more time than a worker.
"""

from __future__ import annotations

import logging
import os
import time

from l4lb.base.tasks import Supervisor, repeat
from l4lb.engine import NativeEngine
from l4lb.sockets.systemd import Notifier

WORKER_MAX_AGE = 5.0
"""Seconds without an iteration after which a worker is stuck, as in the data plane (LB_HEARTBEAT_MAX_MS)."""

CONTROL_MAX_AGE = 300.0
"""Seconds for which the control plane may be blocked. Backends are not checked meanwhile."""

CONTROL_INTERVAL = 1.0
"""Seconds between two reports that the control plane works."""

_log = logging.getLogger(__name__)


class Watchdog:
    """Does nothing where the service manager of `notifier` has no watchdog."""

    def __init__(self, engine: NativeEngine, notifier: Notifier) -> None:
        self._engine = engine
        self._address = os.fsencode(notifier.address)
        self._interval = notifier.watchdog_interval

    def start(self, supervisor: Supervisor) -> None:
        """Send the first message at once: the manager's time runs since the last one of a predecessor."""
        if self._interval is None or not self._address:
            return
        interval_ms, control_ms = max(1, round(self._interval * 1000)), round(CONTROL_MAX_AGE * 1000)
        try:
            self._engine.start_watchdog(self._address, interval_ms, control_ms)
        except OSError as error:
            _log.error("cannot start the watchdog: %s; the service manager may restart this process", error.strerror)
        supervisor.start("the watchdog", self.run)

    async def run(self) -> None:
        await repeat("the watchdog", CONTROL_INTERVAL, self._show_life, longest=CONTROL_INTERVAL)

    def stop(self) -> None:
        """Send no more messages: another process is the main one of the service. Idempotent."""
        self._engine.stop_watchdog()

    async def _show_life(self) -> None:
        """Report that the control plane works, and log a stuck worker: to the service manager it is only silence."""
        self._engine.control_works()
        workers = range(self._engine.options.workers)
        oldest = min(self._engine.worker_statistics(worker).heartbeat_ns for worker in workers)
        age = (time.monotonic_ns() - oldest) / 1e9
        if age >= WORKER_MAX_AGE:
            _log.error("stuck worker: no iteration for %.1f s", age)
