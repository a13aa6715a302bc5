"""Checks backends, each at its own interval: one task per backend, spread in time, with limited concurrency."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from l4lb.base.tasks import supervise
from l4lb.base.text import clipped
from l4lb.config import model
from l4lb.health.machine import Finding, HealthTrack, finding
from l4lb.health.pace import next_turn
from l4lb.health.probes import NO_SUBJECT, Outcome, Result, Subject, command, probe
from l4lb.net.target import Target
from l4lb.status import HealthState

CONCURRENCY = 64
"""Checks at once, unless the owner has more descriptors to spare."""

_log = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Check:
    """What to check, and the initial state: up for a backend that already served without checks."""

    target: Target
    settings: model.Health
    state: HealthState = HealthState.PENDING
    subject: Subject = NO_SUBJECT


@dataclass(slots=True)
class Watch:
    """A backend under check. `told` is the state that was reported to the owner. `results_total` counts results by
    `success`, `failure`, `inconclusive` and `hindered`. `checked` is set after the first check."""

    check: Check
    health: HealthTrack
    told: HealthState
    message: str = "not checked yet"
    results_total: Counter[str] = field(default_factory=lambda: Counter({found.value: 0 for found in Finding}))
    checked: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


def _silent(key: Hashable) -> int:
    return 0


class Scheduler(Generic[Key]):
    """Owns the check tasks. `on_change(key, health, message)` is called on the loop when a backend's state changes.

    `received(key)` returns how many bytes a backend has sent to clients so far.
    """

    def __init__(
        self,
        on_change: Callable[[Key, HealthState, str], None],
        received: Callable[[Key], int] = _silent,
        concurrency: int = CONCURRENCY,
    ) -> None:
        self._on_change = on_change
        self._received = received
        self._watches: dict[Key, Watch] = {}
        self._known: dict[Key, tuple[HealthTrack, str]] = {}
        self._places = asyncio.Semaphore(concurrency)
        self._programs = asyncio.Semaphore(command.CONCURRENCY)

    def watch(self, key: Key) -> Watch | None:
        return self._watches.get(key)

    def restore(self, known: Mapping[Key, tuple[HealthTrack, str]]) -> None:
        """Restore states and messages from a predecessor's checks. These backends count as checked."""
        self._known.update(known)

    def apply(self, checks: Mapping[Key, Check]) -> None:
        """Check exactly these backends from now on. Known ones keep their state, unless their target or initial state
        changed."""
        for key in self._watches.keys() - checks.keys():
            self._stop(self._watches.pop(key))
        for key, check in checks.items():
            watch = self._watches.get(key)
            if watch is None:
                self._start(key, self._begun(key, check))
            elif watch.check.target != check.target or watch.told is not check.state:
                self._stop(watch)
                self._start(key, Watch(check, HealthTrack(check.state), check.state, results_total=watch.results_total))
            elif (watch.check.settings, watch.check.subject) != (check.settings, check.subject):
                # Restart the task with the known state: the next check may be due as far away as the old interval was
                # long.
                self._stop(watch)
                self._start(key, replace(watch, check=check))

    async def first_results(self) -> None:
        """Wait until every backend that is under check now has been checked."""
        await asyncio.gather(*(watch.checked.wait() for watch in list(self._watches.values())))

    async def close(self) -> None:
        """Stop checking and wait until no check is in progress."""
        tasks = [watch.task for watch in self._watches.values() if watch.task is not None]
        self.apply({})
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begun(self, key: Key, check: Check) -> Watch:
        health, message = self._known.pop(key, (None, ""))
        if health is None or health.state is not check.state:
            return Watch(check, HealthTrack(check.state), check.state)
        watch = Watch(check, health, check.state, message)
        watch.checked.set()
        return watch

    def _start(self, key: Key, watch: Watch) -> None:
        self._watches[key] = watch
        work = supervise(f"the health check of {key}", lambda: self._run(key, watch))
        watch.task = asyncio.get_running_loop().create_task(work, name=f"health {key}")

    @staticmethod
    def _stop(watch: Watch) -> None:
        if watch.task is not None:
            watch.task.cancel()

    async def _run(self, key: Key, watch: Watch) -> None:
        loop, settings = asyncio.get_running_loop(), watch.check.settings
        places = self._programs if settings.type == "exec" else self._places
        # The first check runs at once; the later ones start at a random point of the interval, to spread the load.
        planned = loop.time() - random.random() * watch.health.interval(settings) * (1 - 2 * settings.jitter)
        while True:
            async with places:
                before = self._received(key)
                result = await probe(watch.check.target, settings, watch.check.subject)
            try:
                self._observe(key, watch, result, before)
            except Exception:
                _log.exception("the result of a health check of %s could not be used", key)
            interval, now = watch.health.interval(settings), loop.time()
            planned = next_turn(planned, interval, now)
            shift = interval * settings.jitter * random.uniform(-1, 1)
            await asyncio.sleep(max(0.0, planned + shift - now))

    def _observe(self, key: Key, watch: Watch, result: Result, received_before: int) -> None:
        settings, before = watch.check.settings, watch.health
        found = finding(result.outcome, bytes_flowed=self._received(key) != received_before)
        watch.results_total[found.value] += 1
        watch.health = before.observe(found, settings, asyncio.get_running_loop().time())
        watch.message = clipped(self._message(before, watch, result))
        if found is not Finding.HINDERED:
            watch.checked.set()
        if watch.health.state is not watch.told:
            self._on_change(key, watch.health.state, watch.message)
            watch.told = watch.health.state

    @staticmethod
    def _message(before: HealthTrack, watch: Watch, result: Result) -> str:
        health = watch.health
        if result.outcome is Outcome.HINDERED:
            return f"checks hindered: {result.message}"
        if result.outcome is Outcome.TIMEOUT and health.undecided > before.undecided:
            return f"busy: {result.message}, while clients get their answers"
        if health.state is HealthState.DOWN and health.flaps > 0:
            return (
                f"{result.message}; it flaps: {health.good_needed(watch.check.settings)} good checks will bring it up"
            )
        return result.message
