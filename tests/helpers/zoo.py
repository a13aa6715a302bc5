"""Servers that are broken or hostile, each on a port of 127.0.0.1, in a process of their own.

`python -m tests.helpers.zoo` writes the ports by name as one line of JSON, and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import os
import socket
import struct
import subprocess
import sys
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Handler = Callable[[Reader, Writer], Awaitable[None]]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
OPEN = HEAD + b"Connection: close\r\n\r\n"
MIB = 2**20
H2_SETTINGS = b"\0\0\0\4\0\0\0\0\0"

ANIMALS: dict[str, Handler] = {}


def answering(name: str, first: bytes, again: bytes = b"") -> None:
    """A server that says `first` when it was asked, and then `again` without end, as fast as it can."""

    async def handle(reader: Reader, writer: Writer) -> None:
        await reader.read(65536)
        await _pour(writer, first, again)

    ANIMALS[name] = handle


def speaking(name: str, first: bytes, again: bytes = b"") -> None:
    """The same, but without being asked."""

    async def handle(_reader: Reader, writer: Writer) -> None:
        await _pour(writer, first, again)

    ANIMALS[name] = handle


async def _pour(writer: Writer, first: bytes, again: bytes) -> None:
    writer.write(first)
    await writer.drain()
    many = again * max(1, 65536 // max(1, len(again)))
    while again:
        writer.write(many)
        await writer.drain()


def body(data: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(data) + data


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


def watch_event(key: int) -> bytes:
    pair = {"key": b64encode(b"/l4lb/%d" % key).decode(), "value": b64encode(b"10.0.0.1:80").decode()}
    return json.dumps({"result": {"events": [{"kv": pair}]}}).encode() + b"\n"


def http() -> None:
    answering("interim", b"", b"HTTP/1.1 100 Continue\r\n\r\n")
    answering("hints", b"", b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n")
    answering("headers", HEAD, b"X: y\r\n")
    answering("header line", HEAD + b"X: ", b"y")
    answering("folded", HEAD + b"X: y\r\n", b" z\r\n")
    answering("status line", b"HTTP/1.1 200 ", b"O")
    answering("chunks", CHUNKED, b"1\r\n \r\n")
    answering("chunk line", CHUNKED + b"1;", b"x")
    answering("trailers", CHUNKED + b"0\r\n", b"X: y\r\n")
    answering("body", OPEN, b" ")
    answering("lines", OPEN, b"\n")
    answering("words", OPEN, b"{}\n")
    answering("long answer", HEAD + b"Content-Length: 99999999999999\r\n\r\n", b"[[")
    answering("two lengths", HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab")
    answering("bomb", HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b" " * 50 * MIB))
    answering("redirect", b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")
    answering("upgrade", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", b"\x81\x01x")
    answering("unauthorised", b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    answering("gone", b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")


def documents() -> None:
    answering("deep", body(b"[" * MIB))
    answering("deep objects", body(b'{"a":' * MIB))
    answering("digits", body(b"[" + b"9" * MIB + b"]"))
    answering("numbers", body(b"[" + b"1," * 400_000 + b"1]"))
    answering("empty lists", body(b"[" + b"[]," * 200_000 + b"[]]"))
    answering("keys", body(b"{" + b",".join(b'"%d":0' % number for number in range(200_000)) + b"}"))
    answering("targets", body(json.dumps([{"targets": [f"10.0.0.1:{port}" for port in range(1, 60_000)]}]).encode()))
    answering(
        "odd types", body(b'{"kvs":[1,{"key":[[[]]],"value":{}}],"items":[{"metadata":7}],"header":{"revision":[]}}')
    )
    answering("odd groups", body(b'[{"targets":{"a":1},"labels":[[]]},{"targets":[null,1,[],{}]}]'))
    answering("many keys", body(json.dumps({"kvs": [{"key": "YQ==", "value": "YQ=="}] * 100_000}).encode()))
    slices = [{"metadata": {"name": str(one)}, "endpoints": [{"targetRef": "x", "addresses": 3}]} for one in range(999)]
    answering("odd slices", body(json.dumps({"metadata": {}, "items": slices}).encode()))
    answering("events", body(b'{"header":{"revision":"1"}}') + OPEN, watch_event(1))
    answering("labels", body(b"q{" + b"a" * 60_000 + b"} 1\n"))
    answering("label lines", body((b"q{" + b"a=" * 30_000 + b"} 1\n") * 60))
    answering("series", body(b"q 1\n" * MIB))
    answering("binary", OPEN, bytes(range(256)))


def others() -> None:
    speaking("ssh", b"SSH-2.0-OpenSSH_9.2\r\n", b"\0")
    speaking("flood", b"", bytes(range(256)))
    speaking("newlines", b"", b"\r\n")
    speaking("one line", b"", b"a")
    speaking("tls alert", b"\x15\x03\x03\x00\x02\x02\x28")
    speaking("tls junk", b"\x16\x03\x03\x40\x00" + b"\x02\x00\x3f\xfc" + b"\xff" * 16380, b"\xff")
    speaking("tls records", b"", b"\x16\x03\x03\x00\x00")
    preface = H2_SETTINGS + frame(4, 1, 0, b"")
    speaking("h2 pings", preface, frame(6, 0, 0, b"12345678"))
    speaking("h2 settings", preface, H2_SETTINGS)
    speaking("h2 windows", preface, frame(8, 0, 0, b"\0\0\0\1"))
    speaking("h2 priorities", preface, frame(2, 0, 1, b"\0\0\0\0\1"))
    speaking("h2 empty data", preface + frame(1, 4, 1, b"\x88"), frame(0, 0, 1, b""))
    speaking("h2 padding", preface + frame(1, 4, 1, b"\x88"), frame(0, 8, 1, b"\xff" + b"\0" * 255))
    speaking("h2 continuation", preface + frame(1, 0, 1, b"\x88"), frame(9, 0, 1, b""))
    speaking(
        "h2 header bomb",
        preface + frame(1, 0, 1, b"\x88\x40\x01a\x7f\xa1\x1d" + b"b" * 3872),
        frame(9, 0, 1, b"\xbe" * 16384),
    )
    speaking("h2 integers", preface + frame(1, 0, 1, b"\x7f"), frame(9, 0, 1, b"\xff" * 16384))
    speaking("h2 unknown", preface, frame(99, 0, 0, b""))
    speaking("h2 goaway", preface, frame(7, 0, 0, b"\0" * 8))


async def silent(reader: Reader, _writer: Writer) -> None:
    while await reader.read(65536):
        pass


async def drip(reader: Reader, writer: Writer) -> None:
    await reader.read(65536)
    for byte in HEAD + b"\r\n" + b" " * 99_999:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.001)


async def ends(_reader: Reader, _writer: Writer) -> None:
    pass


async def ends_asked(reader: Reader, _writer: Writer) -> None:
    await reader.read(65536)


def resetting(first: bytes) -> Handler:
    async def handle(reader: Reader, writer: Writer) -> None:
        await reader.read(65536)
        writer.write(first)
        await writer.drain()
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return handle


def fill() -> None:
    http()
    documents()
    others()
    ANIMALS.update({"silent": silent, "drip": drip, "ends": ends, "ends when asked": ends_asked})
    ANIMALS.update(
        {f"resets after {len(part)}": resetting(part) for part in (b"", b"HTTP", HEAD, CHUNKED + b"5\r\nab")}
    )


def plain(question: bytes) -> bytes:
    """The question without what is behind it."""
    end = question.index(b"\0", 12) + 5
    return question[12:end]


def reply(question: bytes, flags: bytes, answers: int, records: bytes, number: bytes = b"") -> bytes:
    counts = b"\0\1" + struct.pack("!H", answers) + b"\0\0\0\0"
    return (number or question[:2]) + flags + counts + plain(question) + records


OK, TRUNCATED, REFUSED = b"\x81\x80", b"\x83\x80", b"\x81\x85"
LARGE_TEXT = b"\xc0\x0c\0\x10\0\1\0\0\0\0\x40\0" + (b"\xff" + b"a" * 255) * 64

NAMES: dict[str, Callable[[bytes], list[bytes]]] = {
    "silent": lambda question: [],
    "junk": lambda question: [os.urandom(500)],
    "junk with its number": lambda question: [question[:2] + os.urandom(60000)] * 20,
    "other numbers": lambda question: [reply(question, OK, 0, b"", bytes([question[0] ^ 255, 0]))] * 200,
    "too few": lambda question: [reply(question, OK, 65535, b"\xc0\x0c\0\1" * 100)],
    "loop": lambda question: [reply(question, OK, 1, b"\xc0" + bytes([len(plain(question)) + 12]))],
    "truncated": lambda question: [reply(question, TRUNCATED, 0, b"")],
    "refused": lambda question: [reply(question, REFUSED, 0, b"")],
    "aliases": lambda question: [alias_chain(question)],
    "many": lambda question: [many_addresses(question)],
    "text": lambda question: [reply(question, OK, 1, LARGE_TEXT)],
}
"""How servers of names answer a question."""


def alias_chain(question: bytes) -> bytes:
    """A name that is another, and that again another, without end."""
    links = [bytes([1, 97 + number % 26, 1, 97 + number // 26, 0]) for number in range(200)]
    first = b"\xc0\x0c"
    records = b""
    for link in links:
        records += first + b"\0\5\0\1\0\0\0\1" + struct.pack("!H", len(link)) + link
        first = link
    return reply(question, OK, len(links), records)


def many_addresses(question: bytes) -> bytes:
    records = b"".join(b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\x0a" + struct.pack("!I", number)[1:] for number in range(3500))
    return reply(question, OK, 3500, records)


class _Names(asyncio.DatagramProtocol):
    def __init__(self, answer: Callable[[bytes], list[bytes]]) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for answer in self._answer(data):
            with contextlib.suppress(OSError):
                self._transport.sendto(answer[:65000], addr)  # type: ignore[attr-defined]


async def _serve(name: str, handler: Handler) -> int:
    async def handle(reader: Reader, writer: Writer) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    return port


async def _main() -> None:
    logging.disable()  # clients go without a word
    fill()
    ports = {name: await _serve(name, handler) for name, handler in ANIMALS.items()}
    loop = asyncio.get_running_loop()
    for name, answer in NAMES.items():
        transport, _ = await loop.create_datagram_endpoint(lambda answer=answer: _Names(answer), ("127.0.0.1", 0))
        ports[f"names: {name}"] = transport.get_extra_info("sockname")[1]
    sys.stdout.write(f"{json.dumps(ports)}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)


@contextlib.contextmanager
def zoo() -> Iterator[dict[str, int]]:
    """Ports by name. Those of `NAMES` are UDP, and are called `names: …`."""
    command = [sys.executable, "-m", "tests.helpers.zoo"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(30)


if __name__ == "__main__":
    asyncio.run(_main())
