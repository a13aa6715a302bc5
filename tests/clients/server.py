"""An HTTP server that keeps books: KIND HOST PORT NAME BOOKS [KEEPALIVE]. KIND: httptools or h11 (uvicorn), or aiohttp.

It appends a line to BOOKS when it has the head of a request: which connection it came on, whose it is, and how many are
in flight with it. Requests to /hold are held until SIGUSR1. Fields that change with time are left out or fixed, so two
responses to the same request are equal byte for byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from aiohttp import web
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tests.clients.messages import Ask, asked, head_line, piece

PIECE_SECONDS = 0.002
WORK_SECONDS = 0.001

Fields = dict[str, str]


class Books:
    """What a server notes, readable while it runs and after it was killed."""

    def __init__(self, path: str, server: str) -> None:
        self.server = server
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._in_flight = 0

    @contextlib.contextmanager
    def request(self, ask: Ask, connection: int) -> Iterator[None]:
        self._in_flight += 1
        line = {
            "process": os.getpid(),
            "connection": connection,
            "client": ask.client,
            "number": ask.number,
            "method": ask.method,
            "path": ask.path,
            "in_flight": self._in_flight,
        }
        os.write(self._file, json.dumps(line).encode() + b"\n")
        try:
            yield
        finally:
            self._in_flight -= 1


class Site:
    """What every kind of server responds."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self._released = asyncio.Event()

    def release(self) -> None:
        """Respond to the requests that are held, and hold no other."""
        self._released.set()

    async def respond(self, ask: Ask, body: bytes) -> tuple[int, Fields, AsyncIterator[bytes]]:
        """Status, fields and body. Only a response with `content-length` has a length."""
        whole = head_line(self.books.server, ask) + (body if ask.method in ("POST", "PUT") else ask.filler)
        match ask.path:
            case "/stream":
                return 200, {"content-type": "text/event-stream"}, self._events(ask)
            case "/chunked":
                return 200, {}, _pieces(whole)
            case "/gzip":
                whole = gzip.compress(whole, mtime=0)
                return 200, {"content-encoding": "gzip", "content-length": str(len(whole))}, _pieces(whole)
            case "/nothing":
                return 204, {}, _pieces(b"")
            case "/unchanged":
                return 304, {"etag": '"1"'}, _pieces(b"")
            case "/last":
                return 200, {"connection": "close", "content-length": str(len(whole))}, _pieces(whole)
            case "/busy":
                return 503, {"content-length": str(len(whole))}, _pieces(whole)
            case "/work":
                await asyncio.sleep(WORK_SECONDS)
            case "/hold":
                await self._released.wait()
        return 200, {"content-length": str(len(whole))}, _pieces(whole)

    async def _events(self, ask: Ask) -> AsyncIterator[bytes]:
        yield b"data: " + self.books.server.encode() + b"\n\n"
        for index in range(ask.size):
            await asyncio.sleep(PIECE_SECONDS)
            yield piece(ask.client, ask.number, index)


async def _pieces(whole: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(whole), 1 << 16):
        yield whole[start : start + (1 << 16)]


# -- uvicorn ----------------------------------------------------------------------------------------------------

_connections = itertools.count(1)


class _Numbered:
    """Each connection tells its number to the requests that come on it."""

    app_state: dict[str, Any]

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)  # type: ignore[misc]
        self.app_state = self.app_state | {"connection": next(_connections)}


class NumberedHttpTools(_Numbered, HttpToolsProtocol):  # type: ignore[misc]
    pass


class NumberedH11(_Numbered, H11Protocol):  # type: ignore[misc]
    pass


class Application:
    """The site as an ASGI application. It counts a request as over before the loop can read the next one."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await _chat(receive, send)
            return
        ask = asked(scope["method"], f"{scope['path']}?{scope['query_string'].decode()}")
        if ask.path == "/health":
            await _send(send, 200, {"content-length": "0"}, _pieces(b""))
            return
        with self._site.books.request(ask, scope["state"]["connection"]):
            if ask.path == "/refuse":
                await _send(send, 413, {"content-length": "0"}, _pieces(b""))
                return
            status, fields, body = await self._site.respond(ask, await _receive(receive))
            await _send(send, status, fields, body)


async def _receive(receive: Any) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def _send(send: Any, status: int, fields: Fields, body: AsyncIterator[bytes]) -> None:
    headers = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    async for part in body:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _chat(receive: Any, send: Any) -> None:
    """Accept a WebSocket and send back each text until the client closes."""
    while (message := await receive())["type"] != "websocket.disconnect":
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "websocket.send", "text": message["text"]})


async def serve_uvicorn(site: Site, kind: str, host: str, port: int, keepalive: float) -> None:
    protocol = NumberedH11 if kind == "h11" else NumberedHttpTools
    config = uvicorn.Config(
        Application(site),
        host,
        port,
        http=protocol,  # type: ignore[arg-type]
        log_level="error",
        lifespan="off",
        backlog=1024,
        date_header=False,
        server_header=False,
        timeout_keep_alive=keepalive,  # type: ignore[arg-type]
        timeout_graceful_shutdown=1,
    )
    await uvicorn.Server(config).serve()


# -- aiohttp ----------------------------------------------------------------------------------------------------


class Handler:
    """The site as a handler of aiohttp."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._numbers: dict[int, int] = {}
        self._kept: list[Any] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        ask = asked(request.method, request.raw_path)
        if ask.path == "/health":
            return web.Response()
        if ask.path == "/ws":
            return await self._chat(request)
        with self._site.books.request(ask, self._connection(request)):
            if ask.path == "/refuse":
                return await self._send(request, 413, {"content-length": "0"}, _pieces(b""))
            status, fields, body = await self._site.respond(ask, await request.read())
            return await self._send(request, status, fields, body)

    def _connection(self, request: web.Request) -> int:
        """The protocol of each connection is kept, so that no other gets its identity."""
        protocol = request.protocol
        if id(protocol) not in self._numbers:
            self._numbers[id(protocol)] = next(_connections)
            self._kept.append(protocol)
        return self._numbers[id(protocol)]

    async def _send(
        self, request: web.Request, status: int, fields: Fields, body: AsyncIterator[bytes]
    ) -> web.StreamResponse:
        fixed = {"date": "Thu, 01 Jan 1970 00:00:00 GMT", "server": "aiohttp", "content-type": "text/plain"}
        response = web.StreamResponse(status=status, headers=fixed | fields)
        if "connection" in fields:
            response.force_close()
        await response.prepare(request)
        async for part in body:
            if request.method != "HEAD":
                await response.write(part)
        await response.write_eof()
        return response

    async def _chat(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket


async def serve_aiohttp(site: Site, host: str, port: int, keepalive: float) -> None:
    application = web.Application(client_max_size=1 << 30)
    application.router.add_route("*", "/{path:.*}", Handler(site))
    runner = web.AppRunner(application, access_log=None, keepalive_timeout=keepalive, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, host, port, backlog=1024).start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await runner.cleanup()


async def main(kind: str, host: str, port: str, name: str, books: str, keepalive: str = "600") -> None:
    site = Site(Books(books, name))
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, site.release)
    if kind == "aiohttp":
        await serve_aiohttp(site, host, int(port), float(keepalive))
    else:
        await serve_uvicorn(site, kind, host, int(port), float(keepalive))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
