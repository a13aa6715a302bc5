"""What a model server computes, without a clock or a socket: a batch that is refilled at every step, a queue, a cache.

The caller owns time: `begin` says how long the next step takes, `finish` what it brought. Deterministic.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

BLOCK_TOKENS = 16
"""The cache is given out in blocks of this many tokens, as in vLLM."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """How fast a replica is. Seconds are those of speed 1; a replica of speed 0.5 takes twice as long for everything.

    A step takes `step_seconds`, and `sequence_seconds` for each sequence of the batch, and `prompt_seconds` for each
    token of the prompts that it reads; while it reads prompts, the other sequences wait. The first steps of a new
    replica that read prompts take `cold_seconds` longer, the first by the first of them and so on.
    """

    speed: float = 1.0
    batch: int = 16
    cache_tokens: int = 12_000
    step_seconds: float = 0.024
    sequence_seconds: float = 0.0003
    prompt_seconds: float = 0.0002
    prompt_tokens_per_step: int = 2048
    cold_seconds: tuple[float, ...] = ()


@dataclass(slots=True, eq=False)
class Job:
    """A request inside an engine: how long its prompt is, how many tokens it wants and has."""

    prompt: int
    output: int
    produced: int = 0

    @property
    def blocks(self) -> int:
        return math.ceil((self.prompt + self.output) / BLOCK_TOKENS)


class Engine:
    """Admits in the order of arrival: a job that does not fit holds up those behind it."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.waiting: deque[Job] = deque()
        self.running: list[Job] = []
        self.steps = 0
        self.blocks = gpu.cache_tokens // BLOCK_TOKENS
        self.blocks_used = 0
        self._stepping: Sequence[Job] = ()
        self._cold = deque(gpu.cold_seconds)

    @property
    def cache_usage(self) -> float:
        return self.blocks_used / self.blocks

    def submit(self, job: Job) -> None:
        """A job that can never fit is an error: it would block the queue for good."""
        if job.blocks > self.blocks:
            raise ValueError(f"{job.prompt} + {job.output} tokens do not fit into a cache of {self.gpu.cache_tokens}")
        self.waiting.append(job)

    def cancel(self, job: Job) -> None:
        """The client went away. The blocks are free at once; a job that is not here is no matter."""
        if job in self.waiting:
            self.waiting.remove(job)
        elif job in self.running:
            self._leave(job)

    def begin(self) -> float | None:
        """Fill up the batch and begin a step: the seconds it takes, or None when there is nothing to do."""
        prompts = self._admit()
        if not self.running:
            return None
        self._stepping = tuple(self.running)
        self.steps += 1
        gpu = self.gpu
        seconds = gpu.step_seconds + gpu.sequence_seconds * len(self.running) + gpu.prompt_seconds * prompts
        if prompts and self._cold:
            seconds += self._cold.popleft()
        return seconds / gpu.speed

    def finish(self) -> list[Job]:
        """End the step: each job returned has one more token. Those that have all have left the batch."""
        live = set(self.running)
        advanced = [job for job in self._stepping if job in live]
        self._stepping = ()
        for job in advanced:
            job.produced += 1
            if job.produced == job.output:
                self._leave(job)
        return advanced

    def _admit(self) -> int:
        """Returns how many prompt tokens the step has to read."""
        prompts = 0
        while self.waiting and len(self.running) < self.gpu.batch:
            job = self.waiting[0]
            if self.blocks_used + job.blocks > self.blocks:
                break
            if prompts and prompts + job.prompt > self.gpu.prompt_tokens_per_step:
                break
            self.waiting.popleft()
            self.running.append(job)
            self.blocks_used += job.blocks
            prompts += job.prompt
        return prompts

    def _leave(self, job: Job) -> None:
        self.running.remove(job)
        self.blocks_used -= job.blocks
