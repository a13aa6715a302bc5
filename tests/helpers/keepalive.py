"""A protocol of requests and responses on connections that stay open, whose clients count every byte.

A request says which bytes of which pattern it wants; the response is these bytes and nothing else. So a client knows a
byte that was lost, doubled, reordered, or that belongs to another client. As with HTTP keep-alive, a connection may be
closed between a response and the next request: the client then repeats the request on a new one. A connection that is
closed within a response, or reset at all, is a fault.
"""

from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.helpers.patterns import Checker, pattern
from tests.helpers.peers import Address, Background, Peer, connect
from tests.helpers.waiting import wait_until

_REQUEST = struct.Struct("!QQQ136x")
"""Key, offset and length, in as many bytes as a small request of HTTP has."""

CHUNK = 1 << 16
PATIENCE = 60.0
"""Seconds that a step of a client may take. Not what is tested: the machine may be busy."""


def respond(peer: Peer) -> None:
    """Serve one connection."""
    while request := peer.sock.recv(_REQUEST.size):
        request += peer.receive(_REQUEST.size - len(request)) if len(request) < _REQUEST.size else b""
        key, offset, length = _REQUEST.unpack(request)
        while length > 0:
            size = min(CHUNK, length)
            peer.send(pattern(key, offset, size))
            offset, length = offset + size, length - size


@dataclass(frozen=True, slots=True)
class Habit:
    """How a client asks and reads.

    length: bytes of each response.
    receive_buffer: of its socket; None leaves it to the kernel.
    step: bytes that it reads at a time.
    pause: seconds between two such reads.
    late: seconds before the first one.
    think: seconds between a response and the next request.
    """

    length: int
    receive_buffer: int | None = None
    step: int = CHUNK
    pause: float = 0
    late: float = 0
    think: float = 0


BUSY = Habit(length=2000)
THINKING = Habit(length=20_000, think=0.3)
BULK = Habit(length=1 << 20, think=0.2)
SLOW = Habit(length=1 << 20, receive_buffer=1 << 14, step=1 << 14, pause=0.01)
LATE = Habit(length=3 << 20, receive_buffer=1 << 16, late=1.6)


@dataclass
class Client:
    """Asks until it is told to stop. `run` fails at the first byte that is wrong or missing, and at a reset."""

    address: Address
    key: int
    habit: Habit
    stop: threading.Event
    requests: int = 0
    repeated: int = 0
    """Requests that met a connection that was being closed."""
    received: int = 0
    _peer: Peer | None = field(default=None, repr=False)

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                self._request()
                self.stop.wait(self.habit.think)
        finally:
            self._leave()

    def _request(self) -> None:
        wait_until(self._exchange, PATIENCE)
        self.requests += 1

    def _exchange(self) -> bool:
        """One request. False if the connection was closed before anything of its response came."""
        if self._peer is None:
            self._peer = connect(self.address, receive_buffer=self.habit.receive_buffer, deadline=PATIENCE)
        # A peer that has closed its end gracefully takes the request and answers nothing.
        with contextlib.suppress(BrokenPipeError):
            self._peer.send(_REQUEST.pack(self.key, self.received, self.habit.length))
        if self.habit.late:
            self.stop.wait(self.habit.late)
        if self._read(self._peer):
            return True
        self.repeated += 1
        self._leave()
        return False

    def _read(self, peer: Peer) -> bool:
        """All of a response, or nothing of it."""
        checker = Checker(self.key)
        checker.count = self.received
        end = self.received + self.habit.length
        while checker.count < end:
            data = peer.sock.recv(min(self.habit.step, end - checker.count))
            if not data:
                came = checker.count - self.received
                assert came == 0, (
                    f"client {self.key}: the connection was closed after {came} of {self.habit.length} bytes"
                )
                return False
            checker.feed(data)
            if self.habit.pause:
                self.stop.wait(self.habit.pause)
        self.received = end
        return True

    def _leave(self) -> None:
        if self._peer is not None:
            self._peer.close()
            self._peer = None


class Crowd:
    """Clients of several habits, each on a thread of its own."""

    def __init__(self, address: Address, *habits: Habit) -> None:
        self.stop = threading.Event()
        self.clients = [Client(address, key, habit, self.stop) for key, habit in enumerate(habits, start=1)]
        self._running = [Background(client.run) for client in self.clients]

    def check(self) -> None:
        """Fail now if a client has ended with a fault."""
        for running in self._running:
            if not running.running():
                running.result()

    def finish(self) -> None:
        self.stop.set()
        for running in self._running:
            running.result(2 * PATIENCE)


@contextlib.contextmanager
def crowd(address: Address, *habits: Habit) -> Iterator[Crowd]:
    clients = Crowd(address, *habits)
    try:
        yield clients
    except BaseException:
        clients.stop.set()
        raise
    clients.finish()


def repeat(action: Callable[[], None], stop: threading.Event) -> Background:
    """Do `action` again and again on a thread until told to stop; its first failure is the result."""

    def run() -> None:
        while not stop.is_set():
            action()

    return Background(run)
