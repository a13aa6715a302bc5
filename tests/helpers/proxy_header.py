"""PROXY headers made and read independently of the balancer's own code."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
UNSPECIFIED, TCP4, UDP4, TCP6, UNIX_STREAM = 0x00, 0x11, 0x12, 0x21, 0x31


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says; the endpoints are None when it names none. `extensions` are the TLVs of version 2, as they
    are."""

    version: int
    source: tuple[str, int] | None
    destination: tuple[str, int] | None
    extensions: bytes = b""


def v1(source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    family = "TCP6" if ":" in source[0] else "TCP4"
    return f"PROXY {family} {source[0]} {destination[0]} {source[1]} {destination[1]}\r\n".encode()


def v2(source: tuple[str, int], destination: tuple[str, int], extensions: bytes = b"") -> bytes:
    family = TCP6 if ":" in source[0] else TCP4
    addresses = ip_address(source[0]).packed + ip_address(destination[0]).packed
    return v2_raw(PROXY, family, addresses + struct.pack("!HH", source[1], destination[1]) + extensions)


def v2_raw(command: int, family: int, body: bytes, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body) if length is None else length) + body


def extension(kind: int, value: bytes) -> bytes:
    """A TLV of version 2."""
    return struct.pack("!BH", kind, len(value)) + value


def receive(sock: socket.socket) -> Header:
    """Read exactly one header, leaving what follows."""
    start = _exactly(sock, 6)
    if start == b"PROXY ":
        line = start
        while not line.endswith(b"\r\n"):
            line += _exactly(sock, 1)
            assert len(line) <= 107, line
        words = line[:-2].decode("ascii").split(" ")
        if words[1] == "UNKNOWN":
            return Header(1, None, None)
        assert words[1] in ("TCP4", "TCP6"), line
        assert len(words) == 6, line
        assert ip_address(words[2]).version == ip_address(words[3]).version == int(words[1][3]), line
        return Header(1, (words[2], int(words[4])), (words[3], int(words[5])))
    start += _exactly(sock, 10)
    assert start[:12] == SIGNATURE, start
    command, family, length = struct.unpack("!BBH", start[12:])
    body = _exactly(sock, length)
    assert command in (LOCAL, PROXY), command
    if command == LOCAL or family not in (TCP4, TCP6):
        return Header(2, None, None, body)
    size = 4 if family == TCP4 else 16
    ports = struct.unpack("!HH", body[2 * size : 2 * size + 4])
    source, destination = (str(ip_address(body[at : at + size])) for at in (0, size))
    return Header(2, (source, ports[0]), (destination, ports[1]), body[2 * size + 4 :])


def _exactly(sock: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = sock.recv(length - len(data))
        assert more, f"the stream ended inside a header: {data!r}"
        data += more
    return data
