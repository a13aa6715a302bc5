"""grpc: the health checking protocol, version 1, over one HTTP/2 stream.

Built on the h2 library: the client of grpcio cannot send a PROXY header, skip certificate verification, or restrict TLS
versions. The two messages have one field each.

Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md and PROTOCOL-HTTP2.md beside it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

from l4lb.base.text import quoted
from l4lb.config.model import Health
from l4lb.health.probes.base import Result, Subject, failure, success
from l4lb.health.probes.http import authority
from l4lb.net.connection import Connection, ReplyError
from l4lb.net.target import Target

ANSWER_MAX = 65536
FRAMES_MAX = 256
"""Frames of one response: a server needs less than ten."""

PATH = "/grpc.health.v1.Health/Check"

_SERVING = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_STATUS = {"0": "OK", "4": "DEADLINE_EXCEEDED", "5": "NOT_FOUND", "12": "UNIMPLEMENTED", "14": "UNAVAILABLE"}
_STREAM = 1


_FRAME_HEAD = 9
FRAME_MAX = 16384
"""The default maximum size of a frame."""

_GOAWAY = 7


class _Answer:
    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.ended = False

    def take(self, event: Event) -> None:
        """Anything after the end of the response is ignored."""
        if self.ended:
            return
        match event:
            case ResponseReceived() | TrailersReceived():
                self.headers |= {_text(name): _text(value) for name, value in event.headers or ()}
            case DataReceived():
                self.body += event.data or b""
            case StreamEnded():
                self.ended = True
            case StreamReset():
                raise ReplyError(f"the stream was reset with the HTTP/2 error {event.error_code}")


class _Frames:
    """Splits the server's stream into frames, so that frames before an error still count.

    GOAWAY is hidden from the library, which ignores everything after it: a server that is about to close the connection
    still completes the response.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._left = FRAMES_MAX

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._buffer += data
        while len(self._buffer) >= _FRAME_HEAD:
            size = _FRAME_HEAD + int.from_bytes(self._buffer[:3])
            if size > _FRAME_HEAD + FRAME_MAX:
                raise ReplyError(f"the response is not HTTP/2: {quoted(bytes(self._buffer))}")
            if len(self._buffer) < size:
                return
            frame = bytes(self._buffer[:size])
            del self._buffer[:size]
            self._left -= 1
            if self._left < 0:
                raise ReplyError(f"the response has more than {FRAMES_MAX} frames")
            if frame[3] != _GOAWAY:
                yield frame
            elif error := int.from_bytes(frame[13:17]):
                raise ReplyError(f"the connection was ended with the HTTP/2 error {error}")


async def ask(connection: Connection, target: Target, health: Health, subject: Subject) -> Result:
    secure = health.tls is not None
    if secure and connection.protocol != "h2":
        raise ReplyError("the server does not speak HTTP/2 (ALPN)")
    connection.question = "the health service"
    wire = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    wire.initiate_connection()
    wire.send_headers(_STREAM, _headers(target, health, subject))
    wire.send_data(_STREAM, _request(health.service), end_stream=True)
    await connection.send(wire.data_to_send())
    return _judge(await _read(connection, wire), health.service)


def _headers(target: Target, health: Health, subject: Subject) -> list[tuple[str, str]]:
    secure = health.tls is not None
    return [
        (":method", "POST"),
        (":scheme", "https" if secure else "http"),
        (":path", PATH),
        (":authority", health.host or authority(target, subject, https=secure)),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "l4lb-health"),
    ]


async def _read(connection: Connection, wire: H2Connection) -> _Answer:
    answer, frames = _Answer(), _Frames()
    left = ANSWER_MAX
    while True:
        data = await connection.receive()
        left -= len(data)
        if not data or left < 0:
            raise ReplyError("the response is too large" if data else "the connection ended without a response")
        try:
            for frame in frames.feed(data):
                for event in wire.receive_data(frame):
                    answer.take(event)
                if answer.ended:
                    return answer
        except ProtocolError as error:
            raise ReplyError(f"the response is not HTTP/2: {quoted(str(error).encode())}") from None
        if more := wire.data_to_send():
            await connection.send(more)


def _judge(answer: _Answer, service: str) -> Result:
    if (http_status := answer.headers.get(":status")) != "200":
        return failure(f"HTTP {http_status}")
    code = answer.headers.get("grpc-status", "0")
    if code == "5":
        return failure(f"there is no service {quoted(service.encode())} (NOT_FOUND)")
    if code == "12":
        return failure("the server has no health service (UNIMPLEMENTED)")
    if code != "0":
        return failure(f"gRPC status {_STATUS.get(code, quoted(code.encode()))}")
    state = _SERVING[_state(bytes(answer.body))]
    return success(state) if state == "SERVING" else failure(state)


def _request(service: str) -> bytes:
    """HealthCheckRequest{service} in a gRPC message frame. Names have at most 255 bytes."""
    name = service.encode()
    body = b"\x0a" + _varint(len(name)) + name if name else b""
    return struct.pack("!BI", 0, len(body)) + body


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80, number >> 7])


def _state(framed: bytes) -> int:
    """The status in a HealthCheckResponse. Protobuf omits a field whose value is 0."""
    if framed == bytes(5):
        return 0
    if len(framed) == 7 and framed[:6] == b"\0\0\0\0\x02\x08" and framed[6] < len(_SERVING):
        return framed[6]
    raise ReplyError(f"the response is not a HealthCheckResponse: {quoted(framed)}")


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
