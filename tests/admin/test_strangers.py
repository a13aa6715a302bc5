"""Whatever a client sends to the admin server, it is answered in JSON, is never our fault, and leaves no traceback."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from pathlib import Path

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from l4lb.admin import backends, connections
from l4lb.base.text import MESSAGE_MAX
from tests.admin.fake_control import FakeControl
from tests.admin.serving import serving

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW", "get"]
NAMES = ["web", "a", "%00", "%ff%fe", "%2e%2e", "%2F", "..", "%0d%0aX:y", "x" * 4000, "%E2%80%AE", "{}", "'", "%"]
NUMBERS = ["0", "-1", "18446744073709551615", "18446744073709551616", "9" * 20, "9" * 5000, "1e9", "%D9%A3", "0x1", ""]
PATHS = [
    "/",
    "*",
    "",
    "//",
    "/metrics",
    "/healthz",
    "/readyz",
    "/api/v1/status",
    "/api/v1/sessions",
    "/api/v1/reload",
    "/api/v1/upgrade",
    "/api/v1/pools",
    "/api/v1/pools/web/backends",
    "/api/v1/pools/web/backends/a?force=maybe",
    "http://[/metrics",
    "http://other.example/metrics",
    "example:443",
    *(f"/api/v1/sessions/{number}" for number in NUMBERS),
    *(f"/api/v1/autoscale/{name}" for name in NAMES),
    *(f"/api/v1/pools/{name}/backends/{name}" for name in NAMES),
    *(f"/api/v1/pools/web/backends/{name}" for name in NAMES),
    *(f"/api/v1/pools/web/backends/{name}/sessions" for name in NAMES),
]
QUERIES = ["", "?", "?" + "q=1&" * 1500, "?%ff=%00", "#fragment"]
HEADERS = [
    "",
    "Expect: 100-continue\r\n",
    "Expect: miracles\r\n",
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n",
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    "Accept: \x01\x02\r\n",
    "Accept: application/openmetrics-text\r\n",
    "Accept-Encoding: gzip;q=0, \xff\r\n",
    "Content-Encoding: gzip\r\n",
    "Content-Type: application/json; charset=\x80\r\n",
    "Content-Length: 18446744073709551616\r\n",
    "Content-Length: -1\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Cookie: " + "a=b;" * 500 + "\r\n",
    "X: " + "y" * 9000 + "\r\n",
    "X: y\r\n" * 500,
    " folded: x\r\n",
    "no colon\r\n",
    "Range: bytes=0-1\r\nIf-None-Match: *\r\n",
    "Host: a\r\nHost: b\r\n",
]
BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"\xff"',
    b'{"weight": 1e999}',
    b'{"weight": 99999999999999999999999999}',
    b'{"weight": -1}',
    b'{"weight": true}',
    b'{"weight": "1"}',
    b'{"state": 1}',
    b'{"state": null}',
    b'{"state": "drain\\u0000"}',
    b'{"' + b"k" * 5000 + b'": 1}',
    b"{" + b",".join(b'"k%d": 1' % number for number in range(3000)) + b"}",
    b"[" * 30000,
    b'{"weight": ' + b"9" * 30000 + b"}",
    b" " * 70000,
    bytes(range(256)),
]
HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
HOSTS = ["Host: x\r\n", ""]


async def exchange(path: str, request: bytes) -> bytes:
    """All that the server answers; the client says that it has no more to say, and the server ends the connection."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(request)
        writer.write_eof()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def evaluate(answer: bytes, *, head: bool) -> None:
    """The first answer, which may be behind `100 Continue`, or nothing."""
    answer = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    if not answer:
        return
    top, _, rest = answer.partition(b"\r\n\r\n")
    first, *lines = top.decode("latin-1").split("\r\n")
    status = int(first.split()[1])
    assert status < 500, answer[:500]
    if status >= 400 and not head:
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        assert headers["content-type"].startswith("application/json"), answer[:500]
        error = json.loads(rest[: int(headers["content-length"])])["error"]
        assert 0 < len(error) <= MESSAGE_MAX
        assert error.isprintable()


requests = st.builds(
    lambda method, path, query, host, header, body: (
        method,
        f"{method} {path}{query} HTTP/1.1\r\n{host}{header}".encode("latin-1", "replace")
        + (
            b""
            if b"ontent-Length" in header.encode("latin-1") or "chunked" in header or not body
            else b"Content-Length: %d\r\n" % len(body)
        )
        + b"\r\n"
        + body,
    ),
    st.sampled_from(METHODS),
    st.sampled_from(PATHS),
    st.sampled_from(QUERIES),
    st.sampled_from(HOSTS),
    st.sampled_from(HEADERS),
    st.sampled_from(BODIES),
)
PATCH = b"PATCH /api/v1/pools/web/backends/a HTTP/1.1\r\nHost: x\r\n"
BOMB = gzip.compress(b"{" + b" " * 10_000_000)
GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\r\n" * 10,
    b"GET",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\n\x00: y\r\n\r\n",
    b"GET /\xff\xfe\x00 HTTP/1.1\r\n\r\n",
    b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\n\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\nGET / HTTP/1.1\r\n\r\n",
    b"POST /api/v1/reload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"PATCH /api/v1/pools/web/backends/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"1\r\nx\r\n" * 9000,
    PATCH + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxyz",
    PATCH + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    PATCH + b"Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\nnot gzip!",
    PATCH + b"Content-Encoding: deflate\r\nContent-Length: 9\r\n\r\nnot gzip!",
    PATCH + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB,
    PATCH + b"Content-Length: 99\r\n\r\nshort",
    PATCH + b"Expect: 100-continue\r\nContent-Length: 99\r\n\r\n",
    HEALTHZ * 3 + b"\x00garbage\r\n\r\n",
]


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(batch=st.lists(st.one_of(requests, st.builds(lambda data: ("", data), st.binary(max_size=400))), max_size=12))
def test_no_request_is_our_fault(
    batch: list[tuple[str, bytes]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answered(batch, tmp_path, caplog)


def test_every_path_takes_every_method_and_body(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    batch = [
        (method, f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        for path in PATHS
        for method, body in (
            ("GET", b""),
            ("HEAD", b""),
            ("OPTIONS", b""),
            ("DELETE", b""),
            ("PATCH", b"{"),
            ("PUT", b"x"),
        )
    ]
    answered(batch, tmp_path, caplog)


@pytest.mark.slow
def test_every_header_and_body_and_what_is_no_http(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = "/api/v1/pools/web/backends/a"
    batch = [("GET", f"GET {path} HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode("latin-1")) for header in HEADERS]
    batch += [
        ("PATCH", f"PATCH {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(one)}\r\n\r\n".encode() + one)
        for one in BODIES
    ]
    answered([*batch, *(("", one) for one in GARBAGE)], tmp_path, caplog)


def answered(batch: list[tuple[str, bytes]], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(connections, "HALF_CLOSED_TIMEOUT", 0.05)
    monkeypatch.setattr(backends, "REQUEST_TIMEOUT", 0.05)

    async def main() -> None:
        async with asyncio.timeout(60), serving(tmp_path, FakeControl()) as served:
            for method, request in batch:
                evaluate(await exchange(served.path, request), head=method == "HEAD")
            assert (await exchange(served.path, HEALTHZ)).startswith(b"HTTP/1.1 200 OK")

    try:
        uvloop.run(main())
    finally:
        monkeypatch.undo()
    said = [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    assert not said, said
