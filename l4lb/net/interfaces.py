"""Parts of a host that are not for its peers: the interface of `fe80::1%eth0`, and the last dot of a name."""

from __future__ import annotations

import errno
import socket

IpSocketAddress = tuple[str, int] | tuple[str, int, int, int]
"""(host, port), or (host, port, flow, number of the interface)."""


def socket_address(host: str, port: int) -> IpSocketAddress:
    """What connect and bind take. OSError if this host does not have the interface."""
    plain, _, interface = host.partition("%")
    return (plain, port, 0, _number(interface)) if interface else (plain, port)


def host_text(address: IpSocketAddress) -> str:
    """The host of a socket address, with the number of its interface if it has one."""
    return f"{address[0]}%{address[3]}" if len(address) == 4 and address[3] else address[0]


def known_to_peers(host: str) -> str:
    """The host as certificates, TLS and HTTP have it: without the interface, which has another name there, and without
    the last dot, which only keeps search domains away."""
    return host.partition("%")[0].removesuffix(".")


def _number(interface: str) -> int:
    if interface.isdecimal():
        return int(interface)
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        raise OSError(errno.ENODEV, f"this host has no interface {interface}") from None
