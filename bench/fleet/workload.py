"""What the clients ask and when: bursty arrivals, long-tailed lengths. Pure; the same seed gives the same workload."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate
from random import Random

from bench.fleet.engine import Engine, Gpu, Job


class Zipf:
    """Lengths from `least` to `most`, a length n in proportion to n ** -exponent."""

    def __init__(self, exponent: float, least: int, most: int) -> None:
        self._least = least
        self._cumulative = list(accumulate(n**-exponent for n in range(least, most + 1)))

    def draw(self, random: Random) -> int:
        return self._least + bisect_left(self._cumulative, random.random() * self._cumulative[-1])


PROMPTS = Zipf(1.1, 16, 1024)
OUTPUTS = Zipf(1.1, 8, 256)
CAPACITY_JOBS = 3000


@dataclass(frozen=True, slots=True)
class Request:
    """`at` is seconds after the start; `application` is who asks. Lengths are tokens."""

    at: float
    application: int
    prompt: int
    output: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """`variation` is the coefficient of variation of the time between two requests: 1 would be a Poisson process."""

    variation: float = 2.5
    applications: int = 12


def requests(traffic: Traffic, rate: Callable[[float], float], seconds: float, seed: int) -> list[Request]:
    """`rate` is the mean number of requests a second at a time; the gaps are Gamma distributed around its inverse."""
    random = Random(seed)
    return [
        Request(at, random.randrange(traffic.applications), PROMPTS.draw(random), OUTPUTS.draw(random))
        for at in _arrivals(traffic.variation, rate, seconds, random)
    ]


def _arrivals(variation: float, rate: Callable[[float], float], seconds: float, random: Random) -> Iterator[float]:
    shape = variation**-2
    at = 0.0
    while True:
        at += random.gammavariate(shape, 1 / shape) / rate(at)
        if at >= seconds:
            return
        yield at


@cache
def capacity(gpu: Gpu) -> float:
    """Requests a second that a warm replica completes when there is always another one in the queue."""
    random = Random(0)
    engine = Engine(replace(gpu, cold_seconds=()))
    for _ in range(CAPACITY_JOBS):
        engine.submit(Job(PROMPTS.draw(random), OUTPUTS.draw(random)))
    elapsed = 0.0
    done = 0
    while engine.waiting:
        elapsed += engine.begin() or 0.0
        done += sum(job.produced == job.output for job in engine.finish())
    return done / elapsed
