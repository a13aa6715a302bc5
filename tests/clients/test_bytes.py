"""Clients get byte for byte what they get without following, whatever they send and however a server responds."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from tests.clients.clients import PATIENCE
from tests.clients.fleet import Fleet
from tests.clients.messages import Ask
from tests.clients.raw import Finish, Heard, Slowly, Step, Wait, chunked, converse, read_response
from tests.helpers.loops import run
from tests.helpers.peers import End, Peer, Served, connect
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.slow

KINDS = ("httptools", "h11", "aiohttp")
MIB = 1 << 20
CLOSE = "Connection: close"
LAST = Ask("c", 99).raw(CLOSE)
"""The last request of a connection: the server closes after it."""

END = b'"number": 99}\n' + Ask("c", 99).filler
"""The end of the response to it."""


@dataclass(frozen=True, slots=True)
class Case:
    steps: tuple[Step, ...]
    pinned: Mapping[str, int] = field(default_factory=dict)
    kinds: tuple[str, ...] = KINDS


def post_chunked(path: str, size: int, chunk: int, trailers: bytes = b"") -> bytes:
    ask = Ask("c", 1, "POST", path, size)
    head = f"POST {ask.target} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + chunked(ask.filler, chunk, trailers)


def head_of(ask: Ask, *fields: str) -> bytes:
    """A request without its body."""
    whole = ask.raw(*fields)
    return whole[: len(whole) - ask.size]


SMALL, UPLOAD = Ask("c", 1), Ask("c", 1, "POST", size=2 * MIB)
PIPELINE = b"".join(Ask("c", number, "POST" if number % 2 else "GET").raw() for number in range(1, 6))

BULK = [
    Ask("c", number, method, path, size)
    for number, (method, path, size) in enumerate(
        [
            ("GET", "/echo", 5 * MIB),
            ("GET", "/echo", 5 * MIB),
            ("POST", "/echo", 3 * MIB),
            ("GET", "/echo", 600),
            ("POST", "/chunked", 2 * MIB),
            ("GET", "/echo", 32 * 1024),
            ("POST", "/echo", 4 * MIB + 1),
            ("GET", "/chunked", 3 * MIB),
            ("GET", "/echo", 65_537),
        ],
        start=1,
    )
]
"""Bodies that are copied and such that are spliced, one behind the other."""

STREAM = b"".join(ask.raw() for ask in BULK)
PIECES = [STREAM[start : start + 77_777] for start in range(0, len(STREAM), 77_777)]

CASES: dict[str, Case] = {
    "one after another": Case((SMALL.raw(), Wait(SMALL.filler), Ask("c", 2).raw(), Wait(Ask("c", 2).filler), LAST)),
    "nothing": Case((Ask("c", 1, "POST", size=0).raw(), Wait(b'"number": 1}\n'), LAST)),
    "one byte": Case((Ask("c", 1, "POST", size=1).raw(), Wait(b'"number": 1}\n'), LAST)),
    "20 MiB": Case((Ask("c", 1, "POST", size=20 * MIB).raw(), LAST)),
    "chunks": Case((post_chunked("/echo", 100_000, 999), LAST)),
    "20 MiB in chunks, back in chunks": Case((post_chunked("/chunked", 20 * MIB, 70_000), LAST)),
    "no chunk": Case((post_chunked("/chunked", 0, 1), LAST)),
    "chunks with trailers": Case((post_chunked("/echo", 5000, 100, b"X-Sum: 1\r\nX-Other: 2\r\n"), LAST)),
    "head": Case((Ask("c", 1, "HEAD", size=5000).raw(), Wait(b"\r\n\r\n"), LAST)),
    "head of chunks": Case((Ask("c", 1, "HEAD", "/chunked").raw(), Wait(b"\r\n\r\n"), LAST)),
    "no content": Case((Ask("c", 1, path="/nothing").raw(), Wait(b"\r\n\r\n"), LAST)),
    "not modified": Case((Ask("c", 1, path="/unchanged").raw(), Wait(b"\r\n\r\n"), LAST)),
    "stream": Case((Ask("c", 1, path="/stream", size=30).raw(), Wait(b"0\r\n\r\n"), LAST)),
    "gzip": Case((Ask("c", 1, path="/gzip", size=50_000).raw(), LAST)),
    "error of the server": Case((Ask("c", 1, path="/busy").raw(), Wait(SMALL.filler), LAST)),
    "the server says that it closes": Case((Ask("c", 1, path="/last").raw(),)),
    "1.0": Case((SMALL.raw(version="1.0"),)),
    "a FIN between two requests": Case((SMALL.raw(), Wait(SMALL.filler), Finish())),
    "a FIN within a second request": Case((SMALL.raw(), Wait(SMALL.filler), SMALL.raw()[:20], Finish())),
    "1.0 that wants to go on": Case(
        (SMALL.raw("Connection: keep-alive", version="1.0"), Wait(SMALL.filler), LAST), kinds=("aiohttp",)
    ),
    "pipeline": Case((PIPELINE + LAST,)),
    "bulk": Case((*(step for ask in BULK for step in (ask.raw(), Wait(ask.filler[-20:]))), LAST)),
    "bulk in a pipeline": Case((b"".join(ask.raw() for ask in BULK) + LAST,)),
    "bulk in a pipeline, in pieces": Case((*PIECES, LAST)),
    "byte by byte": Case((Slowly(PIPELINE + LAST),)),
    "empty lines": Case((b"\r\n" + SMALL.raw(), Wait(SMALL.filler), b"\r\n" + LAST), kinds=("httptools", "aiohttp")),
    "leave to send": Case((head_of(UPLOAD, "Expect: 100-continue"), Wait(b"100 "), UPLOAD.filler, LAST)),
    "refused before it is sent": Case(
        (
            head_of(Ask("c", 1, "POST", "/refuse", 1000)),
            Wait(b"413 "),
            Ask("c", 1, "POST", "/refuse", 1000).filler,
            LAST,
        ),
        {"early_response": 1},
    ),
    "two lengths": Case((SMALL.raw("Content-Length: 1", "Content-Length: 2", CLOSE) + b"x",), {"length": 1}),
    "length and chunks": Case(
        (SMALL.raw("Content-Length: 5", "Transfer-Encoding: chunked", CLOSE) + b"0\r\n\r\n",), {"length": 1}
    ),
    "bare line feed": Case((SMALL.raw(CLOSE).replace(b"test\r\n", b"test\n"),), {"syntax": 1}),
    "request line with a bare line feed": Case((SMALL.raw(CLOSE).replace(b"\r\n", b"\n"),), {"not_http": 1}),
    "folded field": Case((SMALL.raw("X-Long: a\r\n b", CLOSE),), {"syntax": 1}),
    "not HTTP": Case((b"\x16\x03\x01\x00\x05hello\r\n\r\n",), {"not_http": 1}),
}


@pytest.fixture(scope="module", params=KINDS)
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """Two servers that respond the same."""
    with Fleet(request.param, request.param, signed=False) as fleet:
        yield fleet


@pytest.mark.parametrize("name", CASES)
def test_a_conversation_is_the_same_as_without_following(fleet: Fleet, name: str) -> None:
    case = CASES[name]
    if fleet.servers[0].kind not in case.kinds:
        pytest.skip(f"{fleet.servers[0].kind} does not do that")
    before = fleet.pinned
    plain = converse(fleet.balancer.address("plain"), *case.steps)
    followed = converse(fleet.address, *case.steps)
    assert followed == plain
    assert plain.data
    pinned = {reason: count - before.get(reason, 0) for reason, count in fleet.pinned.items()}
    assert {reason: count for reason, count in pinned.items() if count} == case.pinned


def test_cases_end_with_the_last_response(fleet: Fleet) -> None:
    """The cases above are about whole conversations: these ones have an end that is known."""
    kind = fleet.servers[0].kind
    whole = {name: case for name, case in CASES.items() if case.steps[-1] == LAST and kind in case.kinds}
    assert len(whole) > 15
    heard = {name: converse(fleet.address, *case.steps).data for name, case in whole.items()}
    assert {name: data[-200:] for name, data in heard.items() if not data.endswith(END)} == {}


CURLS: dict[str, tuple[str, ...]] = {
    "get": (),
    "head": ("--head",),
    "1.0": ("--http1.0",),
    "upload that asks for leave": ("--data-binary", "@upload", "--header", "Expect: 100-continue"),
    "upload in chunks": ("--data-binary", "@upload", "--header", "Transfer-Encoding: chunked"),
    "put": ("--upload-file", "upload"),
    "delete": ("--request", "DELETE"),
    "close": ("--header", CLOSE),
}


@pytest.mark.parametrize("options", CURLS.values(), ids=CURLS)
@pytest.mark.parametrize("path", ["/echo", "/chunked", "/gzip", "/stream", "/nothing", "/busy", "/last"])
def test_curl_gets_the_same(fleet: Fleet, curl: str, tmp_path: Path, options: tuple[str, ...], path: str) -> None:
    (tmp_path / "upload").write_bytes(Ask("c", 1, size=2 * MIB).filler)
    outputs = []
    for listener in ("plain", "web"):
        targets = [fleet.origin_of(listener) + Ask("c", number, path=path, size=20).target for number in (1, 2)]
        each = ("--silent", "--show-error", "--include", "--raw", "--max-time", f"{PATIENCE:g}", *options)
        command = (curl, *each, targets[0], "--next", *each, targets[1])
        done = subprocess.run(command, capture_output=True, cwd=tmp_path, timeout=2 * PATIENCE)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert outputs[0].count(b"HTTP/1.1 ") + outputs[0].count(b"HTTP/1.0 ") >= 2


def test_a_websocket_stays_with_its_server(fleet: Fleet) -> None:
    async def chat() -> None:
        async with aiohttp.ClientSession(fleet.origin) as http, asyncio.timeout(PATIENCE):
            async with http.get(Ask("c", 1).target) as response:
                assert response.status == 200
            async with http.ws_connect("/ws") as socket:
                for number in range(20):
                    await socket.send_str(f"text {number} " + "x" * (number * 997))
                    assert (await socket.receive_str()).startswith(f"text {number} ")

    before = fleet.pinned.get("upgrade", 0)
    run(chat(), deadline=PATIENCE)
    assert fleet.pinned["upgrade"] == before + 1


def test_requests_reach_the_server_as_they_were_sent() -> None:
    """Order, case and spaces of fields, absolute targets, empty values: nothing is normalised."""
    sent = [
        b"GET /a?b=%20c#d HTTP/1.1\r\nHOST:  x \r\nx-B: 1\r\nX-b:2\r\nAccept:\r\nX-Utf: \xc3\xa9\r\n\r\n",
        b"POST http://other/a HTTP/1.1\r\nhost: x\r\ncontent-LENGTH: 005\r\nCookie: a=b; c=d\r\n\r\nhello",
        b"PURGE * HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n0005;a=b\r\nhello\r\n0\r\nT: 1\r\n\r\n",
        b"DELETE / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    ]
    came: list[bytes] = []

    def answer(peer: Peer) -> None:
        for request in sent:
            came.append(peer.receive(len(request)))
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        peer.drain()

    with Served(answer) as backend, Fleet() as fleet:
        fleet.balancer.reload(fleet.config(backends=[{"name": "raw", "address": str(backend)}]))
        with connect(fleet.address) as client:
            for request in sent:
                client.send(request)
                assert read_response(client) == (200, b"")
            wait_until(lambda: came == sent, what=lambda: came)
            assert fleet.pinned == {}


@pytest.mark.parametrize("number", [1, 3])
def test_a_client_that_finishes_behind_its_requests_gets_every_response(number: int) -> None:
    """The server sees the FIN, and only then responds."""
    requests = b"".join(Ask("c", each, "POST").raw() for each in range(number))
    responses = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole" * number
    came: list[bytes] = []

    def answer(peer: Peer) -> None:
        came.append(peer.read_all())
        peer.send(responses)

    with Served(answer) as backend, Fleet() as fleet:
        fleet.balancer.reload(fleet.config(backends=[{"name": "raw", "address": str(backend)}]))
        assert converse(fleet.address, requests, Finish()) == Heard(responses, End.FIN)
        assert came == [requests]
