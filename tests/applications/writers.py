"""A client of a database that keeps count: what was acknowledged is to be found later, and no answer may be older."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from tests.helpers.waiting import wait_until

PAUSE = 0.02
"""Seconds between two attempts to connect."""


class Connection(Protocol):
    """A session with the database. Each call raises OSError when that is over, or the server refuses."""

    def write(self, number: int) -> None:
        """Store the number; returns once that is acknowledged."""

    def newest(self) -> int:
        """The largest number that is stored."""

    def close(self) -> None: ...


class Writer:
    """Writes one number after the other, and reads in between, through whatever connection it gets.

    `acknowledged` are the numbers whose writes succeeded since the last `begin_anew`, `stale` the reads since then that
    did not show the newest of them.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._running = threading.Event()
        self._running.set()
        self._number = 0
        self.acknowledged: list[int] = []
        self.stale: list[tuple[int, int]] = []
        self.sessions = 0
        self._thread = threading.Thread(target=self._work, daemon=True)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                connection = self._connect()
            except OSError:
                self._stop.wait(PAUSE)
                continue
            self.sessions += 1
            with contextlib.closing(connection), contextlib.suppress(OSError):
                while not self._stop.is_set():
                    self._running.wait()
                    self._step(connection)
            self._stop.wait(PAUSE)

    def _step(self, connection: Connection) -> None:
        with self._lock:
            self._number += 1
            connection.write(self._number)
            self.acknowledged.append(self._number)
            if (newest := connection.newest()) < self.acknowledged[-1]:
                self.stale.append((newest, self.acknowledged[-1]))

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is under way within the block."""
        self._running.clear()
        with self._lock:
            yield
        self._running.set()

    def begin_anew(self) -> None:
        """Forget what an earlier primary acknowledged: what it had not passed on yet may be gone with it."""
        with self._lock:
            self.acknowledged.clear()

    def wait_for_more(self, number: int = 20) -> None:
        """Until so many more writes are acknowledged."""
        seen = len(self.acknowledged)
        wait_until(
            lambda: len(self.acknowledged) >= seen + number, 60.0, what=lambda: f"{len(self.acknowledged)}, {seen}"
        )

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._running.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
