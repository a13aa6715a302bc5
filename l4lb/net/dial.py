"""Outgoing connections of the control plane: health checks, scrapes, agent checks."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import socket
import struct
from collections.abc import Sequence

from l4lb.engine.api import SocketAddress

FULL_PAUSE_MIN = 0.004
FULL_PAUSE_MAX = 0.1
"""Seconds between two attempts at a unix socket whose backlog is full. Each pause is random within its limit."""

_IP_BIND_ADDRESS_NO_PORT = 24
"""From linux/in.h: the kernel picks the port at connect. The socket module has no name for it before 3.13."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def source_address(source: str) -> tuple[socket.AddressFamily, SocketAddress]:
    """The address to bind to, to connect from this IP address."""
    return (socket.AF_INET6, (source, 0, 0, 0)) if ":" in source else (socket.AF_INET, (source, 0))


class SourceError(OSError):
    """This host has none of the source addresses that were configured."""


def come_from(sock: socket.socket, sources: Sequence[str]) -> None:
    """Bind the socket to one of these IP addresses, if one has its family. SourceError if this host has none."""
    wanted = [address for family, address in map(source_address, sources) if family == sock.family]
    for address in random.sample(wanted, len(wanted)):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind(address)
            return
    if wanted:
        hosts = ", ".join(str(address[0]) for address in wanted)
        raise SourceError(errno.EADDRNOTAVAIL, f"this host has no address to connect from ({hosts}); see source")


def reset_on_close(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


async def dial(sock: socket.socket, address: SocketAddress) -> None:
    """Connect a non-blocking socket, at half the cost of the loop's `sock_connect`. The caller sets the deadline.

    A unix socket whose backlog is full is tried again, because that is not a refusal. A socket that got connected to
    itself counts as refused: the kernel picked the destination port as the local port, and nothing listens there.
    """
    error = await _connect_ex(sock, address)
    if error == errno.EINPROGRESS:
        loop = asyncio.get_running_loop()
        writable = loop.create_future()
        loop.add_writer(sock.fileno(), _wake, writable)
        try:
            await writable
        finally:
            loop.remove_writer(sock.fileno())
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error == errno.ECONNRESET and _has_something_to_read(sock):
        # A refusal has another errno: this server accepted, sent something, and reset the connection before the loop
        # noticed.
        return
    if error == 0 and _is_connected_to_itself(sock):
        # A plain close would keep the port in TIME_WAIT for a minute, and its server could not start.
        reset_on_close(sock)
        error = errno.ECONNREFUSED
    if error != 0:
        raise OSError(error, os.strerror(error))


async def _connect_ex(sock: socket.socket, address: SocketAddress) -> int:
    pause = FULL_PAUSE_MIN
    while (error := sock.connect_ex(address)) == errno.EAGAIN and sock.family is socket.AF_UNIX:
        await asyncio.sleep(random.uniform(0, pause))
        pause = min(2 * pause, FULL_PAUSE_MAX)
    return error


def _has_something_to_read(sock: socket.socket) -> bool:
    try:
        return sock.recv(1, socket.MSG_PEEK) != b""
    except OSError:
        return False


def _is_connected_to_itself(sock: socket.socket) -> bool:
    # getpeername fails if the peer has already reset the connection; the next read reports that.
    with contextlib.suppress(OSError):
        return sock.family is not socket.AF_UNIX and bool(sock.getsockname() == sock.getpeername())
    return False


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
