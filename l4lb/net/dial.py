"""Connecting, for everything that the control plane asks of backends: checks, scrapes, agents."""

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
"""Seconds between two tries at a unix socket whose backlog is full, at most; each pause is drawn at random."""

_IP_BIND_ADDRESS_NO_PORT = 24
"""From linux/in.h: the port is chosen when the socket connects. The socket module has no name for it before 3.13."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def source_address(source: str) -> tuple[socket.AddressFamily, SocketAddress]:
    """What to bind to come from this IP address."""
    return (socket.AF_INET6, (source, 0, 0, 0)) if ":" in source else (socket.AF_INET, (source, 0))


class SourceError(OSError):
    """This host has none of the addresses that it should connect from."""


def come_from(sock: socket.socket, sources: Sequence[str]) -> None:
    """Have the socket come from one of these IP addresses, if one is of its family. SourceError if this host has none
    of those."""
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
    """Connect a non-blocking socket: what the loop's `sock_connect` does, for half its price. The caller sets the
    deadline.

    A unix socket whose backlog is full is tried again, for that is no refusal. A socket that is connected to itself is
    refused: the kernel picked the port that it was to connect to, and nothing listens there.
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
        # A refusal has another number: this server accepted, spoke, and broke off before the loop looked.
        return
    if error == 0 and _is_connected_to_itself(sock):
        # A plain close would keep the port for a minute, and its server could not start.
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
    # There is no peer name when the peer has reset the connection already, which is seen soon enough.
    with contextlib.suppress(OSError):
        return sock.family is not socket.AF_UNIX and bool(sock.getsockname() == sock.getpeername())
    return False


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
