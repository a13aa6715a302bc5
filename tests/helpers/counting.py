"""Servers of HTTP/1.1 that count the requests they work on, as an engine with a batch of fixed size would.

A request begins when its last byte is read and ends before the last byte of its response is written, or when its
client is gone. A client is gone as soon as the kernel says so, which may be before the event loop does: so a request
that follows on another connection is never counted beside one whose end the balancer has passed on already.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from tests.helpers.peers import Address

_ESTABLISHED = 1
_HEAD_END = b"\r\n\r\n"


class Counted:
    """One server. `most` is the greatest number of requests that it worked on at once."""

    def __init__(self, name: str, seconds_most: float) -> None:
        self.name = name
        self.requests = 0
        self.abandoned = 0
        self.most = 0
        self.seconds_most = seconds_most
        self.connections: set[_Connection] = set()
        self._working: set[_Connection] = set()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)

    @property
    def address(self) -> Address:
        return cast(Address, self._socket.getsockname())

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Its connections are closed at the end, too."""
        async with await asyncio.get_running_loop().create_server(lambda: _Connection(self), sock=self._socket):
            try:
                yield
            finally:
                await asyncio.gather(*(connection.close() for connection in self.connections))

    def begin(self, connection: _Connection) -> None:
        for other in [each for each in self._working if each.client_is_gone()]:
            other.abandon()
        self._working.add(connection)
        self.requests += 1
        self.most = max(self.most, len(self._working))

    def end(self, connection: _Connection) -> None:
        self._working.discard(connection)


class _Connection(asyncio.Protocol):
    """Requests that come together are worked on one after the other."""

    def __init__(self, server: Counted) -> None:
        self._server = server
        self._received = bytearray()
        self._waiting: deque[bytes] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(_HEAD_END)) >= 0:
            self._waiting.append(bytes(self._received[: end + len(_HEAD_END)]))
            del self._received[: end + len(_HEAD_END)]
        if self._timer is None:
            self._next()

    def connection_lost(self, _error: Exception | None) -> None:
        self.abandon()
        self._server.connections.discard(self)
        self._lost.set_result(None)

    async def close(self) -> None:
        self._transport.abort()
        await self._lost

    def client_is_gone(self) -> bool:
        state = self._transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        return bool(state != _ESTABLISHED)

    def abandon(self) -> None:
        self._server.end(self)
        if self._timer is not None:
            self._timer.cancel()
            self._server.abandoned += 1
            self._timer = None
        self._waiting.clear()
        self._transport.abort()

    def _next(self) -> None:
        if self.client_is_gone():
            self.abandon()
        elif self._waiting:
            self._server.begin(self)
            pause = random.uniform(0, self._server.seconds_most)
            self._timer = asyncio.get_running_loop().call_later(pause, self._respond, self._waiting.popleft())

    def _respond(self, request: bytes) -> None:
        """The response names the path that was asked for."""
        self._timer = None
        self._server.end(self)
        body = request.split(b" ", 2)[1]
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        self._next()
