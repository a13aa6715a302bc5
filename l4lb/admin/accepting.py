"""Accepts clients of the admin server, even if the process has no descriptors left.

Owns a few descriptors in reserve, which are given up one by one for clients that could not be accepted otherwise, and
taken back when clients leave. They are opened early, so their numbers are low: one may be used again even after the
limit was lowered at run time. Without any left, accepting rests, and clients wait in the queue.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable

RESERVE = 4
"""Descriptors for clients, and for files that a response reads, such as those of the process metrics."""

REST = 0.1
"""Seconds between two attempts while there are no descriptors."""

BURST = 16
"""Clients accepted in one iteration of the loop."""

_NONE_LEFT = (errno.EMFILE, errno.ENFILE)

_log = logging.getLogger(__name__)


class Reserve:
    """Spare descriptors, each open on /dev/null."""

    def __init__(self) -> None:
        self._descriptors: list[int] = []
        self.fill()

    def fill(self) -> None:
        """Open those that were given up, as far as possible."""
        try:
            while len(self._descriptors) < RESERVE:
                self._descriptors.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            pass

    def give_up(self) -> bool:
        """Close the lowest one to make room for a client; False if none is left."""
        if not self._descriptors:
            return False
        self._descriptors.sort(reverse=True)
        os.close(self._descriptors.pop())
        return True

    def close(self) -> None:
        while self.give_up():
            pass


class Acceptor:
    """Accepts clients from `listening`, which stays the caller's, and makes a protocol for each."""

    def __init__(
        self, listening: socket.socket, make_protocol: Callable[[], asyncio.Protocol], reserve: Reserve
    ) -> None:
        self._listening = listening
        self._make_protocol = make_protocol
        self._reserve = reserve
        self._loop = asyncio.get_running_loop()
        self._resting: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._watch()

    def close(self) -> None:
        """Idempotent."""
        if self._resting is not None:
            self._resting.cancel()
        elif self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening)
        self._resting = None

    def _watch(self) -> None:
        self._resting = None
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(BURST):
            try:
                sock, _ = self._listening.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _NONE_LEFT and self._reserve.give_up():
                    continue
                _log.warning("cannot accept a client of the admin server: %s", os.strerror(error.errno or 0))
                self._loop.remove_reader(self._listening)
                self._resting = self._loop.call_later(REST, self._watch)
                return
            task = self._loop.create_task(self._open(sock), name="admin client")
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        try:
            await self._loop.connect_accepted_socket(self._make_protocol, sock)
        except OSError:  # the client has gone
            sock.close()
