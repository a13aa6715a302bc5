"""Polls many peers, each at its own interval: one task per peer, spread in time, with limited concurrency."""

from __future__ import annotations

import asyncio
import functools
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from l4lb.base.pacing import every
from l4lb.base.tasks import supervise
from l4lb.base.text import clipped, reason

CONCURRENCY = 128
JITTER = 0.1
"""Intervals vary at random by this share, and the first poll happens within this share of one interval."""

_log = logging.getLogger(__name__)


class Job(Protocol):
    """What to poll. A job that equals the one before goes on undisturbed."""

    @property
    def interval(self) -> float: ...


Key = TypeVar("Key", bound=Hashable)
SomeJob = TypeVar("SomeJob", bound=Job)


@dataclass(slots=True)
class Asked(Generic[SomeJob]):
    """State of one polled peer. `results_total` counts polls by `success` and `failure`."""

    job: SomeJob
    message: str = "not asked yet"
    results_total: Counter[str] = field(default_factory=lambda: Counter(success=0, failure=0))
    task: asyncio.Task[None] | None = None


class Poller(Generic[Key, SomeJob]):
    """Owns the tasks. `ask(key, job)` polls once, with a deadline of its own, and returns a short message for the
    status.

    OSError, TimeoutError and ValueError from `ask` count as failures of the peer.
    """

    def __init__(self, what: str, ask: Callable[[Key, SomeJob], Awaitable[str]]) -> None:
        self._what = what
        self._ask = ask
        self._asked: dict[Key, Asked[SomeJob]] = {}
        self._places = asyncio.Semaphore(CONCURRENCY)

    def asked(self, key: Key) -> Asked[SomeJob] | None:
        return self._asked.get(key)

    def apply(self, jobs: Mapping[Key, SomeJob]) -> None:
        """Poll exactly these peers from now on. Counts survive a change of the job."""
        for key in self._asked.keys() - jobs.keys():
            self._stop(self._asked.pop(key))
        for key, job in jobs.items():
            asked = self._asked.get(key)
            if asked is None:
                asked = self._asked[key] = Asked(job)
            elif asked.job == job:
                continue
            self._stop(asked)
            asked.job = job
            work = supervise(f"the {self._what} of {key}", functools.partial(self._run, key, asked))
            asked.task = asyncio.get_running_loop().create_task(work, name=f"{self._what} {key}")

    async def close(self) -> None:
        """Stop polling and wait until no poll is in progress."""
        tasks = [asked.task for asked in self._asked.values() if asked.task is not None]
        self.apply({})
        await asyncio.gather(*tasks, return_exceptions=True)

    @staticmethod
    def _stop(asked: Asked[SomeJob]) -> None:
        if asked.task is not None:
            asked.task.cancel()

    async def _run(self, key: Key, asked: Asked[SomeJob]) -> None:
        await asyncio.sleep(asked.job.interval * random.uniform(0, JITTER))
        async for _ in every(asked.job.interval, JITTER):
            async with self._places:
                try:
                    asked.message = clipped(await self._ask(key, asked.job))
                    asked.results_total["success"] += 1
                except (OSError, TimeoutError, ValueError) as error:
                    asked.message = reason(error)
                    asked.results_total["failure"] += 1
                except Exception as error:
                    asked.message = clipped(f"internal error: {error!r}")
                    asked.results_total["failure"] += 1
                    _log.exception("unexpected error in the %s of %s", self._what, key)
