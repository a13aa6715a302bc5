"""The messages between a balancer and its successor, over a unix stream socket that only they have.

A message is JSON of bounded length, and may carry descriptors (SCM_RIGHTS, unix(7)). Both sides name the number of
their protocol. Each side ignores messages and fields that it does not know, so that versions can differ.
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
"""Increased when two versions could misunderstand each other; such versions refuse to hand over."""

ENVIRONMENT = "L4LB_HANDOVER"
"""The environment variable with the descriptor of the successor's end."""

BODY_MAX = 1 << 20
DESCRIPTORS_MAX = 253
"""SCM_MAX_FD of the kernel: descriptors of one message."""

_HEADER = struct.Struct("!II")
_ROOM = socket.CMSG_LEN(DESCRIPTORS_MAX * array.array("i").itemsize)


class HandoverError(Exception):
    """The other side ended, or sent something invalid. `str()` says so in a sentence."""


class PeerEnded(HandoverError):
    """The other side ended or closed its socket, between two messages or within one."""


@dataclass(frozen=True, slots=True)
class Message:
    """The holder of a message owns its `descriptors`."""

    kind: str
    fields: Json
    descriptors: Sequence[int] = ()

    def close(self) -> None:
        """Close the descriptors."""
        for descriptor in self.descriptors:
            os.close(descriptor)


def encode(message: Message) -> tuple[bytes, bytes]:
    """Header and body. ValueError for what is too large for one message."""
    body = json.dumps({"kind": message.kind} | message.fields, separators=(",", ":")).encode()
    if len(body) > BODY_MAX or len(message.descriptors) > DESCRIPTORS_MAX:
        raise ValueError(f"a message of {len(body)} bytes and {len(message.descriptors)} descriptors is too large")
    return _HEADER.pack(len(body), len(message.descriptors)), body


def decode_header(header: bytes) -> tuple[int, int]:
    """The length of the body and the number of descriptors. HandoverError if they are out of bounds."""
    length, count = _HEADER.unpack(header)
    if not 0 < length <= BODY_MAX or count > DESCRIPTORS_MAX:
        raise HandoverError(f"a message of {length} bytes with {count} descriptors is not from l4lb")
    return length, count


def decode_body(body: bytes, descriptors: Sequence[int] = ()) -> Message:
    """HandoverError if the body is not a message."""
    try:
        fields = json.loads(body)
        return Message(str(fields.pop("kind")), fields, descriptors)
    except (ValueError, KeyError, AttributeError, TypeError):
        raise HandoverError("the message is not from l4lb") from None


class Channel:
    """One end of the socket; owns it. To be used on the event loop, by one task. Waiting is bounded by the caller."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock

    def fileno(self) -> int:
        return self._sock.fileno()

    async def send(self, kind: str, descriptors: Sequence[int] = (), **fields: Any) -> None:
        """PeerEnded if the other side has closed its end."""
        header, body = encode(Message(kind, fields, descriptors))
        try:
            sent = await self._send_header(header, descriptors)
            await asyncio.get_running_loop().sock_sendall(self._sock, header[sent:] + body)
        except OSError as error:
            raise PeerEnded(f"the other process is gone: {os.strerror(error.errno or 0)}") from error

    async def _send_header(self, header: bytes, descriptors: Sequence[int]) -> int:
        while True:
            try:
                # Descriptors travel with the first byte, however many bytes are sent.
                return socket.send_fds(self._sock, [header], list(descriptors))
            except BlockingIOError:
                await self._ready(asyncio.get_running_loop().add_writer, asyncio.get_running_loop().remove_writer)

    async def receive(self) -> Message:
        """The next message. PeerEnded at the end, HandoverError if it is invalid."""
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
                # Not socket.recv_fds: it does not pass flags on, and children would inherit the descriptors.
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
        """Close this end; the other side sees that. Idempotent."""
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
