"""Writes lines to a file, pipe or terminal from a thread of its own, so that a blocked reader never stalls the caller.

Owner: any thread may `put`; only the writer's thread encodes, opens and writes. Lines that do not fit in the bounded
queue, or that the output refuses, are dropped and counted: losing log lines is always better than delaying a session.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import pwd
import select
import stat
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from l4lb.errors import StartError

_log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH = 256  # items encoded and written at once: large enough to spare system calls, small enough to lose
FILE_CHUNK = 1 << 20
# A pipe that polls writable takes this much without blocking (POSIX PIPE_BUF), even in blocking mode.
STREAM_CHUNK = select.PIPE_BUF


class Output:
    """A descriptor, or a file that is opened by path and can be opened again."""

    def __init__(self, target: int | str) -> None:
        self._path = target if isinstance(target, str) else None
        self._descriptor = target if isinstance(target, int) else -1
        self._chunk = STREAM_CHUNK

    def open(self) -> None:
        """Open the file, or examine the descriptor. After an OSError, an open file stays open."""
        descriptor = self._descriptor
        if self._path is not None:
            # Non-blocking, or opening a FIFO would wait for its reader.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
            descriptor = os.open(self._path, flags, 0o640)
        try:
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        except OSError:
            if self._path is not None:
                os.close(descriptor)
            raise
        self._chunk = FILE_CHUNK if regular else STREAM_CHUNK
        if self._path is not None:
            self.close()
        self._descriptor = descriptor

    def close(self) -> None:
        if self._path is not None and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def ready(self, wake: int, timeout: float | None) -> bool:
        """Wait until a write does not block, even if it fails; False if `wake` or the timeout comes first."""
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        poll.register(self._descriptor, select.POLLOUT)
        events = poll.poll(None if timeout is None else timeout * 1000)
        return any(descriptor == self._descriptor for descriptor, _ in events)

    def write(self, data: memoryview) -> int:
        if self._descriptor < 0:
            self.open()
        try:
            return os.write(self._descriptor, data[: self._chunk])
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            # The reader of a FIFO has gone; the next batch opens the FIFO for its next reader.
            self.close()
            raise

    @property
    def is_open(self) -> bool:
        return self._descriptor >= 0


class Writer(Generic[T]):
    """A queue of at most `capacity` items and the thread that turns them into lines.

    `target` is a descriptor, which stays the caller's, or a path. `encode` runs on the thread and returns bytes that
    end in a newline. `on_trouble` is called on the thread when the output starts to fail and when it works again.
    Raises StartError when the path cannot be opened.
    """

    def __init__(
        self,
        target: int | str,
        encode: Callable[[T], bytes],
        *,
        capacity: int,
        name: str,
        on_trouble: Callable[[str], None] | None = None,
    ) -> None:
        self._target = target
        self._output = Output(target)
        self._encode = encode
        self._capacity = capacity
        self._on_trouble = on_trouble
        self._items: deque[T] = deque()
        self._condition = threading.Condition()
        self._dropped_total = 0
        self._reopen_wanted = False
        self._close_deadline: float | None = None
        self._failing = False
        self._torn = False
        try:
            self._output.open()
        except OSError as error:
            # A FIFO without a reader, or a closed descriptor, may work later; a bad path is an error now.
            if isinstance(target, str) and not _is_fifo(target):
                raise StartError(f"cannot open log file {target}: {_reason(error)}") from error
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def dropped_total(self) -> int:
        """Items lost because the queue was full or the output refused them."""
        return self._dropped_total

    def put(self, items: Iterable[T]) -> None:
        """Queue the items that fit and drop the rest. Never waits for the output."""
        with self._condition:
            for item in items:
                if len(self._items) >= self._capacity or self._close_deadline is not None:
                    self._dropped_total += 1
                else:
                    self._items.append(item)
            self._condition.notify()

    def reopen(self) -> None:
        """Open the path again soon, as after a log rotation. Does nothing for a descriptor."""
        with self._condition:
            if isinstance(self._target, str) and self._close_deadline is None:
                self._reopen_wanted = True
                self._condition.notify()
                os.eventfd_write(self._wake, 1)

    def close(self, timeout: float = 2.0) -> None:
        """Write the queued items for at most `timeout` seconds, and end the thread. Idempotent."""
        with self._condition:
            if self._close_deadline is not None:
                return
            self._close_deadline = time.monotonic() + timeout
            self._condition.notify()
            os.eventfd_write(self._wake, 1)
        self._thread.join(timeout + 1.0)
        # A stopped terminal can block the write itself in spite of poll; the daemon thread is then abandoned.
        if not self._thread.is_alive():
            os.close(self._wake)

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._items and not self._reopen_wanted and self._close_deadline is None:
                    self._condition.wait()
                reopen, self._reopen_wanted = self._reopen_wanted, False
                closing = self._close_deadline is not None
                batch = [self._items.popleft() for _ in range(min(BATCH, len(self._items)))]
            try:
                if reopen:
                    self._reopen()
                if batch and self._time_left() == 0:
                    self._count_lost(len(batch))
                elif batch:
                    self._deliver(batch)
                elif closing:
                    break
            except Exception:
                # Without this thread there would be no log at all.
                self._count_lost(len(batch))
                self._unforeseen()
        self._output.close()

    def _reopen(self) -> None:
        try:
            self._output.open()
        except OSError as error:
            self._trouble(f"cannot reopen {self._name}: {error.strerror}; still writing to the file opened before")
        else:
            self._torn = False

    def _deliver(self, batch: list[T]) -> None:
        lines = self._encoded(batch)
        if not lines:
            return
        if self._torn:
            # The last write ended inside a line: end that line, so that only it is unreadable.
            lines[0] = b"\n" + lines[0]
        ends = list(itertools.accumulate(map(len, lines)))
        data = memoryview(b"".join(lines))
        written, error = self._write(data)
        lost = len(ends) - bisect_right(ends, written)
        if written:
            self._torn = lost > 0 and written not in ends
        self._count_lost(lost)
        if error is not None and not self._failing:
            self._failing = True
            self._trouble(f"cannot write {self._name}: {error.strerror}; lines are dropped until it works again")
        elif self._failing and not lost:
            self._failing = False
            self._trouble(f"{self._name} can be written again; {self._dropped_total} lines were dropped in all")

    def _encoded(self, batch: list[T]) -> list[bytes]:
        lines = []
        for item in batch:
            try:
                lines.append(self._encode(item))
            except Exception:
                self._count_lost(1)
                self._unforeseen()
        return lines

    def _unforeseen(self) -> None:
        # Not for the process log itself: each report of a lost line would be lost, and reported again.
        if self._on_trouble is not None:
            _log.exception("unexpected error in writing to %s; lines are lost", self._name)

    def _write(self, data: memoryview) -> tuple[int, OSError | None]:
        """The number of bytes written, and the error that stopped it early, if any."""
        written = 0
        try:
            while written < len(data):
                if not self._output.is_open or self._output.ready(self._wake, self._time_left()):
                    written += self._output.write(data[written:])
                elif self._should_give_up():
                    break
        except OSError as error:
            return written, error
        return written, None

    def _should_give_up(self) -> bool:
        """Whether to stop waiting for a blocked output: another one is wanted, or closing took too long."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        return self._reopen_wanted or self._time_left() == 0

    def _time_left(self) -> float | None:
        """Seconds until closing gives up; None while it is not being closed."""
        return None if self._close_deadline is None else max(0.0, self._close_deadline - time.monotonic())

    def _count_lost(self, lost: int) -> None:
        with self._condition:
            self._dropped_total += lost

    def _trouble(self, message: str) -> None:
        if self._on_trouble is not None:
            self._on_trouble(message)

    @property
    def _name(self) -> str:
        return self._target if isinstance(self._target, str) else f"descriptor {self._target}"


def _reason(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return (
            f"{error.strerror} for user {_user()}, which reopens it after each rotation; make its directory that user's"
        )
    return f"{error.strerror}; check its directory"


def _user() -> str:
    number = os.geteuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _is_fifo(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False
