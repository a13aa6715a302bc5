"""What is the same around every running balancer: its parts under a supervisor, its status, what operators ask.

A process (`daemon`) and a part of another program (`embedding.running`) differ in how they load configurations and end.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence

from l4lb._version import __version__
from l4lb.balancer.balancer import Balancer
from l4lb.base.tasks import Supervisor
from l4lb.observe.loop_lag import LoopLag
from l4lb.observe.session_log import SessionLog
from l4lb.process.shutdown import Shutdown
from l4lb.status import AdminState, BackendStatus, ConfigStatus, Session, Settings, Status


class BalancerControl:
    """The part of `Control` that is the same everywhere. Subclasses set `balancer` and `_shutdown`."""

    balancer: Balancer
    _shutdown: Shutdown

    def __init__(self) -> None:
        self._access_log = SessionLog()
        self._loop_lag = LoopLag()
        self._started_at = time.monotonic()

    @property
    def pid(self) -> int:
        return os.getpid()

    def _supervise(self, stack: contextlib.AsyncExitStack) -> Supervisor:
        """Start the parts that run by themselves. The stack stops them, and those that are started later."""
        supervisor = Supervisor()
        stack.push_async_callback(supervisor.close)
        self.balancer.start(supervisor)
        supervisor.start("loop lag", self._loop_lag.run)
        return supervisor

    def _status(self, config: ConfigStatus) -> Status:
        return Status(
            version=__version__,
            pid=self.pid,
            uptime_seconds=time.monotonic() - self._started_at,
            stopping=self._shutdown.requested,
            max_connections=self.balancer.max_connections,
            config=config,
            listeners=self.balancer.listeners(),
            pools=self.balancer.pools(),
            workers=self.balancer.workers(),
            access_log_dropped_total=self._access_log.dropped_total,
            loop_lag=self._loop_lag.histogram,
            shutdown=self._shutdown.status(),
        )

    # ---- what the balancer answers itself --------------------------------------------------------------------------

    def backend(self, pool: str, backend: str) -> BackendStatus:
        return self.balancer.backend(pool, backend)

    async def sessions(self) -> list[Session]:
        return await self.balancer.sessions()

    async def kill_session(self, session: int) -> None:
        await self.balancer.kill_session(session)

    async def kill_sessions(self, pool: str, backend: str) -> int:
        return await self.balancer.kill_sessions(pool, backend)

    def set_backend(
        self, pool: str, backend: str, *, state: AdminState | None = None, weight: int | None = None
    ) -> None:
        self.balancer.set_backend(pool, backend, state=state, weight=weight)

    def written(self) -> Mapping[str, Sequence[Settings]]:
        return self.balancer.written()

    async def add_backend(self, pool: str, settings: Settings) -> str:
        return await self.balancer.add_backend(pool, settings)

    async def change_backend(
        self, pool: str, backend: str, settings: Settings, *, state: AdminState | None = None, weight: int | None = None
    ) -> None:
        await self.balancer.change_backend(pool, backend, settings, state=state, weight=weight)

    async def remove_backend(self, pool: str, backend: str, *, force: bool = False) -> int:
        return await self.balancer.remove_backend(pool, backend, force=force)
