"""Reaps orphans when l4lb is process 1 of a container.

Programs of exec checks leave children behind, which become children of process 1. If it did not reap them, zombies
would pile up until no process can be started.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from l4lb.base.tasks import repeat

REAP_INTERVAL = 1.0
"""Seconds between two looks. The code that starts a program reaps it itself, within milliseconds."""

_TASKS = Path("/proc/self/task")


class Orphans:
    """Reaps children that had ended by the last look already, because no code in this process waits for them."""

    def __init__(self) -> None:
        self._ended: set[int] = set()

    async def run(self) -> None:
        await repeat("reaping of orphans", REAP_INTERVAL, self._reap)

    async def _reap(self) -> None:
        self.look()

    def look(self) -> None:
        """Look at all children once."""
        ended = {pid for pid in _children() if _has_ended(pid)}
        for pid in ended & self._ended:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._ended = ended


def _children() -> Iterator[int]:
    for task in _TASKS.iterdir():
        # A thread may end meanwhile.
        with contextlib.suppress(OSError):
            yield from map(int, (task / "children").read_text().split())


def _has_ended(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False
