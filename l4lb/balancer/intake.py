"""Lets clients in, pauses that, and ends it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Mapping

from l4lb.balancer.phase import Phase
from l4lb.balancer.publisher import Publisher
from l4lb.balancer.socket_closer import POLL_INTERVAL
from l4lb.balancer.store import StateStore
from l4lb.config import model
from l4lb.engine.api import Engine
from l4lb.sockets.bind import BindKey
from l4lb.sockets.listeners import Sockets

STOP_ACCEPTING_TIMEOUT = 5.0
"""Seconds that the workers get to let go of the listening sockets."""


class Intake:
    """The only part that changes `phase`."""

    def __init__(self, engine: Engine, store: StateStore, phase: Phase, sockets: Sockets, publisher: Publisher) -> None:
        self._engine = engine
        self._store = store
        self._phase = phase
        self._sockets = sockets
        self._publisher = publisher

    def hold(self) -> None:
        """Open sockets and check backends, but accept no client before `accept`: clients wait in the queues."""
        self._phase.accepting = False

    def accept(self) -> None:
        """Let clients in."""
        self._phase.accepting = True
        self._publisher.once()

    async def stop(self) -> None:
        """Accept no more clients, for good. Those in a queue are still served. Sessions go on, and may still retry."""
        self._phase.stopping = True
        await self.pause()
        self._sockets.close(list(self._sockets.binds))

    async def pause(self, closing: Collection[BindKey] = ()) -> bool:
        """Accept no clients for now: those in a queue are still served, later ones wait. Sockets stay open, but those
        that are `closing` soon have almost no room to wait in. Whether the workers have let go of all sockets."""
        self._sockets.shrink_queues(closing)
        self._phase.accepting = False
        # A failure must not end a stop, and with it every session: it is tried again.
        self._publisher.now()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_ACCEPTING_TIMEOUT):
                while self._publisher.waiting or self._engine.reclaim() > 0:  # noqa: ASYNC110 - the workers cannot signal it
                    await asyncio.sleep(POLL_INTERVAL)
            return True
        return False

    def resume(self) -> None:
        """Let clients in again after a pause; if that is not possible at once, then as soon as it is."""
        self._phase.accepting = True
        if self._store.config is not None:
            self.apply_settings()
        self._publisher.now()

    def apply_settings(self) -> None:
        """Give listening sockets the options that their listeners have now."""
        self._sockets.apply_settings(self._listeners())

    def _listeners(self) -> Mapping[str, model.Listener]:
        config = self._store.config
        return {} if config is None or self._phase.stopping else config.listeners
