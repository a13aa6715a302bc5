"""http and https: one request, no redirects. The status decides, and headers and body if some are expected.

The check only asks whether the server works. So it ends as soon as the response can be judged, and parses leniently: a
status is known with its line, whatever follows. Data that came before the connection broke counts.
"""

from __future__ import annotations

import http.client
import socket

from l4lb.base.text import quoted
from l4lb.bounded import response as bounded
from l4lb.bounded.response import ResponseParser
from l4lb.config.model import Health
from l4lb.health.probes.base import Result, Subject, failure, success
from l4lb.health.probes.patterns import TooSlow, objection
from l4lb.net.connection import Connection, ReplyError
from l4lb.net.interfaces import known_to_peers
from l4lb.net.target import Target

BODY_MAX = 65536
"""Bytes of a body that are searched for patterns; the rest is not read."""

_SHOWN_MAX = 64
"""Bytes of a response that are kept for a message."""


async def ask(connection: Connection, target: Target, health: Health, subject: Subject) -> Result:
    connection.question = f"{health.method} {health.path}"
    connection.expected = "a status"
    connection.forget()
    await connection.send(request(target, health, subject))
    first = await connection.receive()
    if not health.answer_headers and not health.body and (status := bounded.early_status(first)):
        # Most checks end here, without a parser.
        return _of_status(status, health)
    return await _read(connection, health, first)


async def _read(connection: Connection, health: Health, data: bytes) -> Result:
    answer, body, problem = ResponseParser(), bytearray(), "the head of the response does not end"
    while data:
        connection.heard += data[: max(0, _SHOWN_MAX - len(connection.heard))]
        try:
            body += answer.feed(data)
            if _suffices(answer, body, health):
                break
            if status := answer.early_status:
                connection.expected = f"the end of the {'body' if answer.status else 'head'} behind {status}"
            data = await connection.receive()
        except bounded.ResponseError as error:
            if not answer.early_status:
                raise ReplyError(str(error)) from None
            problem = str(error)
            break
        except OSError:
            if not answer.early_status:
                raise
            break
    return await _judge(answer, bytes(body[:BODY_MAX]), health, problem)


def _suffices(answer: ResponseParser, body: bytearray, health: Health) -> bool:
    """Whether enough has arrived to judge."""
    if answer.early_status not in health.status:
        return answer.early_status != 0
    if health.body:
        return answer.ended or len(body) >= BODY_MAX
    return answer.status != 0 or not health.answer_headers


def _of_status(status: int, health: Health) -> Result:
    return (success if status in health.status else failure)(f"HTTP {status}")


async def _judge(answer: ResponseParser, body: bytes, health: Health, problem: str) -> Result:
    """Judge the response. `problem` says what is wrong with an incomplete head."""
    status = answer.early_status
    if not status:
        raise ReplyError("the connection ended without a response")
    result, message = _of_status(status, health), f"HTTP {status}"
    if not result.ok or (not health.answer_headers and not health.body):
        return result
    if not answer.status:
        return failure(f"{message}, but {problem}")
    try:
        wrong = await _wrong_header(answer, health) or await objection(health.body, body, "the body")
    except TooSlow as error:
        return failure(f"{message}, but {error}")
    return success(message) if wrong is None else failure(f"{message}, but {wrong}")


async def _wrong_header(answer: ResponseParser, health: Health) -> str | None:
    for name, pattern in health.answer_headers:
        value = answer.headers.get(name.lower())
        if value is None:
            if not pattern.startswith("!"):
                return f"there is no header {quoted(name.encode())}"
        elif wrong := await objection((pattern,), value, f"the header {quoted(name.encode())}"):
            return wrong
    return None


def request(target: Target, health: Health, subject: Subject) -> bytes:
    lines = [
        f"{health.method} {health.path} HTTP/1.1",
        f"Host: {health.host or authority(target, subject, https=health.type == 'https')}",
        "Connection: close",
    ]
    given = {name.lower() for name, _ in health.headers}
    lines += [line for line in _COMMON if line.partition(":")[0].lower() not in given]
    lines += [f"{name}: {value}" for name, value in health.headers]
    body = health.send or b""
    if body or health.method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


_COMMON = ("User-Agent: l4lb-health", "Accept: */*", "Accept-Encoding: identity")


def authority(target: Target, subject: Subject, *, https: bool) -> str:
    """Host and port for the Host header; the port only if it is not the default."""
    if target.family == socket.AF_UNIX or isinstance(target.address, str):
        return "localhost"
    host, port = known_to_peers(subject.host or target.address[0]), target.address[1]
    usual = http.client.HTTPS_PORT if https else http.client.HTTP_PORT
    return (f"[{host}]" if ":" in host else host) + (f":{port}" if port != usual else "")
