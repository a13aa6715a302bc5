"""What the admin API and embedding programs ask of a running balancer, whatever is around it.

A process (`daemon`) and a part of another program (`embedding.running`) differ in how they load configurations, report
their state and end. The rest of `Control` is the balancer's own, and is passed on here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from l4lb.balancer.balancer import Balancer
from l4lb.status import AdminState, BackendStatus, Session, Settings


class BalancerControl:
    """The part of `Control` that is the same around every balancer."""

    balancer: Balancer

    @property
    def pid(self) -> int:
        return os.getpid()

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
