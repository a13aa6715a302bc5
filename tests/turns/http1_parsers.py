"""Where other parsers of HTTP/1 see messages: llhttp (Node, uvicorn) and h11 (Hypercorn, httpx).

They get a stream byte by byte, so that a message is known to end with the byte that made them say so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import h11
import httptools

SWITCHING_PROTOCOLS = 101


@dataclass(slots=True)
class Boundaries:
    """Heads and ends of messages, as (what, offset after the byte), and the offset from which on nothing is known."""

    found: list[tuple[str, int]] = field(default_factory=list)
    closes: list[bool] = field(default_factory=list)
    """Of each message that ended: whether the connection does then."""
    known_until: int = 0
    why: str = "the end"


class _Listener:
    def __init__(self) -> None:
        self.boundaries = Boundaries()
        self.keeps: Callable[[], bool] = lambda: True

    def on_headers_complete(self) -> None:
        self.boundaries.found.append(("head", self.boundaries.known_until))

    def on_message_complete(self) -> None:
        self.boundaries.found.append(("end", self.boundaries.known_until))
        self.boundaries.closes.append(not self.keeps())


def llhttp(stream: bytes, *, responses: bool) -> Boundaries:
    listener = _Listener()
    parser = (httptools.HttpResponseParser if responses else httptools.HttpRequestParser)(listener)
    listener.keeps = parser.should_keep_alive
    seen = listener.boundaries
    for at in range(len(stream)):
        seen.known_until = at + 1
        try:
            parser.feed_data(stream[at : at + 1])
        except httptools.HttpParserUpgrade:
            seen.why = "another protocol follows"
            return seen
        except httptools.HttpParserError as error:
            seen.why = str(error)
            return seen
        if responses and seen.found and parser.get_status_code() == SWITCHING_PROTOCOLS:
            seen.why = "another protocol follows"
            return seen
    return seen


def _answer(connection: h11.Connection) -> None:
    """As a server that upgrades nothing."""
    connection.send(h11.Response(status_code=404, headers=[("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())


def _ask(connection: h11.Connection, method: str) -> None:
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())


def _take_events(connection: h11.Connection, seen: Boundaries, next_cycle: Callable[[], bool]) -> bool:
    """False if nothing can follow."""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            return True
        if isinstance(event, h11.Request | h11.Response | h11.InformationalResponse):
            seen.found.append(("head", seen.known_until))
        if isinstance(event, h11.InformationalResponse):
            seen.found.append(("end", seen.known_until))
            seen.closes.append(False)
        if isinstance(event, h11.EndOfMessage):
            seen.found.append(("end", seen.known_until))
            seen.closes.append(not next_cycle())
            if seen.closes[-1]:
                seen.why = "the connection closes"
                return False
        if event is h11.PAUSED:
            seen.why = "paused"
            return False


def h11_reads(stream: bytes, *, responses: bool, to_head: bool = False) -> Boundaries:
    connection = h11.Connection(h11.CLIENT if responses else h11.SERVER)
    seen = Boundaries()

    def next_cycle() -> bool:
        if not responses:
            _answer(connection)
        if h11.MUST_CLOSE in connection.states.values():
            return False
        connection.start_next_cycle()
        if responses:
            _ask(connection, "HEAD" if to_head else "GET")
        return True

    if responses:
        _ask(connection, "HEAD" if to_head else "GET")
    for at in range(len(stream)):
        seen.known_until = at + 1
        try:
            connection.receive_data(stream[at : at + 1])
            if not _take_events(connection, seen, next_cycle):
                return seen
        except h11.RemoteProtocolError as error:
            seen.why = str(error)
            return seen
    return seen
