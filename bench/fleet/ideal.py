"""What no balancer of connections can do better: every request by itself goes to the replica with the fewest requests
in flight for its speed, as the replicas know it. Computed without sockets, with the same engines and requests. Pure.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench.fleet.client import Outcome
from bench.fleet.engine import Engine, Gpu, Job
from bench.fleet.plan import Scenario

NAME = "ideal"


@dataclass(slots=True)
class _Replica:
    """`comes` is when it is there, `stall` when it makes no progress."""

    name: str
    gpu: Gpu
    comes: float
    stall: tuple[float, float]
    engine: Engine = field(init=False)
    stepping: bool = False

    def __post_init__(self) -> None:
        self.engine = Engine(self.gpu)

    @property
    def load(self) -> float:
        """After one more request."""
        return (len(self.engine.waiting) + len(self.engine.running) + 1) / self.gpu.speed

    def begin(self, now: float) -> float | None:
        """When the step that begins now is over."""
        seconds = self.engine.begin()
        self.stepping = seconds is not None
        if seconds is None:
            return None
        due = now + seconds
        return self.stall[1] if self.stall[0] <= due < self.stall[1] else due


def outcomes(scenario: Scenario, seed: int) -> list[Outcome]:
    line = scenario.timeline
    never = (line.end, line.end)
    replicas = [_Replica(name, gpu, 0, never) for name, gpu in zip(scenario.names, scenario.gpus, strict=False)]
    replicas[scenario.stalls].stall = (line.stalled, line.stalled + line.stall)
    replicas.append(_Replica(scenario.names[-1], scenario.added, line.added, never))
    found: list[Outcome] = []
    asked: dict[Job, Outcome] = {}
    last: dict[Job, float] = {}
    order = itertools.count()
    steps: list[tuple[float, int, _Replica]] = []

    def begin(replica: _Replica, now: float) -> None:
        due = replica.begin(now)
        if due is not None:
            heapq.heappush(steps, (due, next(order), replica))

    def finish(until: float) -> Iterator[tuple[float, Job]]:
        """The tokens of all steps that end by then."""
        while steps and steps[0][0] <= until:
            now, _, replica = heapq.heappop(steps)
            for job in replica.engine.finish():
                yield now, job
            begin(replica, now)

    def record(until: float) -> None:
        for now, job in finish(until):
            outcome = asked[job]
            outcome.tokens = job.produced
            outcome.end = now - outcome.at
            if outcome.first_token is None:
                outcome.first_token = outcome.end
            outcome.gap_most = max(outcome.gap_most, now - last.get(job, now))
            last[job] = now
            if job.produced == job.output:
                outcome.failure = None

    for request in scenario.requests(seed):
        record(request.at)
        replica = min((each for each in replicas if each.comes <= request.at), key=lambda each: each.load)
        job = Job(request.prompt, request.output)
        asked[job] = Outcome(request.at, replica.name, failure="unfinished")
        found.append(asked[job])
        replica.engine.submit(job)
        if not replica.stepping:
            begin(replica, request.at)
    record(line.end + line.drain)
    return found
