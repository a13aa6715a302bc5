"""A connection for a health check, plain or TLS. Lean, because thousands are made each second.

How a connection ends: servers log resets, so a check that got its reply ends politely. A peer that is about to close
gets a moment to do so, and then a FIN. Any other peer gets a FIN with a reset right behind it: it reads the end of the
stream, and no socket stays in TIME_WAIT on this host. A check without a reply just resets the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Literal

from l4lb.engine.api import SocketAddress
from l4lb.net.dial import come_from, dial, reset_on_close
from l4lb.net.target import Target

CHUNK = 16384

PARTING = 0.05
"""Seconds that a peer has to close its end after its reply."""

REST_MAX = 65536
"""Bytes that are read and discarded: after a reply, or before a request."""

_FIN_ON_CLOSE = struct.pack("ii", 0, 0)

SendProxy = Literal["off", "v1", "v2"]

PROXY_LOCAL: Mapping[SendProxy, bytes] = {
    "off": b"",
    "v1": b"PROXY UNKNOWN\r\n",
    "v2": b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00",
}
"""Headers that mark a connection as the proxy's own (PROXY protocol, 2.1 and 2.2)."""


class ReplyError(Exception):
    """The reply is malformed, incomplete or too large. `str()` is one line."""


class Connection:
    """The caller owns the socket and closes it. `receive` returns b"" at the end of the stream.

    Three fields describe what the check is waiting for, for error messages: `question` is what was sent, `expected` the
    reply that should come, `heard` the bytes that came and are not consumed yet. `farewell` is sent last.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.question = ""
        self.expected = ""
        self.heard = bytearray()
        self.farewell = b""
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None

    async def open(
        self,
        address: SocketAddress,
        send_proxy: SendProxy,
        context: ssl.SSLContext | None = None,
        server_name: str | None = None,
    ) -> None:
        """Connect, send the PROXY header and set up TLS as requested."""
        await dial(self._sock, address)
        if header := PROXY_LOCAL[send_proxy]:
            await self.send(header)
        if context is not None:
            await self.start_tls(context, server_name)

    async def start_tls(self, context: ssl.SSLContext, server_name: str | None) -> None:
        """Perform the TLS handshake. ssl.SSLError describes what is wrong with the peer."""
        self.question, self.expected = "the TLS handshake", ""
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
        self._tls, self.question = tls, ""

    @property
    def protocol(self) -> str | None:
        """The protocol negotiated by ALPN."""
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

    def forget(self) -> None:
        """Discard everything received so far: it cannot be the reply to the next request."""
        self.heard.clear()
        for _ in range(REST_MAX // CHUNK):
            try:
                data = self._sock.recv(CHUNK)
            except BlockingIOError:
                return
            if self._tls is not None:
                self._decrypt_and_drop(self._tls, data)
            if not data:
                return
        raise ReplyError("it keeps sending before a request")

    def _decrypt_and_drop(self, tls: ssl.SSLObject, data: bytes) -> None:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError, ssl.SSLEOFError):
            while tls.read(CHUNK):
                pass

    async def leave(self, *, peer_closes: bool) -> None:
        """End the connection after a reply. Errors no longer matter.

        `peer_closes` says that the peer will close its end by itself, as it does after a `farewell`.
        """
        with contextlib.suppress(OSError, ssl.SSLError):
            if self.farewell:
                await self.send(self.farewell)
            if (peer_closes or self.farewell) and await self._sees_the_end():
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _FIN_ON_CLOSE)
                return
            if self._tls is not None:
                with contextlib.suppress(ssl.SSLError):
                    self._tls.unwrap()
                await self._flush()
            self._sock.shutdown(socket.SHUT_WR)

    async def _sees_the_end(self) -> bool:
        """Whether the peer ends the stream soon, after at most a few more bytes."""
        over, left = self._loop.time() + PARTING, REST_MAX
        while left > 0:
            try:
                data = self._sock.recv(CHUNK)
            except BlockingIOError:
                if not await self._readable(over):
                    return False
                continue
            if not data:
                return True
            left -= len(data)
        return False

    async def _readable(self, over: float) -> bool:
        """Whether there is something to read before that time. asyncio.timeout costs several times as much."""
        ready: asyncio.Future[bool] = self._loop.create_future()
        timer = self._loop.call_at(over, _settle, ready, False)
        self._loop.add_reader(self._sock.fileno(), _settle, ready, True)
        try:
            return await ready
        finally:
            self._loop.remove_reader(self._sock.fileno())
            timer.cancel()

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            await self._loop.sock_sendall(self._sock, data)

    async def _feed(self) -> None:
        if data := await self._loop.sock_recv(self._sock, CHUNK):
            self._incoming.write(data)
        elif self._tls is None:
            raise ReplyError("the connection ended during the TLS handshake")
        else:
            self._incoming.write_eof()


def _settle(future: asyncio.Future[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)


def new_socket(target: Target) -> socket.socket:
    """A socket that resets its connection when it is closed, unless `leave` ended the connection before."""
    sock = socket.socket(target.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            reset_on_close(sock)
        come_from(sock, target.sources)
    except BaseException:
        sock.close()
        raise
    return sock


def tls_error_text(error: ssl.SSLError) -> str:
    """What is wrong with the peer or its certificate."""
    if isinstance(error, ssl.CertificateError):
        return f"TLS: {error.verify_message}"
    return f"TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"


@contextlib.asynccontextmanager
async def connected(
    target: Target, send_proxy: SendProxy, context: ssl.SSLContext | None = None, server_name: str | None = None
) -> AsyncIterator[Connection]:
    """An open connection for the block. Closed with a reset, unless `leave` was called."""
    with new_socket(target) as sock:
        connection = Connection(sock)
        await connection.open(target.address, send_proxy, context, server_name)
        yield connection
