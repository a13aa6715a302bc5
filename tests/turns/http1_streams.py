"""Streams of HTTP/1 for the comparison of parsers: written by hand, and changed at random."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

INPUTS = Path(__file__).parents[1] / "c/fuzz/http1"
"""What the fuzzer begins with; the first byte says the kind."""


@dataclass(frozen=True, slots=True)
class Stream:
    kind: str
    """`q`: requests, `r`: responses, `h`: responses to HEAD."""
    data: bytes


GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"

REQUEST_LINES = (
    *(b"GET / HTTP/1.0", b"GET / HTTP/1.2", b"GET / HTTP/2.0", b"GET /", b"GET  / HTTP/1.1", b"GET /  HTTP/1.1"),
    *(
        b"GET / HTTP/1.1 ",
        b"GET\t/ HTTP/1.1",
        b" GET / HTTP/1.1",
        b"get / HTTP/1.1",
        b"GET / http/1.1",
        b"G@T / HTTP/1.1",
    ),
    *(
        b"GET * HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"GET http://a/ HTTP/1.1",
        b"GET /\xc3\xa4 HTTP/1.1",
        b"GET / HTTP/01.1",
    ),
    *(b"POST / HTTP/1.1", b"PROPFIND / HTTP/1.1", b"PRI * HTTP/1.1", b"GET /a b HTTP/1.1", b"GET /\x00 HTTP/1.1"),
    *(b"HEAD / HTTP/1.1", b"CONNECT a:1 HTTP/1.1", b"\r\nGET / HTTP/1.1", b"\nGET / HTTP/1.1", b"\rGET / HTTP/1.1"),
)

STATUS_LINES = (
    *(b"HTTP/1.1 100 Continue", b"HTTP/1.1 102 a", b"HTTP/1.1 103 a", b"HTTP/1.1 104 a", b"HTTP/1.1 199 a"),
    *(b"HTTP/1.1 204 a", b"HTTP/1.1 205 a", b"HTTP/1.1 304 a", b"HTTP/1.1 200", b"HTTP/1.1 200 ", b"HTTP/1.1  200 OK"),
    *(
        b"HTTP/1.0 200 OK",
        b"HTTP/1.2 200 OK",
        b"HTTP/2 200",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 099 OK",
    ),
    *(b"HTTP/1.1 600 OK", b"HTTP/1.1 200 \xe4", b"HTTP/1.1 200 O\tK", b"HTTP/1.1 200 O\x01K", b"HTTP/1.1\t200 OK"),
    *(b"ICY 200 OK", b"http/1.1 200 OK", b"\r\nHTTP/1.1 200 OK", b"HTTP/1.1 404 Not Found", b"HTTP/1.1 408 a"),
)

FIELDS = (
    *(b"Content-Length: 3", b"Content-Length: 03", b"Content-Length: +3", b"Content-Length: -3", b"Content-Length: 3 "),
    *(
        b"Content-Length:3",
        b"Content-Length:\t3",
        b"Content-Length: 3\t",
        b"Content-Length: 3,3",
        b"Content-Length: 3, 4",
    ),
    *(b"Content-Length: 0x3", b"Content-Length: 3.0", b"Content-Length: 3 3", b"Content-Length: ", b"Content-Length:"),
    *(b"Content-Length: 3\r\nContent-Length: 3", b"Content-Length: 3\r\nContent-Length: 4", b"Content-Length: 3;"),
    *(
        b"Content-Length : 3",
        b" Content-Length: 3",
        b"Content-Length: 3\r\n ",
        b"Content-Length\r\n: 3",
        b"Content_Length: 3",
    ),
    *(b"Content-Length: 9223372036854775807", b"Content-Length: 9223372036854775808", b"Content-Length: " + b"9" * 30),
    *(b"Content-Length: 3\x00", b"Content-Length: \x0b3", b"Content-Length: 3\x0c", b"Content-Length: \xa03"),
    *(
        b"Transfer-Encoding: chunked",
        b"transfer-encoding:CHUNKED",
        b"Transfer-Encoding: chunked ",
        b"Transfer-Encoding: x",
    ),
    *(
        b"Transfer-Encoding: chunked\t",
        b"Transfer-Encoding:\tchunked",
        b"Transfer-Encoding: chunked,",
        b"Transfer-Encoding:",
    ),
    *(b"Transfer-Encoding: ,chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, gzip"),
    *(b"Transfer-Encoding: chunked;q=1", b'Transfer-Encoding: "chunked"', b"Transfer-Encoding: identity"),
    *(b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    *(
        b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding: \x0bchunked",
    ),
    *(b"Transfer-Encoding: chunked\r\nContent-Length: 3", b"Content-Length: 3\r\nTransfer-Encoding: chunked"),
    *(
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunkedx",
        b"Transfer-Encoding:\r\n chunked",
        b"TE: chunked",
    ),
    *(
        b"Connection: close",
        b"Connection: keep-alive",
        b"Connection: Close , te",
        b"Connection: te\r\nConnection: close",
    ),
    *(
        b"Connection: close\r\nConnection: keep-alive",
        b"Connection: keep-alive, close",
        b"Connection: closed",
        b"Connection:",
    ),
    *(
        b"Connection: te,,close",
        b"Connection: close;x",
        b"Connection: close x",
        b'Connection: "close"',
        b"Connection: xclose",
    ),
    *(b"Connection: \tclose\t", b"Connection: ,close,", b"Proxy-Connection: close", b"Keep-Alive: timeout=5"),
    *(b"Upgrade: websocket\r\nConnection: Upgrade", b"Upgrade: h2c", b"Connection: Upgrade", b"Expect: 100-continue"),
    *(
        b"A: b\r\n c",
        b"A: b\rc",
        b"A: b\nC: d",
        b"A: b\x00",
        b"A: b\x01",
        b"A:",
        b": b",
        b"A",
        b"A\xe4: b",
        b"A: \xe4",
        b"A: \x7f",
    ),
    *(b"A b: c", b"A\t: b", b"A\x00: b", b"", b"Trailer: x", b"X" * 300 + b": y", b"A: " + b"x" * 300),
)

CHUNKS = (
    *(
        b"3\r\nabc\r\n0\r\n\r\n",
        b"003\r\nabc\r\n000\r\n\r\n",
        b"A\r\n0123456789\r\n0\r\n\r\n",
        b"a\r\n0123456789\r\n0\r\n\r\n",
    ),
    *(
        b"3;\r\nabc\r\n0\r\n\r\n",
        b"3;a\r\nabc\r\n0\r\n\r\n",
        b'3;a="b;c"\r\nabc\r\n0;d\r\n\r\n',
        b"3 ;a\r\nabc\r\n0\r\n\r\n",
    ),
    *(
        b"3;a=\rb\r\nabc\r\n0\r\n\r\n",
        b"3;a=\nb\r\nabc\r\n0\r\n\r\n",
        b'3;a="\r\n"\r\nabc\r\n0\r\n\r\n',
        b"3\t\r\nabc\r\n0\r\n\r\n",
    ),
    *(b"3 \r\nabc\r\n0\r\n\r\n", b" 3\r\nabc\r\n0\r\n\r\n", b"+3\r\nabc\r\n0\r\n\r\n", b"0x3\r\nabc\r\n0\r\n\r\n"),
    *(
        b"3\nabc\n0\n\n",
        b"3\r\nabc0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\r\nab\r\n0\r\n\r\n",
        b"3\r\nabc\n0\r\n\r\n",
    ),
    *(
        b"3\r\nabc\r\r\n0\r\n\r\n",
        b"\r\n0\r\n\r\n",
        b"0\r\nA: b\r\n\r\n",
        b"0\r\nA : b\r\n\r\n",
        b"0\r\nA: b\r\n c\r\n\r\n",
    ),
    *(
        b"0\r\nContent-Length: 3\r\n\r\nabc",
        b"0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"0\r\nConnection: close\r\n\r\n",
    ),
    *(
        b"0\n\r\n",
        b"0\r\n\n",
        b"0\r\nA\r\n\r\n",
        b"0000000000000000\r\n\r\n",
        b"00000000000000000\r\n\r\n",
        b"-1\r\n\r\n",
    ),
    *(
        b"7fffffffffffffff\r\na",
        b"8000000000000000\r\na",
        b"ffffffffffffffff\r\na",
        b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    ),
    *(
        b"3_\r\nabc\r\n0\r\n\r\n",
        b"3g\r\nabc\r\n0\r\n\r\n",
        b"\r\n",
        b"3;\xe4\r\nabc\r\n0\r\n\r\n",
        b"3;\x01\r\nabc\r\n0\r\n\r\n",
    ),
)


def by_hand() -> list[Stream]:
    """Each oddity with a message behind it, which shows where the first one ended."""
    streams = [Stream("q", line + b"\r\nHost: a\r\n\r\n" + GET + b"\r\n") for line in REQUEST_LINES]
    streams += [Stream(kind, line + b"\r\n\r\n" + OK + b"\r\n") for line in STATUS_LINES for kind in "rh"]
    streams += [Stream("r", line + b"\r\nContent-Length: 3\r\n\r\nabc" + OK + b"\r\n") for line in STATUS_LINES]
    for field in FIELDS:
        for version in (b"1.0", b"1.1"):
            for body in (b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n"):
                first = b"POST / HTTP/" + version + b"\r\nHost: a\r\n" + field + b"\r\n\r\n"
                streams.append(Stream("q", first + body + GET + b"\r\n"))
                first = b"HTTP/" + version + b" 200 OK\r\n" + field + b"\r\n\r\n"
                streams += [Stream(kind, first + body + OK + b"\r\n") for kind in "rh"]
    streams += [Stream("q", GET + CHUNKED + chunks + GET + b"\r\n") for chunks in CHUNKS]
    streams += [Stream("r", OK + CHUNKED + chunks + OK + b"\r\n") for chunks in CHUNKS]
    return streams + inputs()


def inputs() -> list[Stream]:
    read = [path.read_bytes() for path in sorted(INPUTS.iterdir())]
    return [Stream(chr(data[0]), data[1:].replace(b"HTTP/1.1\r\n\r\n", GET[6:] + b"\r\n")) for data in read]


TELLING = (
    *(
        b"\r\n",
        b"\r",
        b"\n",
        b" ",
        b"\t",
        b",",
        b":",
        b";",
        b"0",
        b"9",
        b"f",
        b"\xff",
        b"\x7f",
        b"+",
        b"-",
        b"=",
        b'"',
        b"\\",
    ),
    *(
        b"\x00",
        b"\x0b",
        b"\x0c",
        b"\x1f",
        b"\x80",
        b"_",
        b"A",
        b"chunked",
        b"close",
        b"keep-alive",
        b"identity",
        b"HEAD ",
    ),
    *(
        b"HTTP/1.0",
        b"\r\n\r\n",
        b"\r\n X: y",
        b" 100 ",
        b" 150 ",
        b" 204 ",
        b" 304 ",
        b"00000000",
        b"0x",
        b";a",
        b';a="b"',
    ),
)


def changed(source: random.Random, streams: list[Stream]) -> Stream:
    """One of them with up to three changes: bytes replaced, removed, or inserted, some of them whole fields."""
    stream = source.choice(streams)
    data = stream.data
    for _ in range(source.randint(1, 3)):
        at = source.randrange(len(data) + 1)
        line_end = max(data.find(b"\r\n", at), 0)
        other = source.choice(streams).data
        from_ = source.randrange(len(other) or 1)
        data = source.choice(
            (
                data[:at] + source.randbytes(1) + data[at + 1 :],
                data[:at] + data[at + source.randint(1, 4) :],
                data[:at] + other[from_ : from_ + source.randint(1, 40)] + data[at:],
                data[:line_end] + source.choice(TELLING) + data[line_end:],
                data[:line_end] + b"\r\n" + source.choice(FIELDS) + data[line_end:],
                data[:at] + source.choice(TELLING) + data[at + source.randint(0, 1) :],
            )
        )
    return Stream(stream.kind, data)
