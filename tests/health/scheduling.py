"""A scheduler of health checks over a network that only exists in the test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator

from l4lb.config.model import Health
from l4lb.health.probes import NO_SUBJECT, Outcome, Result, Subject, failure, success
from l4lb.health.scheduler import Scheduler
from l4lb.net.target import Target
from l4lb.status import HealthState

UP, DOWN, PENDING = HealthState.UP, HealthState.DOWN, HealthState.PENDING
GOOD, BAD = success("fine"), failure("broken")
LATE = Result(Outcome.TIMEOUT, "no answer within 1s")
FAST = Health(interval=0.01, timeout=0.01, rise=2, fall=3)
RARELY = Health(interval=3600, timeout=1)


def target(number: int) -> Target:
    return Target(socket.AF_INET, ("127.0.0.1", number))


class FakeNetwork:
    """Stands in for the network: what each target answers, how often it was asked, and with which settings."""

    def __init__(self) -> None:
        self.answers: dict[Target, Result] = {}
        self.asked: Counter[Target] = Counter()
        self.settings: list[Health] = []
        self.now = 0
        self.most = 0
        self.gate: asyncio.Event | None = None

    async def probe(self, where: Target, settings: Health, subject: Subject = NO_SUBJECT) -> Result:
        self.asked[where] += 1
        self.settings.append(settings)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if self.gate is not None:
                await self.gate.wait()
            return self.answers.get(where, GOOD)
        finally:
            self.now -= 1


class Heard:
    """What the scheduler reported."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, HealthState, str]] = []

    def __call__(self, key: str, state: HealthState, message: str) -> None:
        self.changes.append((key, state, message))


@contextlib.asynccontextmanager
async def scheduling(heard: Heard | None = None) -> AsyncIterator[Scheduler[str]]:
    scheduler: Scheduler[str] = Scheduler(heard or Heard())
    try:
        yield scheduler
    finally:
        await scheduler.close()
