"""Turns what an agent knows about its host into its line. No I/O; the reporter keeps some history."""

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
"""Time constant in seconds with which the weight follows the load."""

RECOVERY = 60.0
"""Seconds for which the agent reports `ready` after a start or a fault, to take back a `drain` that it or an earlier
agent requested. Later it reports no state, so as not to undo what an operator did."""

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
    """What is known at one moment. `server` has the signals of a model server, None without them; `silent` then says
    that there should be some."""

    host: Mapping[str, float]
    gpu: GpuState = NO_GPU
    server: Mapping[Signal, float] | None = None
    silent: bool = False

    def used(self) -> float | None:
        """Utilisation of the scarcest resource; None if it is unknown."""
        if self.silent:
            return None
        shares = list(self.host.values())
        if self.server is not None and (share := utilisation(self.server, LIMITS)) is not None:
            shares.append(share)
        elif self.gpu.utilisation is not None:
            # A GPU that batches is always busy, full or not. If the server reports its own load, that counts instead.
            shares.append(self.gpu.utilisation)
        return max(shares, default=None)


class LoadReporter:
    """Smooths the weight and decides for how long `ready` is reported."""

    def __init__(self, now: float) -> None:
        self._used: float | None = None
        self._at = now
        self._ready_until = now + RECOVERY
        self._fault: str | None = None

    def observe(self, findings: Findings, now: float) -> None:
        """Add what was found."""
        used, elapsed, self._at = findings.used(), now - self._at, now
        if used is None or self._used is None:
            self._used = used
        else:
            self._used += (used - self._used) * (1 - math.exp(-elapsed / TAU))
        self._fault = findings.gpu.fault
        if self._fault is not None:
            self._ready_until = now + RECOVERY

    def line(self, now: float) -> bytes:
        """The line for this moment. Without numbers it does not mention the weight."""
        percent = None if self._used is None else min(100, max(1, round(100 * (1 - self._used))))
        if self._fault is not None:
            return format_line(percent, state=AdminState.DRAIN, remark=self._fault)
        return format_line(percent, state=AdminState.READY if now < self._ready_until else None)
