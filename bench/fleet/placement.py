"""A fleet whose balancers place each request by itself, computed without sockets: the same engines and requests.
Pure."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from bench.fleet.client import Outcome
from bench.fleet.engine import Engine, Gpu, Job
from bench.fleet.plan import Scenario
from bench.fleet.policies import Balancer, Policy, View

LOOK_SECONDS = 1.0
"""Between two scrapes of a replica."""


@dataclass(slots=True, eq=False)
class _Replica:
    """`comes` is when it is there, `stall` when it makes no progress. `views` are those of the balancers."""

    name: str
    gpu: Gpu
    comes: float
    stall: tuple[float, float]
    views: list[View] = field(default_factory=list)
    engine: Engine = field(init=False)
    stepping: bool = False

    def __post_init__(self) -> None:
        self.engine = Engine(self.gpu)

    def begin(self, now: float) -> float | None:
        """When the step that begins now is over."""
        seconds = self.engine.begin()
        self.stepping = seconds is not None
        if seconds is None:
            return None
        due = now + seconds
        return self.stall[1] if self.stall[0] <= due < self.stall[1] else due


@dataclass(slots=True, eq=False)
class _Asked:
    """A request: its outcome, which balancer has it, and where it was placed when and as which one in flight."""

    outcome: Outcome
    balancer: int
    replica: _Replica | None = None
    placed: float = 0.0
    busy: int = 0
    last: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How a limit that is learnt did: the share of looks at which it was known, and of those the share at which it was
    below the batch; and the limits at the end, of the first balancer."""

    known: float
    below: float
    end: tuple[float, ...]


class Fleet:
    """One run. Balancers take requests in turn at random, as a DNS name with several addresses shares them out."""

    def __init__(self, scenario: Scenario, seed: int, policy: Policy) -> None:
        line = scenario.timeline
        never = (line.end, line.end)
        self._scenario, self._seed, self._dice = scenario, seed, Random(seed)
        self._balancers = [Balancer(policy) for _ in range(policy.balancers)]
        self._queues: list[deque[Job]] = [deque() for _ in self._balancers]
        names = scenario.names
        self._replicas = [_Replica(name, gpu, 0, never) for name, gpu in zip(names, scenario.gpus, strict=False)]
        self._replicas[scenario.stalls].stall = (line.stalled, line.stalled + line.stall)
        self._replicas.append(_Replica(names[-1], scenario.added, line.added, never))
        self._asked: dict[Job, _Asked] = {}
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()
        self._looks: list[tuple[float, int]] = []

    def run(self) -> list[Outcome]:
        line = self._scenario.timeline
        for number, replica in enumerate(self._replicas):
            self._at(replica.comes, partial(self._join, replica))
            offset = LOOK_SECONDS * (number + 1) / len(self._replicas)
            self._at(replica.comes + offset, partial(self._look, replica))
        for request in self._scenario.requests(self._seed):
            self._until(request.at)
            job, balancer = Job(request.prompt, request.output), self._dice.randrange(len(self._balancers))
            self._asked[job] = _Asked(Outcome(request.at, failure="unfinished"), balancer)
            self._queues[balancer].append(job)
            self._place(balancer, request.at)
        self._until(line.end + line.drain)
        return [asked.outcome for asked in self._asked.values()]

    def limits(self) -> Limits:
        known = [(limit, batch) for limit, batch in self._looks if limit < float("inf")]
        below = sum(limit < batch for limit, batch in known)
        balancer = self._balancers[0]
        return Limits(
            known=len(known) / len(self._looks),
            below=below / len(known) if known else 0.0,
            end=tuple(balancer.learnt(view) for view in balancer.views),
        )

    def _at(self, when: float, what: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), what))

    def _until(self, end: float) -> None:
        while self._events and self._events[0][0] <= end:
            now, _, what = heapq.heappop(self._events)
            what(now)

    def _join(self, replica: _Replica, _now: float) -> None:
        for balancer in self._balancers:
            replica.views.append(View(replica.gpu.speed, replica.gpu.batch))
            balancer.views.append(replica.views[-1])

    def _begin(self, replica: _Replica, now: float) -> None:
        if (due := replica.begin(now)) is not None:
            self._at(due, partial(self._finish, replica))

    def _place(self, number: int, now: float) -> None:
        queue, balancer = self._queues[number], self._balancers[number]
        while queue and (view := balancer.pick(now)) is not None:
            replica = next(each for each in self._replicas if view in each.views)
            job = queue.popleft()
            view.busy += 1
            asked = self._asked[job]
            asked.replica, asked.placed, asked.busy, asked.outcome.replica = replica, now, view.busy, replica.name
            replica.engine.submit(job)
            if not replica.stepping:
                self._begin(replica, now)

    def _finish(self, replica: _Replica, now: float) -> None:
        """A step is over: each request of the batch has a token."""
        for job in replica.engine.finish():
            asked = self._asked[job]
            outcome, view = asked.outcome, replica.views[asked.balancer]
            outcome.tokens, outcome.end = job.produced, now - outcome.at
            if outcome.first_token is None:
                outcome.first_token = outcome.end
                view.note_first_token(asked.busy, now - asked.placed, now)
            else:
                outcome.gap_most = max(outcome.gap_most, now - asked.last)
            asked.last = now
            if job.produced == job.output:
                outcome.failure = None
                view.busy -= 1
                view.answers += 1
        self._begin(replica, now)
        for number in range(len(self._balancers)):
            self._place(number, now)

    def _look(self, replica: _Replica, now: float) -> None:
        engine, measured = replica.engine, now >= self._scenario.timeline.measured
        for balancer, view in zip(self._balancers, replica.views, strict=True):
            balancer.look(view, len(engine.running), len(engine.waiting))
            if measured:
                self._looks.append((balancer.learnt(view), view.batch))
        self._at(now + LOOK_SECONDS, partial(self._look, replica))
        for number in range(len(self._balancers)):
            self._place(number, now)
