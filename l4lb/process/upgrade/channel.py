"""What a balancer and its successor say to each other, over a unix stream socket that only they have.

A message is JSON with a bounded length, and descriptors may come with it (SCM_RIGHTS, unix(7)). Both sides know the
protocol by its number. A message or a field that one side does not know is passed over, so that versions can differ.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from l4lb.handover.batches import Json

PROTOCOL = 1
"""Raised when two versions could misunderstand each other; they refuse to go on then."""

ENVIRONMENT = "L4LB_HANDOVER"
"""Names the descriptor that a successor speaks through."""

BODY_MAX = 1 << 20
DESCRIPTORS_MAX = 253
"""SCM_MAX_FD of the kernel: descriptors of one message."""

_HEADER = struct.Struct("!II")
_ROOM = socket.CMSG_LEN(DESCRIPTORS_MAX * array.array("i").itemsize)


class HandoverError(Exception):
    """The other side ended, or is not understood. `str()` says so in a sentence."""


class PeerEnded(HandoverError):
    """It ended, or let go of its socket, between two messages or within one."""


@dataclass(frozen=True, slots=True)
class Message:
    """`descriptors` belong to whoever has the message."""

    kind: str
    fields: Json
    descriptors: Sequence[int] = ()

    def close(self) -> None:
        """Close what came with it."""
        for descriptor in self.descriptors:
            os.close(descriptor)


def encode(message: Message) -> tuple[bytes, bytes]:
    """Header and body. ValueError for what is too large for one message."""
    body = json.dumps({"kind": message.kind} | message.fields, separators=(",", ":")).encode()
    if len(body) > BODY_MAX or len(message.descriptors) > DESCRIPTORS_MAX:
        raise ValueError(f"a message of {len(body)} bytes and {len(message.descriptors)} descriptors is too large")
    return _HEADER.pack(len(body), len(message.descriptors)), body


def decode_header(header: bytes) -> tuple[int, int]:
    """The length of the body and the number of descriptors. HandoverError for what nobody may send."""
    length, count = _HEADER.unpack(header)
    if not 0 < length <= BODY_MAX or count > DESCRIPTORS_MAX:
        raise HandoverError(f"a message of {length} bytes with {count} descriptors is none of l4lb")
    return length, count


def decode_body(body: bytes, descriptors: Sequence[int] = ()) -> Message:
    """HandoverError if it is no message."""
    try:
        fields = json.loads(body)
        return Message(str(fields.pop("kind")), fields, descriptors)
    except (ValueError, KeyError, AttributeError, TypeError):
        raise HandoverError("what came is no message of l4lb") from None


class Channel:
    """One end of the socket; owns it. To be used on the event loop, by one task. Waiting is bounded by the caller."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock

    def fileno(self) -> int:
        return self._sock.fileno()

    async def send(self, kind: str, descriptors: Sequence[int] = (), **fields: Any) -> None:
        """PeerEnded if nobody is there any more."""
        header, body = encode(Message(kind, fields, descriptors))
        try:
            sent = await self._send_header(header, descriptors)
            await asyncio.get_running_loop().sock_sendall(self._sock, header[sent:] + body)
        except OSError as error:
            raise PeerEnded(f"the other process is gone: {os.strerror(error.errno or 0)}") from error

    async def _send_header(self, header: bytes, descriptors: Sequence[int]) -> int:
        while True:
            try:
                # They travel with the first byte, however many bytes go.
                return socket.send_fds(self._sock, [header], list(descriptors))
            except BlockingIOError:
                await self._ready(asyncio.get_running_loop().add_writer, asyncio.get_running_loop().remove_writer)

    async def receive(self) -> Message:
        """The next message. PeerEnded at the end, HandoverError for what is no message."""
        with contextlib.ExitStack() as undo:
            try:
                header, descriptors = await self._receive_header()
                undo.callback(_close_all, descriptors)
                header += await self._receive_exactly(_HEADER.size - len(header))
                length, count = decode_header(header)
                body = await self._receive_exactly(length)
            except OSError as error:
                raise PeerEnded(f"the other process is gone: {os.strerror(error.errno or 0)}") from error
            if len(descriptors) != count:
                raise HandoverError(f"{len(descriptors)} of {count} descriptors came; raise the limit on open files")
            message = decode_body(body, descriptors)
            undo.pop_all()
            return message

    async def _receive_header(self) -> tuple[bytes, list[int]]:
        while True:
            try:
                # Not recv_fds of the standard library: it passes no flags on, and children would inherit.
                header, ancillary, _, _ = self._sock.recvmsg(_HEADER.size, _ROOM, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                await self._ready(asyncio.get_running_loop().add_reader, asyncio.get_running_loop().remove_reader)
                continue
            if not header:
                raise PeerEnded("the other process ended")
            return header, _descriptors(ancillary)

    async def _receive_exactly(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            piece = await asyncio.get_running_loop().sock_recv(self._sock, length - len(data))
            if not piece:
                raise PeerEnded("the other process ended in the middle of a message")
            data += piece
        return bytes(data)

    async def _ready(self, add: Any, remove: Any) -> None:
        ready = asyncio.Event()
        add(self._sock.fileno(), ready.set)
        try:
            await ready.wait()
        finally:
            remove(self._sock.fileno())

    def close(self) -> None:
        """The other side sees the end. Idempotent."""
        self._sock.close()


def send_blocking(sock: socket.socket, kind: str, **fields: Any) -> None:
    """Send a message before there is an event loop."""
    sock.sendall(b"".join(encode(Message(kind, fields))))


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return found.tolist()


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
