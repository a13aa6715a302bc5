"""A balancer over a data plane that can be made to fail, for tests of what the control plane does with it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

from l4lb.balancer.balancer import Balancer
from l4lb.config import Config
from l4lb.engine.api import EngineOptions
from l4lb.health.probes import failure, success
from l4lb.status import HealthState, Session
from tests.helpers.fake_engine import FakeEngine

A, B, C = "127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"
CHECKED: dict[str, Any] = {"health": {"interval": 3600, "timeout": 1, "rise": 1, "fall": 1}}


class Stage:
    """A balancer on a fake engine, and the sessions that were reported."""

    def __init__(self) -> None:
        self.engine = FakeEngine(EngineOptions(workers=2))
        self.reported: list[Session] = []
        self.balancer = Balancer(self.engine, self.reported.extend)

    async def apply(self, config: Config) -> None:
        self.balancer.apply(await self.balancer.prepare(config))

    def address(self) -> tuple[str, int]:
        host, _, port = self.balancer.listeners()["web"].bind[0].rpartition(":")
        return host, int(port)

    def backend(self, name: str = A) -> Any:
        return self.balancer.pools()["app"].backends[name]

    def usable(self) -> dict[str, bool]:
        return {backend.name: backend.usable for backend in self.engine.snapshot.pools[0].backends}


@contextlib.asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    stage = Stage()
    try:
        yield stage
    finally:
        await stage.balancer.close()
    assert stage.engine.closed


FIXED = "127.0.0.9"
"""An address on which no socket bound to port 0 takes a port."""

GOOD, BAD = success("fine"), failure("broken")
UP, DOWN = HealthState.UP, HealthState.DOWN


def listening_sockets() -> int:
    return len(os.listdir("/proc/self/fd"))
