"""CPU time and memory of a process tree and of the system, as the kernel counts them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
# Columns of /proc/stat that count as busy: user, nice, system, irq, softirq.
_BUSY = (1, 2, 3, 6, 7)


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    pids = [pid]
    for parent in pids:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            pids += [int(child) for child in children.read_text().split()]
    return pids


def _thread_times(pids: Iterable[int]) -> dict[int, int]:
    """Nanoseconds on a CPU, by thread. `schedstat` is exact; utime and stime count ticks."""
    times: dict[int, int] = {}
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            times[int(task.name)] = int((task / "schedstat").read_text().split()[0])
    return times


def _system_busy(cpus: Iterable[int]) -> int:
    """Nanoseconds in which these CPUs were busy, interrupts included; counted in ticks."""
    names = {f"cpu{cpu}" for cpu in cpus}
    rows = (line.split() for line in Path("/proc/stat").read_text().splitlines())
    return sum(int(row[column]) for row in rows if row[0] in names for column in _BUSY) * _TICK_NS


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: resident and proportional sets of a process tree, and the kernel's slabs, which hold sockets and files."""

    rss: int
    pss: int
    kernel: int


def memory(pid: int | None) -> Memory:
    """Without a process, only the kernel's part."""
    rss = pss = 0
    for member in tree(pid) if pid is not None else []:
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "Rss":
                rss += int(value.split()[0]) * 1024
            elif name == "Pss":
                pss += int(value.split()[0]) * 1024
    return Memory(rss=rss, pss=pss, kernel=_slab())


def _slab() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Slab:"):
            return int(line.split()[1]) * 1024
    return 0


def time_waits() -> int:
    """Sockets in TIME_WAIT."""
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        words = line.split()
        if words[0] == "TCP:":
            return int(words[words.index("tw") + 1])
    return 0


@dataclass(frozen=True, slots=True)
class Moment:
    """CPU time so far, in nanoseconds: by thread of the subject and of the load's two processes, and of the CPUs."""

    subject: dict[int, int]
    load: dict[int, int]
    system: int

    @classmethod
    def now(cls, subject: int | None, load: Iterable[int], cpus: Iterable[int]) -> Moment:
        return cls(
            subject=_thread_times(tree(subject)) if subject is not None else {},
            load=_thread_times(load),
            system=_system_busy(cpus),
        )


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU time between two moments, in nanoseconds: the subject's, the subject's with the load's, and the CPUs'."""

    subject: int
    processes: int
    system: int

    @classmethod
    def between(cls, before: Moment, after: Moment) -> Cost:
        subject = _spent(before.subject, after.subject)
        return cls(
            subject=subject,
            processes=subject + _spent(before.load, after.load),
            system=after.system - before.system,
        )


def _spent(before: dict[int, int], after: dict[int, int]) -> int:
    return sum(time - before.get(thread, 0) for thread, time in after.items())
