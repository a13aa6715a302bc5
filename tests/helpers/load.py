"""Clients that come and go, and clients that stay and stream, all the while something else happens."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

from tests.helpers.patterns import pattern
from tests.helpers.peers import Address, Background, connect

CLIENTS = 3


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
            with connect(self._address) as client:
                while not self._stop.is_set():
                    offset = self.streamed[key]
                    client.send_pattern(key, 4000, offset)
                    client.receive_pattern(key, 4000, offset)
                    self.streamed[key] += 4000
            return 1

        return stream

    def alive(self) -> bool:
        return all(one.running() for one in self._running)

    def stop(self) -> int:
        """End all of it; how many sessions there were. Fails if any client saw a fault."""
        self._stop.set()
        return sum(int(str(one.result())) for one in self._running)
