"""One name server for the resolver: bounded in what it receives, and large answers are parsed on a thread.

The library parses an answer on the event loop, which takes 0.2 seconds for the largest.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import dns.exception
import dns.inet
import dns.message
import dns.nameserver
import dns.query

from l4lb.net.interfaces import socket_address

SMALL = 2048
"""Bytes of an answer that take a few milliseconds to parse."""

DATAGRAM_MAX = 65535

UNWANTED_MAX = 64
"""Consecutive datagrams that do not answer the query."""


class NameServer(dns.nameserver.Do53Nameserver):
    """Each query uses a new socket, and so a port that is hard to guess."""

    async def async_query(
        self,
        request: dns.message.QueryMessage,
        timeout: float,
        source: str | None,
        source_port: int,
        max_size: bool,
        backend: Any,
        one_rr_per_rrset: bool = False,
        ignore_trailing: bool = False,
    ) -> dns.message.Message:
        ask = self._by_stream if max_size else self._by_datagram
        kind = socket.SOCK_STREAM if max_size else socket.SOCK_DGRAM
        try:
            async with asyncio.timeout(timeout):
                with socket.socket(dns.inet.af_for_address(self.address), kind) as sock:
                    sock.setblocking(False)
                    await asyncio.get_running_loop().sock_connect(sock, socket_address(self.address, self.port))
                    return await ask(sock, request)
        except TimeoutError:
            raise dns.exception.Timeout(timeout=timeout) from None  # type: ignore[no-untyped-call]

    async def _by_datagram(self, sock: socket.socket, request: dns.message.QueryMessage) -> dns.message.Message:
        loop, wire = asyncio.get_running_loop(), request.to_wire()
        await loop.sock_sendall(sock, wire)
        for _ in range(UNWANTED_MAX):
            answer = await loop.sock_recv(sock, DATAGRAM_MAX)
            # An answer with another ID is forged or too late.
            if answer[:2] != wire[:2]:
                continue
            try:
                response = await _read(answer, raise_on_truncation=True)
            except dns.message.Truncated as error:
                if not request.is_response(error.message()):  # type: ignore[no-untyped-call]
                    continue
                raise
            except dns.exception.DNSException:
                continue
            if request.is_response(response):
                return response
        raise dns.query.BadResponse("it does not answer what was asked")  # type: ignore[no-untyped-call]

    async def _by_stream(self, sock: socket.socket, request: dns.message.QueryMessage) -> dns.message.Message:
        wire = request.to_wire()
        await asyncio.get_running_loop().sock_sendall(sock, len(wire).to_bytes(2, "big") + wire)
        length = int.from_bytes(await _exactly(sock, 2), "big")
        response = await _read(await _exactly(sock, length), raise_on_truncation=False)
        if not request.is_response(response):
            raise dns.query.BadResponse("it does not answer what was asked")  # type: ignore[no-untyped-call]
        return response


async def _exactly(sock: socket.socket, size: int) -> bytes:
    loop, data = asyncio.get_running_loop(), bytearray()
    while len(data) < size:
        piece = await loop.sock_recv(sock, size - len(data))
        if not piece:
            raise EOFError("the connection ended within the response")
        data += piece
    return bytes(data)


async def _read(wire: bytes, *, raise_on_truncation: bool) -> dns.message.Message:
    def read() -> dns.message.Message:
        return dns.message.from_wire(wire, raise_on_truncation=raise_on_truncation)

    return read() if len(wire) <= SMALL else await asyncio.to_thread(read)
