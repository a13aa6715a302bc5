"""Utilisation of this host, or of the container that the agent runs in: whichever has the limits."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
"""In a container this is its own cgroup, with its limits. On a host it is the root group, which has none."""

PROC = Path("/proc")

_AVG10 = re.compile(r"avg10=([0-9.]+)")


class Host:
    """Reads CPU, memory and pressure as shares from 0 to 1. What cannot be read is left out."""

    def __init__(self, cgroup: Path = CGROUP, proc: Path = PROC, clock: Callable[[], float] = time.monotonic) -> None:
        self._cgroup = cgroup
        self._proc = proc
        self._clock = clock
        self._before: tuple[float, float] | None = None
        psutil.cpu_percent(None)  # the first call returns nothing; it starts the first interval

    def read(self) -> dict[str, float]:
        """Shares in use since the last call: `cpu`, `memory`, `cpu_pressure`, `memory_pressure`."""
        found = {
            "cpu": self._cpu(),
            "memory": self._memory(),
            "cpu_pressure": self._pressure("cpu", "some"),
            "memory_pressure": self._pressure("memory", "full"),
        }
        return {name: min(1.0, max(0.0, share)) for name, share in found.items() if share is not None}

    def _cpu(self) -> float | None:
        host = psutil.cpu_percent(None) / 100
        limit, used = self._cpu_limit(), self._value("cpu.stat", "usage_usec")
        if limit is None or used is None:
            return host
        before, self._before = self._before, (self._clock(), used / 1e6)
        if before is None or self._before[0] <= before[0]:
            return None
        return (self._before[1] - before[1]) / (self._before[0] - before[0]) / limit

    def _cpu_limit(self) -> float | None:
        """CPUs that this container may use."""
        quota, _, period = self._text(self._cgroup / "cpu.max").partition(" ")
        return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else None

    def _memory(self) -> float:
        limit, current = self._text(self._cgroup / "memory.max"), self._text(self._cgroup / "memory.current")
        if not limit.isdecimal() or not current.isdecimal() or int(limit) == 0:
            return float(psutil.virtual_memory().percent) / 100
        # Memory that the kernel can reclaim at once does not count as used.
        return (int(current) - (self._value("memory.stat", "inactive_file") or 0)) / int(limit)

    def _pressure(self, resource: str, kind: str) -> float | None:
        """Share of the last ten seconds in which some, or all, tasks waited for the resource."""
        text = self._text(self._cgroup / f"{resource}.pressure") or self._text(self._proc / "pressure" / resource)
        line = next((line for line in text.splitlines() if line.startswith(kind)), "")
        found = _AVG10.search(line)
        return None if found is None else float(found[1]) / 100

    def _value(self, file: str, key: str) -> float | None:
        for line in self._text(self._cgroup / file).splitlines():
            name, _, value = line.partition(" ")
            if name == key and value.isdecimal():
                return float(value)
        return None

    @staticmethod
    def _text(path: Path) -> str:
        try:
            return path.read_text().strip()
        except OSError:
            return ""
