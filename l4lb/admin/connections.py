"""Bounds what an HTTP client can hold: the number of connections to a socket, and the time each may take.

aiohttp bounds sizes (request line, headers, body), but not the time to send a request or to read a response.
A `ConnectionGuard` stands between the transport and aiohttp's protocol and aborts connections that pass their deadline.
The deadline moves when a request has arrived and when its handler is done. Bytes of the client never move it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import cast

REQUEST_TIMEOUT = 10.0  # seconds for a complete request head, since the connection or the last response
HANDLER_TIMEOUT = 120.0  # a reload may resolve names and probe
ANSWER_TIMEOUT = 60.0  # to read the response and send the next request
HALF_CLOSED_TIMEOUT = 1.0  # for the rest of the bytes that a client sent before it closed its side

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class ConnectionLimits:
    """The rules for the clients of one socket: their rights, and their number, in all and from one address.

    If the socket is full, a new client takes the place of the one that has been idle longest, so that clients that only
    hold connections keep no other out. `on_lost` is called when a connection ends.
    """

    name: str
    may_change: bool
    connections_max: int
    of_one_max: int
    on_lost: Callable[[], object]
    guards: dict[asyncio.Transport, ConnectionGuard] = field(default_factory=dict)

    def make_room(self, source: str) -> bool:
        """Whether there is room for another client from `source` now."""
        by_source: dict[str, list[ConnectionGuard]] = {source: []}
        for guard in self.guards.values():
            by_source.setdefault(guard.source, []).append(guard)
        if len(by_source[source]) >= self.of_one_max:
            return _close_one(by_source[source])
        if len(self.guards) < self.connections_max:
            return True
        return any(_close_one(guards) for guards in sorted(by_source.values(), key=len, reverse=True))


def _close_one(guards: Iterable[ConnectionGuard]) -> bool:
    """Close the connection that has waited longest for a request; False if all have one."""
    waiting = [guard for guard in guards if not guard.answers]
    if waiting:
        min(waiting, key=lambda guard: guard.waits_since).abort()
    return bool(waiting)


class ConnectionGuard(asyncio.Protocol):
    """Passes everything on to `inner`, within the limits.

    Request handlers call `begins` and `done`. `idle` is true between two requests, but not before the first; `answers`
    is true during a request. With `leaving`, the connection ends after the next response.
    """

    def __init__(self, door: ConnectionLimits, make_inner: Callable[[], asyncio.Protocol]) -> None:
        self.door = door
        self._make_inner = make_inner
        self._inner: asyncio.Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._spoken = False
        self.source = ""
        self.waits_since = 0.0
        self.idle = False
        self.answers = False
        self.leaving = False

    def begins(self) -> None:
        """A handler starts on a request."""
        self.idle, self.answers = False, True
        self.set_deadline(HANDLER_TIMEOUT)

    def done(self) -> None:
        """The handler is done; its response is being sent."""
        self.idle, self.answers = True, False
        self.waits_since = asyncio.get_running_loop().time()
        self.set_deadline(ANSWER_TIMEOUT)

    def abort(self) -> None:
        """Close the connection at once."""
        assert self._transport is not None
        self.door.guards.pop(self._transport, None)
        self._transport.abort()

    def leave(self) -> None:
        """Close the connection as soon as no response is lost by it."""
        self.leaving = True
        if self.idle and self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's.
        self._transport = transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.source = str(peer[0]) if isinstance(peer, tuple) else ""
        self.waits_since = asyncio.get_running_loop().time()
        if not self.door.make_room(self.source):
            _log.warning("the %s is full: all connections wait for a response; closing new ones", self.door.name)
            transport.write(_FULL)
            transport.close()
            self.set_deadline(REQUEST_TIMEOUT)
            return
        self.door.guards[transport] = self
        self.set_deadline(REQUEST_TIMEOUT)
        self._inner = self._make_inner()
        self._inner.connection_made(transport)

    def set_deadline(self, seconds: float) -> None:
        """Abort the connection `seconds` from now unless the deadline moves again."""
        if self._timer is not None:
            self._timer.cancel()
        assert self._transport is not None
        self._timer = asyncio.get_running_loop().call_later(seconds, self._transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        assert self._transport is not None
        self.door.guards.pop(self._transport, None)
        if self._inner is not None:
            self._inner.connection_lost(exc)
        # The descriptor is closed right after this.
        asyncio.get_running_loop().call_soon(self.door.on_lost)

    def data_received(self, data: bytes) -> None:
        self._spoken = True
        if self._inner is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """A client that closes its side after the request, as `nc` does, still gets its response."""
        if self._inner is None or self.idle or not self._spoken:
            return None
        self._inner.eof_received()
        self.leaving = True
        self.set_deadline(HALF_CLOSED_TIMEOUT)
        return True

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()


def _full_answer() -> bytes:
    body = json.dumps({"error": "too many connections to the admin server; close some or try again later"}).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


_FULL = _full_answer()
