"""Servers that answer scrapes and agent checks as a test wants them to."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable

from tests.helpers.loops import turns
from tests.helpers.peers import Peer, Served


@contextlib.asynccontextmanager
async def answering(answer: Callable[[bytes], bytes | None]) -> AsyncIterator[tuple[str, int]]:
    """A server whose connections get `answer` to the head of each request; None is silence."""
    open_now: set[asyncio.StreamWriter] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                reply = answer(await reader.readuntil(b"\r\n\r\n"))
                if reply is not None:
                    writer.write(reply)
                    await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield host, port
    finally:
        server.close()
        for writer in open_now:
            writer.close()
        await server.wait_closed()
        await turns()


def http(body: str | bytes, status: str = "200 OK", headers: str = "") -> bytes:
    data = body.encode() if isinstance(body, str) else body
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n{headers}\r\n".encode() + data


class ModelServer(Served):
    """Names itself to its clients, and answers `GET` with the metrics it is given."""

    def __init__(self, name: str, metrics: str = "") -> None:
        self.metrics = metrics
        self.hanging = threading.Event()

        def handle(peer: Peer) -> None:
            peer.sock.settimeout(0.3)
            with contextlib.suppress(TimeoutError):
                while peer.sock.recv(4096).startswith(b"GET "):
                    peer.sock.settimeout(60)
                    if self.hanging.is_set():
                        continue
                    peer.send(http(self.metrics))
                return
            peer.sock.settimeout(60)
            peer.send(name.encode() + b"\n")
            peer.drain()

        super().__init__(handle)


class AgentStandIn(Served):
    """Answers each connection with the line it is given, as an agent does; None says nothing."""

    def __init__(self, line: str | None = "up 100%") -> None:
        self.line = line

        def handle(peer: Peer) -> None:
            if self.line is not None:
                peer.send(self.line.encode() + b"\n")

        super().__init__(handle)
