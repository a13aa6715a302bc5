"""How far a balancer's idea of the load is from the truth. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bench.fleet.server import Truth
from bench.fleet.subjects.base import Load


@dataclass(frozen=True, slots=True)
class Sample:
    """What a balancer said at a time of the monotonic clock."""

    at: float
    loads: Mapping[str, Load]


@dataclass(frozen=True, slots=True)
class Error:
    """Of requests in flight: the mean over time and replicas of the absolute and of the signed difference, both in
    shares of the mean that was in flight."""

    absolute: float
    signed: float


def in_flight(truth: Truth, at: float) -> int:
    return bisect_right(truth.begun, at) - bisect_right(truth.ended, at)


def busy_error(samples: Sequence[Sample], truths: Sequence[Truth]) -> Error | None:
    """None when the balancer said nothing. Each sample stands for the time until the next one."""
    absolute = signed = total = 0.0
    for sample, following in pairwise(samples):
        weight = following.at - sample.at
        for truth in truths:
            if truth.name in sample.loads:
                true = in_flight(truth, sample.at)
                difference = sample.loads[truth.name].busy - true
                absolute += weight * abs(difference)
                signed += weight * difference
                total += weight * true
    return Error(absolute / total, signed / total) if total > 0 else None


def turns_error(last: Sample, truths: Sequence[Truth]) -> float | None:
    """Turns that the balancer counted over requests that there were, less 1; None when it counts none."""
    turns = [load.turns for load in last.loads.values() if load.turns is not None]
    asked = sum(len(truth.begun) for truth in truths)
    return sum(turns) / asked - 1 if turns and asked else None
