"""Closes listening sockets that no listener has any more, once no worker accepts from them."""

from __future__ import annotations

import asyncio

from l4lb.balancer.phase import Phase
from l4lb.balancer.store import StateStore
from l4lb.base.tasks import repeat
from l4lb.engine.api import Engine
from l4lb.sockets.bind import BindKey, bind_key
from l4lb.sockets.listeners import Sockets

POLL_INTERVAL = 0.001
"""Seconds between two looks at whether the workers let go of a socket. A client that comes in between is reset."""


class SocketCloser:
    """`active` while a socket is open that no listener has."""

    def __init__(self, engine: Engine, store: StateStore, phase: Phase, sockets: Sockets) -> None:
        self._engine = engine
        self._store = store
        self._phase = phase
        self._sockets = sockets
        self.active = asyncio.Event()

    def look(self) -> None:
        """See which sockets have no listener any more: soon next to no client may queue there."""
        if unused := self._unused():
            self._sockets.shrink_queues(unused)
            self.active.set()

    async def run(self) -> None:
        await repeat("closing of sockets", POLL_INTERVAL, self.round)

    async def round(self) -> None:
        """Wait until there are unused sockets, and close them if the workers have let go."""
        await self.active.wait()
        if self._engine.reclaim() == 0:
            self._sockets.close(self._unused())
            self.active.clear()

    def _unused(self) -> list[BindKey]:
        listeners = {} if self._phase.stopping else self._store.state.listeners
        used = {bind_key(name, address) for name, listener in listeners.items() for address in listener.config.bind}
        return [key for key in self._sockets.binds if key not in used]
