"""What a process holds: descriptors by type, threads, memory and CPU time; compared before and after."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.helpers.waiting import observe, wait_until


@dataclass(frozen=True, slots=True)
class Holdings:
    sockets: int
    pipes: int
    other: int
    threads: int


def descriptors(pid: int) -> Counter[str]:
    """Open descriptors by type: socket, pipe, other."""
    kinds: Counter[str] = Counter()
    for target in _targets(pid):
        kind = target.partition(":")[0]
        kinds[kind if kind in ("socket", "pipe") else "other"] += 1
    return kinds


def watches(pid: int) -> int:
    """How many inotify descriptors are open."""
    return sum("inotify" in target for target in _targets(pid))


def _targets(pid: int) -> Iterator[str]:
    """What each open descriptor leads to."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            yield os.readlink(entry)


def holdings(pid: int) -> Holdings:
    fds = descriptors(pid)
    return Holdings(fds["socket"], fds["pipe"], fds["other"], psutil.Process(pid).num_threads())


def resident_bytes(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


def cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def worker_cpu_seconds(pid: int) -> float:
    """CPU time of every thread except the main one, which is the control plane."""
    return sum(t.user_time + t.system_time for t in psutil.Process(pid).threads() if t.id != pid)


def assert_quiet(pid: int, seconds: float = 1.0, share: float = 0.05) -> None:
    """The native threads of `pid` use less than `share` of a core for `seconds`: nothing spins."""
    before = worker_cpu_seconds(pid)
    observe(seconds)
    used = worker_cpu_seconds(pid) - before
    # One clock tick is 10 ms, so a share below 2 % of a second cannot be told from none.
    assert used <= share * seconds + 0.02, (
        f"native threads used {used:.2f} s of CPU in {seconds:g} s with nothing to do"
    )


@contextmanager
def no_leak(pid: int, slack: int = 2) -> Iterator[None]:
    """Sockets and threads are back where they were on leaving; pipes may stay pooled, so they are only bounded."""
    before = holdings(pid)
    yield

    def back() -> bool:
        now = holdings(pid)
        return now.sockets <= before.sockets + slack and now.threads <= before.threads + 1

    wait_until(back, what=lambda: f"before {before}, now {holdings(pid)}")
