"""Checks every backend at its own pace: one task each, spread in time, a bounded number at once."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from l4lb.config import model
from l4lb.control.api import HealthState
from l4lb.health.machine import Health
from l4lb.health.probes import Result, Target, probe

CONCURRENCY = 64
JITTER = 0.1
"""Intervals vary by this share either way, so that checks of many backends do not march in step."""

_log = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Check:
    """What to check, and the state it is in: up for a backend that already served without checks."""

    target: Target
    settings: model.Health
    state: HealthState = HealthState.PENDING


@dataclass(slots=True)
class Watch:
    """A backend under check. `results_total` counts them by `success` and `failure`."""

    check: Check
    health: Health
    message: str = "not checked yet"
    results_total: Counter[str] = field(default_factory=lambda: Counter(success=0, failure=0))
    checked: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Scheduler(Generic[Key]):
    """Owns the check tasks. `on_change(key, health, message)` is called on the loop when a backend's state changes."""

    def __init__(self, on_change: Callable[[Key, HealthState, str], None]) -> None:
        self._on_change = on_change
        self._watches: dict[Key, Watch] = {}
        self._slots = asyncio.Semaphore(CONCURRENCY)

    def watch(self, key: Key) -> Watch | None:
        return self._watches.get(key)

    def apply(self, checks: Mapping[Key, Check]) -> None:
        """Check exactly these from now on. Who stays goes on counting, unless it moved or is in another state now."""
        for key in self._watches.keys() - checks.keys():
            self._stop(self._watches.pop(key))
        for key, check in checks.items():
            watch = self._watches.get(key)
            if watch is None:
                self._start(key, Watch(check, Health(check.state)))
            elif watch.check.target != check.target or watch.health.state is not check.state:
                self._stop(watch)
                self._start(key, Watch(check, Health(check.state), results_total=watch.results_total))
            elif watch.check.settings != check.settings:
                # Begin anew with what is known: the check that is due may be as far away as the old interval was long.
                self._stop(watch)
                self._start(key, replace(watch, check=check))

    async def first_results(self) -> None:
        """Wait until every backend that is under check now has been checked."""
        await asyncio.gather(*(watch.checked.wait() for watch in list(self._watches.values())))

    async def close(self) -> None:
        """Stop checking, and wait until no check is under way."""
        tasks = [watch.task for watch in self._watches.values() if watch.task is not None]
        self.apply({})
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, key: Key, watch: Watch) -> None:
        self._watches[key] = watch
        watch.task = asyncio.get_running_loop().create_task(self._run(key, watch), name=f"health {key}")

    @staticmethod
    def _stop(watch: Watch) -> None:
        if watch.task is not None:
            watch.task.cancel()

    async def _run(self, key: Key, watch: Watch) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + watch.check.settings.interval * random.uniform(1 - JITTER, 1 + JITTER)
            async with self._slots:
                result = await probe(watch.check.target, watch.check.settings)
            try:
                self._observe(key, watch, result)
            except Exception:
                _log.exception("the result of a health check of %s could not be used", key)
            await asyncio.sleep(max(0.0, due - loop.time()))

    def _observe(self, key: Key, watch: Watch, result: Result) -> None:
        settings, before = watch.check.settings, watch.health.state
        watch.results_total["success" if result.ok else "failure"] += 1
        watch.health = watch.health.observe(result.ok, rise=settings.rise, fall=settings.fall)
        watch.message = result.message
        watch.checked.set()
        if watch.health.state is not before:
            self._on_change(key, watch.health.state, result.message)
