"""Clients that come and go, and clients that stay and stream, all the while something else happens.

A connection that streams may be closed between two exchanges when its backend or its balancer is drained, as one of
HTTP may be between a response and the next request. Within an exchange it may not.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable

from tests.helpers.patterns import pattern
from tests.helpers.peers import Address, Background, Peer, connect

CLIENTS = 3
PART = 4000
"""Bytes of one exchange of a stream."""


class Load:
    """Clients that connect, exchange and leave, and sessions that stream all the while, until told to stop."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._stop = threading.Event()
        self._numbers = itertools.count(100)
        self.exchanged = 0
        self.streamed = [0] * CLIENTS
        self._running = [Background(self._come_and_go) for _ in range(CLIENTS)]
        self._running += [Background(self._streamer(key)) for key in range(CLIENTS)]

    def _come_and_go(self) -> int:
        done = 0
        while not self._stop.is_set():
            data = pattern(next(self._numbers), 0, 1000)
            with connect(self._address) as client:
                client.send(data)
                assert client.receive(len(data)) == data
                client.finish()
                assert client.read_all() == b""
            done += 1
        return done

    def _streamer(self, key: int) -> Callable[[], int]:
        def stream() -> int:
            sessions = 0
            while not self._stop.is_set():
                sessions += 1
                with connect(self._address) as client:
                    while not self._stop.is_set() and self._exchange(client, key):
                        pass
            return sessions

        return stream

    def _exchange(self, client: Peer, key: int) -> bool:
        """False if the connection was closed before it."""
        offset = self.streamed[key]
        with contextlib.suppress(BrokenPipeError):
            client.send_pattern(key, PART, offset)
        first = client.sock.recv(PART)
        if not first:
            return False
        assert first == pattern(key, offset, len(first))
        client.receive_pattern(key, PART - len(first), offset + len(first))
        self.streamed[key] += PART
        return True

    def alive(self) -> bool:
        return all(one.running() for one in self._running)

    def stop(self) -> int:
        """End all of it; how many sessions there were. Fails if any client saw a fault."""
        self._stop.set()
        return sum(int(str(one.result())) for one in self._running)
