"""The IP addresses of this host's interfaces, from the kernel (rtnetlink(7))."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

_HEADER = struct.Struct("=IHHII")
_ADDRESS = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")

_RTM_NEWADDR, _RTM_GETADDR, _NLMSG_ERROR, _NLMSG_DONE = 20, 22, 2, 3
_REQUEST_DUMP = 0x301
_IFA_ADDRESS, _IFA_LOCAL = 1, 2

_LENGTHS = {socket.AF_INET: 4, socket.AF_INET6: 16}
_CHUNK = 1 << 16


def own_addresses() -> frozenset[str]:
    """The addresses as `ipaddress` spells them, without interfaces. None if the kernel does not tell."""
    found: set[str] = set()
    with contextlib.suppress(OSError), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC) as sock:
        length = _HEADER.size + _ADDRESS.size
        sock.send(_HEADER.pack(length, _RTM_GETADDR, _REQUEST_DUMP, 1, 0) + bytes(_ADDRESS.size))
        while True:
            for kind, body in _messages(sock.recv(_CHUNK)):
                if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                    return frozenset(found)
                if kind == _RTM_NEWADDR:
                    found.update(_address(body))
    return frozenset(found)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _HEADER.size:
        length, kind, _, _, _ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : length]
        data = data[_aligned(max(length, _HEADER.size)) :]


def _address(body: bytes) -> Iterator[str]:
    """The local end of a point-to-point link."""
    family = socket.AddressFamily(body[0]) if body[0] in _LENGTHS else None
    if family is None:
        return
    attributes = dict(_attributes(body[_ADDRESS.size :]))
    packed = attributes.get(_IFA_LOCAL, attributes.get(_IFA_ADDRESS, b""))
    if len(packed) == _LENGTHS[family]:
        yield socket.inet_ntop(family, packed)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[_aligned(max(length, _ATTRIBUTE.size)) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3
