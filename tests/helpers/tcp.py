"""Options of TCP sockets, also of those that another process holds."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.peers import Peer

_PIDFD_GETFD = 438
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class TcpOptions:
    """How the kernel finds out that the peer is lost; None and 0 are off."""

    keepalive: tuple[int, int, int] | None = None
    """Seconds to the first probe and between two, and their number."""

    user_timeout_ms: int = 0


def tcp_options(sock: socket.socket) -> TcpOptions:
    numbers = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    idle, interval, probes = (sock.getsockopt(socket.IPPROTO_TCP, option) for option in numbers)
    on = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    return TcpOptions(
        keepalive=(idle, interval, probes) if on else None,
        user_timeout_ms=sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
    )


def options_towards(pid: int, peer: Peer) -> TcpOptions:
    """Of the socket of process `pid` at the other end of `peer`'s connection."""
    with contextlib.closing(_sockets(pid)) as sockets:
        for sock in sockets:
            with contextlib.suppress(OSError):
                if (sock.getsockname(), sock.getpeername()) == (peer.remote, peer.local):
                    return tcp_options(sock)
    raise AssertionError(f"process {pid} has no connection to {peer.local}")


def _sockets(pid: int) -> Iterator[socket.socket]:
    """The sockets of another process, each open here until the next."""
    process = os.pidfd_open(pid)
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if not os.readlink(entry).startswith("socket:"):
                    continue
            fd = _libc.syscall(_PIDFD_GETFD, process, int(entry.name), 0)
            if fd >= 0:
                with socket.socket(fileno=fd) as sock:
                    yield sock
    finally:
        os.close(process)
