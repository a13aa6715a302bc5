"""One connection of a check, in the clear or through TLS: lean, because thousands are made each second.

It is closed with a reset: checks would fill the table of sockets in TIME_WAIT.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Mapping

from l4lb.engine.api import SocketAddress
from l4lb.health.probes.base import AnswerError, SendProxy, Target

CHUNK = 16384

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

PROXY_LOCAL: Mapping[SendProxy, bytes] = {
    "off": b"",
    "v1": b"PROXY UNKNOWN\r\n",
    "v2": b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00",
}
"""Headers that say: this connection is the proxy's own (PROXY protocol, 2.1 and 2.2)."""


class Connection:
    """Whoever makes it closes the socket. `receive` is empty at the end of the stream."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None

    async def start_tls(self, context: ssl.SSLContext, server_name: str | None) -> None:
        """Shake hands; ssl.SSLError says what is wrong with the peer."""
        tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            else:
                break
        await self._flush()
        self._tls = tls

    @property
    def protocol(self) -> str | None:
        """What was agreed upon by ALPN."""
        return None if self._tls is None else self._tls.selected_alpn_protocol()

    async def send(self, data: bytes) -> None:
        if self._tls is None:
            await self._loop.sock_sendall(self._sock, data)
        else:
            self._tls.write(data)
            await self._flush()

    async def receive(self) -> bytes:
        if self._tls is None:
            return await self._loop.sock_recv(self._sock, CHUNK)
        while True:
            try:
                return self._tls.read(CHUNK)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            await self._loop.sock_sendall(self._sock, data)

    async def _feed(self) -> None:
        if data := await self._loop.sock_recv(self._sock, CHUNK):
            self._incoming.write(data)
        elif self._tls is None:
            raise AnswerError("the connection ended in the TLS handshake")
        else:
            self._incoming.write_eof()


async def _connect(sock: socket.socket, address: SocketAddress) -> None:
    """What the loop's sock_connect does, for half its price."""
    error = sock.connect_ex(address)
    if error == errno.EINPROGRESS:
        loop = asyncio.get_running_loop()
        writable = loop.create_future()
        loop.add_writer(sock.fileno(), _wake, writable)
        try:
            await writable
        finally:
            loop.remove_writer(sock.fileno())
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error != 0:
        raise OSError(error, os.strerror(error))


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@contextlib.asynccontextmanager
async def connected(
    target: Target, send_proxy: SendProxy, context: ssl.SSLContext | None = None, server_name: str | None = None
) -> AsyncIterator[Connection]:
    """A connection to `target`, ready for what is to be asked."""
    with socket.socket(target.family, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        await _connect(sock, target.address)
        connection = Connection(sock)
        if header := PROXY_LOCAL[send_proxy]:
            await connection.send(header)
        if context is not None:
            await connection.start_tls(context, server_name)
        yield connection
