"""From what an agent knows of its host to the line that it answers. Pure but for what it remembers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from l4lb.agent.gpu import NO_GPU, GpuState
from l4lb.agent.protocol import format_line
from l4lb.load.exposition import Signal
from l4lb.load.weights import utilisation
from l4lb.status import AdminState

TAU = 3.0
"""Seconds in which the weight follows most of a change."""

RECOVERY = 60.0
"""Seconds for which `ready` is said, after the start and after a fault: an agent must take back the `drain` that it, or
the one before it, asked for. Later it says nothing of the state, so as not to undo what an operator did."""

LIMITS: Mapping[Signal, float | None] = {
    "queue": 5.0,
    "kv": 0.8,
    "running": None,
    "gpu": 1.0,
    "cpu": 1.0,
    "memory": 1.0,
}


@dataclass(frozen=True, slots=True)
class Findings:
    """What is known at one moment. `server` are the signals of a model server, None when there are none; then `silent`
    says that there should be some."""

    host: Mapping[str, float]
    gpu: GpuState = NO_GPU
    server: Mapping[Signal, float] | None = None
    silent: bool = False

    def used(self) -> float | None:
        """How far the scarcest thing is used up; None if that is not known."""
        if self.silent:
            return None
        shares = list(self.host.values())
        if self.server is not None and (share := utilisation(self.server, LIMITS)) is not None:
            shares.append(share)
        elif self.gpu.utilisation is not None:
            # A GPU that batches works all the time, full or not: where the server says how full it is, that counts.
            shares.append(self.gpu.utilisation)
        return max(shares, default=None)


class LoadReporter:
    """Smooths the weight, and knows for how long `ready` has to be said."""

    def __init__(self, now: float) -> None:
        self._used: float | None = None
        self._at = now
        self._ready_until = now + RECOVERY
        self._fault: str | None = None

    def observe(self, findings: Findings, now: float) -> None:
        """Take in what was found."""
        used, elapsed, self._at = findings.used(), now - self._at, now
        if used is None or self._used is None:
            self._used = used
        else:
            self._used += (used - self._used) * (1 - math.exp(-elapsed / TAU))
        self._fault = findings.gpu.fault
        if self._fault is not None:
            self._ready_until = now + RECOVERY

    def line(self, now: float) -> bytes:
        """The answer at this moment. Without numbers it leaves the weight as it is."""
        percent = None if self._used is None else min(100, max(1, round(100 * (1 - self._used))))
        if self._fault is not None:
            return format_line(percent, state=AdminState.DRAIN, remark=self._fault)
        return format_line(percent, state=AdminState.READY if now < self._ready_until else None)
