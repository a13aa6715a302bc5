"""Socket options of listening TCP sockets. Accepted sockets inherit all of them but the last two."""

from __future__ import annotations

import socket

from l4lb.config import Address, model

_IP_FREEBIND = 15
"""From linux/in.h; the socket module has no name for it."""


def set_nodelay(sock: socket.socket) -> None:
    """On the listening socket, so that an accepted client costs one system call less."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def set_tcp(sock: socket.socket, tcp: model.Tcp) -> None:
    """Keepalive and user timeout as the listener's `tcp` section has them."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(tcp.keepalive is not None))
    if tcp.keepalive is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, round(tcp.keepalive))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, round(tcp.keepalive_interval))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, tcp.keepalive_probes)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round((tcp.user_timeout or 0.0) * 1000))


def set_families(sock: socket.socket, address: Address) -> None:
    """`[::]` accepts IPv4 clients too. If 0.0.0.0 is bound as well, the kernel gives IPv4 clients to that socket."""
    if address.is_ipv6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address.host != "::"))


def accepts_ipv4(sock: socket.socket) -> bool:
    """Whether an IPv6 socket accepts IPv4 clients too."""
    return not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def set_freebind(sock: socket.socket, *, on: bool) -> None:
    """Let the socket bind an address that this host does not have yet. The kernel has one flag for IPv4 and IPv6."""
    sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, int(on))
