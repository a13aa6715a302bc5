"""Answers of HTTP/1.1 are read leniently in form and strictly in amounts, however they are cut into pieces."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.bounded.response import FRAMING_MAX, HEAD_MAX, INTERIM_MAX, ResponseError, ResponseParser

OK = b"HTTP/1.1 200 OK\r\n"


def answered(data: bytes, piece: int = 0, *, end: bool = False) -> tuple[ResponseParser, bytes]:
    answer, body = ResponseParser(), b""
    size = piece or len(data) or 1
    for at in range(0, len(data), size):
        if answer.ended:
            break
        body += answer.feed(data[at : at + size])
    if end:
        answer.end()
    return answer, body


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("piece", [1, 2, 7, 0])
@pytest.mark.parametrize(
    ("data", "body", "reusable"),
    [
        (OK + b"Content-Length: 3\r\n\r\nabc", b"abc", True),
        (b"HTTP/1.1 200\nContent-length:3\n\nabc", b"abc", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc", b"abc", True),
        (OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n", b"", False),
        (CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", b"abcde", True),
        (CHUNKED + b"03\nabc\n0\nTrailer: 1\n\n", b"abc", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b"", True),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nLink: y\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\na",
            b"a",
            True,
        ),
    ],
)
def test_an_answer_is_read_however_it_comes(data: bytes, body: bytes, reusable: bool, piece: int) -> None:
    answer, read = answered(data, piece)
    assert (answer.ended, read, answer.reusable) == (True, body, reusable)


def test_without_a_length_the_end_of_the_stream_is_that_of_the_body() -> None:
    answer, body = answered(OK + b"\r\nabc", end=True)
    assert (answer.ended, body, answer.reusable) == (True, b"abc", False)


def test_what_comes_behind_an_answer_keeps_its_connection_from_being_used_again() -> None:
    answer, body = answered(OK + b"Content-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\n\r\n")
    assert (answer.ended, body, answer.reusable) == (True, b"a", False)


ENDLESS = [
    (b"HTTP/1.1 100 Continue\r\n\r\n" * (INTERIM_MAX + 1), "answers 100 without a final response"),
    (b"HTTP/1.1 101 Switching\r\n\r\n", "answers 101"),
    (OK + b"a: b\r\n" * HEAD_MAX, "head of the response is larger"),
    (OK + b"a" * (HEAD_MAX + 1), "head of the response is larger"),
    (OK + b"a:b\r\n" * 300 + b"\r\n", "more than 256 headers"),
    (b"\x16\x03\x01\x02\x00\x01", "is not HTTP"),
    (b"SSH-2.0-OpenSSH\r\n", "is not HTTP: 'S"),
    (b"HTTP/2 200\r\n\r\n", "is not HTTP"),
    (b"HTTP/1.1 99999 OK\r\n\r\n", "is not HTTP"),
    (OK + b"Content-Length: 1, 2\r\n\r\n", "length '1, 2'"),
    (OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", "length"),
    (OK + b"Content-Encoding: gzip\r\n\r\n", "compressed"),
    (OK + b"Transfer-Encoding: gzip\r\n\r\n", "unknown transfer encoding 'gzip'"),
    (CHUNKED + b"zz\r\n", "chunk of the size 'zz'"),
    (CHUNKED + b"1" * 2000, "endless line"),
    (CHUNKED + b"1;" + b"x" * 2000, "endless line"),
    (CHUNKED + b"1\r\nabc\r\n", "longer than its size"),
    (CHUNKED + b"1\r\na\r\n" * FRAMING_MAX, "too many chunks"),
    (CHUNKED + b"0\r\n" + b"a: b\r\n" * FRAMING_MAX, "too many chunks"),
]


@pytest.mark.parametrize("piece", [1, 16384])
@pytest.mark.parametrize(("data", "message"), ENDLESS, ids=range(len(ENDLESS)))
def test_answers_that_are_none_or_too_much_are_refused(data: bytes, message: str, piece: int) -> None:
    begun = time.thread_time()
    with pytest.raises(ResponseError, match=message) as caught:
        answered(data, piece)
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()
    assert time.thread_time() - begun < 2


@pytest.mark.parametrize("data", [b"", OK, OK + b"Content-Length: 3\r\n\r\nab", CHUNKED + b"3\r\nabc\r\n"])
def test_an_answer_that_ends_too_early_is_none(data: bytes) -> None:
    with pytest.raises(ResponseError, match="the connection ended"):
        answered(data, end=True)


@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_are_an_answer_or_refused(tail: bytes, piece: int) -> None:
    for head in (b"", OK, CHUNKED, CHUNKED + b"2\r\nab\r\n"):
        with contextlib.suppress(ResponseError):
            answered(head + tail, piece, end=True)
