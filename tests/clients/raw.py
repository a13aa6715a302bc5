"""Conversations byte by byte: what a client sends, what it waits for, and all that came."""

from __future__ import annotations

import http.client
import select
from dataclasses import dataclass

from tests.helpers.peers import Address, End, Peer, connect
from tests.helpers.waiting import DEADLINE, observe


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until this has come so many times altogether."""

    mark: bytes
    times: int = 1


@dataclass(frozen=True, slots=True)
class Slowly:
    """Bytes that go one by one."""

    data: bytes


class Finish:
    """The client sends a FIN, and reads on."""


Step = bytes | Wait | Slowly | Finish


@dataclass(frozen=True, slots=True)
class Heard:
    """All that came, and how it ended."""

    data: bytes
    end: End


def converse(address: Address, *steps: Step) -> Heard:
    """Do all steps on one connection, then read to the end."""
    heard = bytearray()
    with connect(address) as peer:
        for step in steps:
            match step:
                case Wait(mark, times):
                    while heard.count(mark) < times:
                        data = peer.sock.recv(1 << 16)
                        assert data, f"the end came before {mark!r}: {bytes(heard[-500:])!r}"
                        heard += data
                case Slowly(data):
                    for index in range(len(data)):
                        peer.send(data[index : index + 1])
                        observe(0.0005)
                case Finish():
                    peer.finish()
                case _:
                    _send(peer, step, heard)
        return Heard(*_rest(peer, heard))


def _send(peer: Peer, data: bytes, heard: bytearray) -> None:
    """Send all of it, and read meanwhile: a server may not take more until its responses are read."""
    left = memoryview(data)
    while left:
        readable, writable, _ = select.select([peer.sock], [peer.sock], [], DEADLINE)
        assert readable or writable, f"{len(left)} bytes are not taken"
        if readable:
            heard += peer.sock.recv(1 << 16)
        if writable:
            left = left[peer.sock.send(left[: 1 << 16]) :]


def _rest(peer: Peer, heard: bytearray) -> tuple[bytes, End]:
    try:
        while data := peer.sock.recv(1 << 16):
            heard += data
    except ConnectionResetError:
        return bytes(heard), End.RESET
    return bytes(heard), End.FIN


def chunked(data: bytes, size: int, trailers: bytes = b"") -> bytes:
    """A body in chunks of this size."""
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n" + trailers + b"\r\n"


def read_response(peer: Peer, method: str = "GET") -> tuple[int, bytes]:
    """The next response of a connection that goes on: status and body. Nothing behind it may have come yet."""
    response = http.client.HTTPResponse(peer.sock, method=method)
    try:
        response.begin()
        return response.status, response.read()
    finally:
        response.close()
