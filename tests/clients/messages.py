"""What clients ask and what servers respond: bodies that say whose they are.

A target names the client and the number of its request. The response repeats both behind the name of the server,
followed by the body of the request or, for a GET, by bytes that belong to that client and number alone.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.helpers.patterns import pattern


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: `size` is that of its body, or of the response's for a GET."""

    client: str
    number: int
    method: str = "GET"
    path: str = "/echo"
    size: int = 100

    @property
    def target(self) -> str:
        return f"{self.path}?{urlencode({'client': self.client, 'number': self.number, 'size': self.size})}"

    @property
    def filler(self) -> bytes:
        """Bytes that no other request has."""
        return pattern(zlib.crc32(f"{self.client} {self.number}".encode()), 0, self.size)

    @property
    def body(self) -> bytes | None:
        return self.filler if self.method in ("POST", "PUT") else None

    def raw(self, *fields: str, version: str = "1.1") -> bytes:
        """The request as bytes, with more fields."""
        body = self.body
        lines = [f"{self.method} {self.target} HTTP/{version}", "Host: test", *fields]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode() + (body or b"")

    def check(self, status: int, body: bytes) -> str:
        """The name of the server; AssertionError unless the response is the whole one of this request."""
        assert status == 200, (self, status, body[:200])
        if self.path == "/stream":
            server, _, rest = body.partition(b"\n\n")
            assert rest == b"".join(piece(self.client, self.number, index) for index in range(self.size)), self
            return server.removeprefix(b"data: ").decode()
        head, _, rest = body.partition(b"\n")
        told = json.loads(head)
        assert (told["client"], told["number"]) == (self.client, self.number), (self, told)
        assert rest == self.filler, (self, len(rest))
        server_name: str = told["server"]
        return server_name


def asked(method: str, target: str) -> Ask:
    """What a request asks for, as the server sees it."""
    parts = urlsplit(target)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    number, size = int(query.get("number", 0)), int(query.get("size", 0))
    return Ask(query.get("client", ""), number, method, parts.path, size)


def head_line(server: str, ask: Ask) -> bytes:
    return json.dumps({"server": server, "client": ask.client, "number": ask.number}).encode() + b"\n"


def piece(client: str, number: int, index: int) -> bytes:
    """An event of a stream."""
    return f"data: {client} {number} {index}\n\n".encode()
