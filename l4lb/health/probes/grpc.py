"""grpc: the health checking protocol, version 1, over one stream of HTTP/2.

A client of its own on top of the h2 library: that of grpcio can neither send a PROXY header, nor do without verifying
certificates, nor be told the versions of TLS. The two messages have one field each.

Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md and PROTOCOL-HTTP2.md beside it.
"""

from __future__ import annotations

import struct

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

from l4lb.config.model import Health
from l4lb.health.probes.base import AnswerError, Result, Subject, Target, failure, quoted, success
from l4lb.health.probes.connection import Connection
from l4lb.health.probes.http import authority

ANSWER_MAX = 65536
PATH = "/grpc.health.v1.Health/Check"

_SERVING = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_STATUS = {"0": "OK", "4": "DEADLINE_EXCEEDED", "5": "NOT_FOUND", "12": "UNIMPLEMENTED", "14": "UNAVAILABLE"}
_STREAM = 1


class _Answer:
    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.ended = False

    def take(self, event: Event) -> None:
        match event:
            case ResponseReceived() | TrailersReceived():
                self.headers |= {_text(name): _text(value) for name, value in event.headers or ()}
            case DataReceived():
                self.body += event.data or b""
            case StreamEnded():
                self.ended = True
            case StreamReset():
                raise AnswerError(f"the stream was reset with the HTTP/2 error {event.error_code}")
            case ConnectionTerminated() if not self.ended:
                raise AnswerError(f"the connection was ended with the HTTP/2 error {event.error_code}")


async def ask(connection: Connection, target: Target, health: Health, subject: Subject) -> Result:
    secure = health.tls is not None
    if secure and connection.protocol != "h2":
        raise AnswerError("the server does not speak HTTP/2 (ALPN)")
    wire = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    wire.initiate_connection()
    headers = [
        (":method", "POST"),
        (":scheme", "https" if secure else "http"),
        (":path", PATH),
        (":authority", health.host or authority(target, subject, https=secure)),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "l4lb-health"),
    ]
    wire.send_headers(_STREAM, headers)
    wire.send_data(_STREAM, _request(health.service), end_stream=True)
    await connection.send(wire.data_to_send())
    answer = _Answer()
    received = 0
    while not answer.ended:
        data = await connection.receive()
        received += len(data)
        if not data or received > ANSWER_MAX:
            raise AnswerError("the answer is too large" if data else "the connection ended without an answer")
        try:
            for event in wire.receive_data(data):
                answer.take(event)
        except ProtocolError as error:
            raise AnswerError(f"the answer is not HTTP/2: {quoted(str(error).encode())}") from None
        if more := wire.data_to_send():
            await connection.send(more)
    return _judge(answer, health.service)


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
    """HealthCheckRequest{service}, in the frame of a message. Names are at most 255 bytes."""
    name = service.encode()
    body = b"\x0a" + _varint(len(name)) + name if name else b""
    return struct.pack("!BI", 0, len(body)) + body


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80, number >> 7])


def _state(framed: bytes) -> int:
    """The status of a HealthCheckResponse; a field with the value 0 is not sent."""
    if framed == bytes(5):
        return 0
    if len(framed) == 7 and framed[:6] == b"\0\0\0\0\x02\x08" and framed[6] < len(_SERVING):
        return framed[6]
    raise AnswerError(f"the answer is no HealthCheckResponse: {quoted(framed)}")


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
