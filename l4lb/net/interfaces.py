"""Parts of a host name that mean something only on this host: the interface in `fe80::1%eth0`, and a trailing dot."""

from __future__ import annotations

import errno
import socket

IpSocketAddress = tuple[str, int] | tuple[str, int, int, int]
"""(host, port), or (host, port, flow info, interface index)."""


def socket_address(host: str, port: int) -> IpSocketAddress:
    """The address for connect and bind. OSError if this host does not have the interface."""
    plain, _, interface = host.partition("%")
    return (plain, port, 0, _number(interface)) if interface else (plain, port)


def host_text(address: IpSocketAddress) -> str:
    """The host of a socket address, with its interface index if it has one."""
    return f"{address[0]}%{address[3]}" if len(address) == 4 and address[3] else address[0]


def known_to_peers(host: str) -> str:
    """The host as certificates, TLS and HTTP spell it: without the interface, which has another name on the peer, and
    without the trailing dot, which only disables search domains."""
    return host.partition("%")[0].removesuffix(".")


def _number(interface: str) -> int:
    if interface.isdecimal():
        return int(interface)
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        raise OSError(errno.ENODEV, f"this host has no interface {interface}") from None
