"""http and https: one GET, no redirects; the status decides, and the body where a pattern is given."""

from __future__ import annotations

import http.client
import socket

import httptools
import regex

from l4lb.config.model import Health
from l4lb.health.probes.base import AnswerError, Result, Subject, Target, failure, quoted, success
from l4lb.health.probes.connection import Connection

HEAD_MAX = 65536
BODY_MAX = 65536
"""Bytes of a body in which the pattern is looked for; the rest is not read."""

PATTERN_TIMEOUT = 0.05
"""Seconds that a pattern may take: some take for ever on some texts."""

_INTERIM = frozenset({100, 102, 103})


class _Answer:
    """Called by the parser. `status` is None until the head of the final answer is there."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.body = bytearray()
        self.whole = False
        self.parser = httptools.HttpResponseParser(self)

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if status not in _INTERIM:
            self.status = status

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.whole = self.status is not None

    def close(self) -> None:
        """Let go of the parser, which holds this object too: waiting for the garbage collector costs more."""
        del self.parser


async def ask(connection: Connection, target: Target, health: Health, subject: Subject) -> Result:
    await connection.send(request(target, health, subject))
    answer = _Answer()
    try:
        await _read(connection, answer, body=health.body is not None)
    finally:
        answer.close()
    return _judge(answer, health)


async def _read(connection: Connection, answer: _Answer, *, body: bool) -> None:
    """Read the head, and of the body as much as is wanted. What comes behind a good head is no matter."""
    received = 0
    while answer.status is None or (body and not answer.whole and len(answer.body) < BODY_MAX):
        data = await connection.receive()
        if not data:
            return
        received += len(data)
        try:
            answer.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return
        except httptools.HttpParserError as error:
            if answer.status is None:
                raise AnswerError(f"the answer is not HTTP: {quoted(str(error).encode())}") from None
            return
        if answer.status is None and received > HEAD_MAX:
            raise AnswerError(f"the head of the answer is larger than {HEAD_MAX // 1024} KiB")


def _judge(answer: _Answer, health: Health) -> Result:
    if answer.status is None:
        raise AnswerError("the connection ended without an answer")
    message = f"HTTP {answer.status}"
    if answer.status not in health.status:
        return failure(message)
    if health.body is None:
        return success(message)
    text = bytes(answer.body[:BODY_MAX]).decode("utf-8", "replace")
    try:
        found = regex.search(health.body, text, timeout=PATTERN_TIMEOUT)
    except TimeoutError:
        return failure(f"{message}, and the pattern of health.body took longer than {PATTERN_TIMEOUT * 1000:g} ms")
    return success(message) if found else failure(f"{message}, but the body does not match: {quoted(text.encode())}")


def request(target: Target, health: Health, subject: Subject) -> bytes:
    lines = [
        f"GET {health.path} HTTP/1.1",
        f"Host: {health.host or authority(target, subject, https=health.type == 'https')}",
        "Connection: close",
    ]
    given = {name.lower() for name, _ in health.headers}
    lines += [line for line in _COMMON if line.partition(":")[0].lower() not in given]
    lines += [f"{name}: {value}" for name, value in health.headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


_COMMON = ("User-Agent: l4lb-health", "Accept: */*", "Accept-Encoding: identity")


def authority(target: Target, subject: Subject, *, https: bool) -> str:
    """Host and port as they stand in a request; the port only where it is not the usual one."""
    if target.family == socket.AF_UNIX or isinstance(target.address, str):
        return "localhost"
    host, port = subject.host or target.address[0], target.address[1]
    usual = http.client.HTTPS_PORT if https else http.client.HTTP_PORT
    return (f"[{host}]" if ":" in host else host) + (f":{port}" if port != usual else "")
