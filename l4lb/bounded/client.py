"""An HTTP/1.1 client for untrusted servers: small, without redirects, cookies, compression or proxies.

A response is read in pieces of bounded size, and other tasks run between two pieces, so a server that sends as fast as
it can does not hold the event loop. The caller sets the deadlines: leaving a `request` closes what it opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import cast

from l4lb.base.threads import SerialThread, in_thread
from l4lb.bounded.response import ResponseError, ResponseParser
from l4lb.bounded.url import Url
from l4lb.engine.api import SocketAddress
from l4lb.net import connection as net
from l4lb.net.connection import Connection, connected, tls_error_text
from l4lb.net.interfaces import known_to_peers
from l4lb.net.target import Target

CONNECT_PATIENCE = 2.0
"""Seconds for each address of a name before the next one is tried."""

ADDRESSES_MAX = 16

BURST = 16
"""Pieces of a response that are read without a pause: a quarter of a MiB, if they are large."""

PAUSE = 0.001
"""Seconds before each further piece: 16 MiB a second at most, and little CPU time for small pieces."""

Sources = tuple[str, ...]
"""IP addresses to connect from; empty means any."""

Origin = tuple[bool, str, int, Sources]


@dataclass(slots=True)
class _Link:
    """An open connection; closing `stack` closes it. `expiry` closes a connection that stayed unused."""

    connection: Connection
    stack: contextlib.AsyncExitStack
    expiry: asyncio.TimerHandle | None = None


class Response:
    """The head of a response, and its body as it arrives."""

    def __init__(self, connection: Connection, answer: ResponseParser) -> None:
        self._connection = connection
        self.answer = answer
        self._body = b""
        self._received = 0

    @property
    def status(self) -> int:
        return self.answer.status

    def header(self, name: str) -> str | None:
        return self.answer.headers.get(name.lower())

    async def begin(self) -> None:
        """Wait for the head."""
        while not self.answer.status:
            self._body += await self._receive()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body in pieces, as it arrives. ResponseError if it ends too early."""
        piece, self._body = self._body, b""
        if piece:
            yield piece
        while not self.answer.ended:
            if piece := await self._receive():
                yield piece

    async def read(self, most: int) -> bytes:
        """The whole body. ResponseError if it is larger than `most` bytes."""
        body = bytearray()
        async for piece in self.pieces():
            body += piece
            if len(body) > most:
                raise ResponseError(f"the response is larger than {most // 2**20} MiB")
        return bytes(body)

    async def _receive(self) -> bytes:
        # sock_recv tries to read before it waits, so a fast server would never let other tasks run.
        self._received += 1
        await asyncio.sleep(0 if self._received <= BURST else PAUSE)
        with _tls_in_words():
            data = await self._connection.receive()
        if data:
            return self.answer.feed(data)
        self.answer.end()
        return b""


class Client:
    """Closes all its connections on `close`. `keep` is how many seconds a connection stays open for another request, at
    most one for each origin. `server_name` is the name that the certificate must have, if that is not the host. Invalid
    HTTP raises ResponseError, network errors raise OSError."""

    def __init__(self, tls: ssl.SSLContext | None = None, *, server_name: str | None = None, keep: float = 0.0) -> None:
        self._tls = tls
        self._files = SerialThread("reading the certificates that this host trusts")
        self._server_name = server_name
        self._keep = keep
        self._kept: dict[Origin, _Link] = {}

    async def close(self) -> None:
        while self._kept:
            _, link = self._kept.popitem()
            await self._closed(link)

    @contextlib.asynccontextmanager
    async def request(
        self, url: Url, headers: Mapping[str, str], *, method: str = "GET", body: bytes = b"", sources: Sources = ()
    ) -> AsyncIterator[Response]:
        """Send a request and wait for the head of the response."""
        message = _message(url, headers, method, body)
        link, response = await self._asked(url, sources, message)
        reusable = False
        try:
            yield response
            reusable = response.answer.reusable
        finally:
            if reusable and self._keep:
                self._put(_origin(url, sources), link)
            else:
                await link.stack.aclose()

    async def _asked(self, url: Url, sources: Sources, message: bytes) -> tuple[_Link, Response]:
        kept = self._take(_origin(url, sources))
        if kept is not None:
            response = Response(kept.connection, ResponseParser())
            try:
                return await self._ask(kept, response, message)
            except (OSError, ResponseError):
                # The server may have closed the idle connection; that says nothing about its health.
                if response.answer.begun:
                    raise
        link = await self._open(url, sources)
        return await self._ask(link, Response(link.connection, ResponseParser()), message)

    @staticmethod
    async def _ask(link: _Link, response: Response, message: bytes) -> tuple[_Link, Response]:
        try:
            await link.connection.send(message)
            await response.begin()
        except BaseException:
            await link.stack.aclose()
            raise
        return link, response

    # ---- connections -----------------------------------------------------------------------------------------------

    def _take(self, origin: Origin) -> _Link | None:
        link = self._kept.pop(origin, None)
        if link is not None and link.expiry is not None:
            link.expiry.cancel()
        return link

    def _put(self, origin: Origin, link: _Link) -> None:
        if (other := self._take(origin)) is not None:
            asyncio.get_running_loop().create_task(other.stack.aclose())
        self._kept[origin] = link
        link.expiry = asyncio.get_running_loop().call_later(self._keep, self._expire, origin, link)

    def _expire(self, origin: Origin, link: _Link) -> None:
        if self._kept.get(origin) is link:
            del self._kept[origin]
            asyncio.get_running_loop().create_task(link.stack.aclose())

    @staticmethod
    async def _closed(link: _Link) -> None:
        if link.expiry is not None:
            link.expiry.cancel()
        await link.stack.aclose()

    async def _open(self, url: Url, sources: Sources) -> _Link:
        """A connection to the first address that accepts."""
        if url.secure and self._tls is None:
            self._tls = await self._files.call(ssl.create_default_context)
        targets = [replace(target, sources=sources) for target in await _targets(url.host, url.port)]
        for target in targets[:-1]:
            with contextlib.suppress(OSError):
                async with asyncio.timeout(CONNECT_PATIENCE):
                    return await self._connect(target, url)
        return await self._connect(targets[-1], url)

    async def _connect(self, target: Target, url: Url) -> _Link:
        stack = contextlib.AsyncExitStack()
        context = self._tls if url.secure else None
        name = self._server_name or known_to_peers(url.host)
        with _tls_in_words():
            return _Link(await stack.enter_async_context(connected(target, "off", context, name)), stack)


@contextlib.contextmanager
def _tls_in_words() -> Iterator[None]:
    """Turn TLS errors into ResponseError: their errno values are not those of the system."""
    try:
        yield
    except ssl.SSLError as error:
        raise ResponseError(tls_error_text(error)) from error
    except net.ReplyError as error:
        raise ResponseError(str(error)) from error


def _origin(url: Url, sources: Sources) -> Origin:
    return url.secure, url.host, url.port, sources


def _message(url: Url, headers: Mapping[str, str], method: str, body: bytes) -> bytes:
    lines = {"Host": url.authority, "User-Agent": "l4lb", "Accept-Encoding": "identity", **headers}
    if url.credentials is not None:
        lines.setdefault("Authorization", url.credentials)
    if body:
        lines["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {url.target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


async def _targets(host: str, port: int) -> list[Target]:
    """The addresses of a host. OSError if it has none."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, host)
            return [Target(family, (host, port))]
    found = await in_thread("l4lb-name", socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    return [Target(family, cast(SocketAddress, address)) for family, _, _, _, address in found[:ADDRESSES_MAX]]
