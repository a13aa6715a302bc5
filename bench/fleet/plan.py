"""What happens in a run, and to whom: the replicas, the timeline, the pools of the clients. Pure data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bench.fleet.engine import Gpu
from bench.fleet.workload import Request, Traffic, capacity, requests


@dataclass(frozen=True, slots=True)
class Timeline:
    """Seconds after the first request. What arrives before `measured` warms up and is not counted."""

    measured: float = 10
    added: float = 60
    stalled: float = 110
    stall: float = 8
    end: float = 140
    settle: float = 30
    """How long after an event its window lasts."""
    drain: float = 30
    """How long after the last request the answers may take to end."""


@dataclass(frozen=True, slots=True)
class Window:
    """Requests that arrived from `begin` to `end` are looked at together."""

    name: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Pools:
    """The keep-alive pool of each application: what was used last is used first; all in use opens another."""

    idle_seconds: float = 90
    idle_most: int = 100


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fleet and its clients. `load` is the share of the warm capacity that is asked for, also of what is added."""

    name: str
    summary: str
    gpus: tuple[Gpu, ...] = (*(Gpu(),) * 5, *(Gpu(speed=0.5),) * 2)
    added: Gpu = field(default_factory=lambda: Gpu(cold_seconds=(3, 1.5, 0.75)))
    stalls: int = 1
    """Which of the replicas stalls."""
    load: float = 0.8
    traffic: Traffic = field(default_factory=Traffic)
    pools: Pools = field(default_factory=Pools)
    weighted: bool = False
    """Balancers are told how fast the replicas are."""
    answers_at_once: bool = True
    """The head of an answer comes with the request, as of every server on Starlette; else with the first token."""
    timeline: Timeline = field(default_factory=Timeline)

    @property
    def names(self) -> list[str]:
        """The replicas, the one that is added last."""
        return [f"r{i}" for i in range(len(self.gpus) + 1)]

    @property
    def weights(self) -> list[int]:
        """What balancers are told, one for each of `names`."""
        return [round(10 * gpu.speed) if self.weighted else 1 for gpu in (*self.gpus, self.added)]

    def capacities(self) -> list[float]:
        """Requests a second, one for each of `names`."""
        return [capacity(gpu) for gpu in (*self.gpus, self.added)]

    def requests(self, seed: int) -> list[Request]:
        """The rate rises with the fleet when the replica is added."""
        capacities = self.capacities()
        before, after = sum(capacities[:-1]), sum(capacities)
        line = self.timeline
        return requests(self.traffic, lambda at: self.load * (after if at >= line.added else before), line.end, seed)

    @property
    def windows(self) -> list[Window]:
        """`all` is what was measured; the others are parts of it."""
        line = self.timeline
        return [
            Window("all", line.measured, line.end),
            Window("steady", line.measured, line.added),
            Window("grown", line.added, line.added + line.settle),
            Window("stall", line.stalled, line.end),
        ]

    def quick(self) -> Scenario:
        """The same in a fraction of the time: to see that it works."""
        short = Timeline(measured=3, added=9, stalled=17, stall=2, end=22, settle=8, drain=10)
        return replace(self, timeline=short, added=replace(self.added, cold_seconds=(1, 0.5)))


MIXED = (*(Gpu(),) * 5, *(Gpu(speed=0.5, batch=10),) * 2)

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("pooled", "clients keep idle connections for 90 s; balancers do not know that GPUs differ"),
        Scenario("weighted", "the same, and balancers are told the speeds as weights", weighted=True),
        Scenario("openai", "clients keep idle connections for 5 s, as the OpenAI client does", pools=Pools(5, 100)),
        Scenario("mixed", "as pooled, and the slow replicas have a batch of 10", gpus=MIXED),
        Scenario("late-head", "as pooled, but the head of an answer comes with its first token", answers_at_once=False),
    )
}
