"""Addresses and networks as the bytes that the kernel and the data plane take."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

from l4lb.engine.api import SocketAddress

Network = IPv4Network | IPv6Network

_MAPPED_PREFIX = bytes(10) + b"\xff\xff"
_MAPPED_BITS = 96
_UNIX_PATH_MAX = 108


def pack_address(family: socket.AddressFamily, address: SocketAddress) -> bytes:
    """A `struct sockaddr_*` for connect(2). ValueError if the address does not fit its family."""
    if isinstance(address, str):
        path = os.fsencode(address)
        if family is not socket.AF_UNIX or not 0 < len(path) < _UNIX_PATH_MAX:
            raise ValueError(f"not a unix socket path: {address!r}")
        # An abstract name has no terminator; a path ends with a NUL.
        return struct.pack("=H", family) + (path if path[0] == 0 else path + b"\0")
    host, port = address[0], address[1]
    try:
        packed = socket.inet_pton(family, host)
    except OSError:
        raise ValueError(f"not an address of family {family.name}: {host!r}") from None
    if family is socket.AF_INET:
        return struct.pack("=H", family) + struct.pack("!H", port) + packed + bytes(8)
    flow, scope = (address[2], address[3]) if len(address) == 4 else (0, 0)
    return struct.pack("=H", family) + struct.pack("!HI", port, flow) + packed + struct.pack("=I", scope)


def pack_networks(networks: Iterable[Network]) -> bytes:
    """For each network 16 bytes of address, IPv4 mapped into IPv6, and one of length."""
    return b"".join(map(_pack_network, networks))


def _pack_network(network: Network) -> bytes:
    packed = network.network_address.packed
    if len(packed) == 4:
        return _MAPPED_PREFIX + packed + bytes([_MAPPED_BITS + network.prefixlen])
    return packed + bytes([network.prefixlen])
