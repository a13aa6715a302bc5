"""The data plane sees messages of HTTP/1 where llhttp and h11 see them, or stops following them before that point."""

from __future__ import annotations

import random

import pytest

from ..helpers.http1_reader import Report, read
from .http1_parsers import Boundaries, h11_reads, llhttp
from .http1_streams import GET, OK, Stream, by_hand, changed

SPLIT_UP_TO = 200
"""Longer streams are not split at every place."""


def reports(stream: Stream, piece: int | None = None) -> list[Report]:
    return read(stream.data, responses=stream.kind != "q", to_head=stream.kind == "h", piece=piece)


def parsers(stream: Stream) -> dict[str, Boundaries]:
    """llhttp can't be told that a response is to HEAD, not through httptools."""
    responses, to_head = stream.kind != "q", stream.kind == "h"
    seen = {"h11": h11_reads(stream.data, responses=responses, to_head=to_head)}
    if not to_head:
        seen["llhttp"] = llhttp(stream.data, responses=responses)
    return seen


def disagreement(found: list[Report], seen: Boundaries) -> str | None:
    """Up to where either gave up. A message after which the other one closes is the last here too."""
    until = next((report.at for report in found if report.event == "unusual"), seen.known_until + 1)
    until = min(until, seen.known_until + (seen.why == "the end"))
    ours = [(report.event, report.at) for report in found if report.event in ("head", "end") and report.at < until]
    theirs = [boundary for boundary in seen.found if boundary[1] < until]
    if ours != theirs:
        return f"{ours}, not {theirs} ({seen.why})"
    closes = [report.closes for report in found if report.event == "end" and report.at < until]
    if any(they and not we for we, they in zip(closes, seen.closes, strict=False)):
        return f"closes {closes}, not {seen.closes}"
    return None


def check(stream: Stream) -> None:
    found = reports(stream)
    for name, seen in parsers(stream).items():
        assert disagreement(found, seen) is None, f"{name}: {stream}"


def test_streams_written_by_hand_have_the_same_boundaries_or_are_pinned() -> None:
    for stream in by_hand():
        check(stream)


def test_streams_written_by_hand_have_the_same_boundaries_in_every_split() -> None:
    for stream in by_hand():
        whole = reports(stream)
        for piece in range(1, min(len(stream.data), SPLIT_UP_TO)):
            assert reports(stream, piece) == whole, stream


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_changed_streams_have_the_same_boundaries_or_are_pinned(seed: int) -> None:
    source = random.Random(seed)
    streams = by_hand()
    for _ in range(5000):
        check(changed(source, streams))


@pytest.mark.parametrize(
    "stream",
    [
        Stream("q", (GET + b"\r\n") * 3),
        Stream("q", b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + GET + b"Connection: close\r\n\r\n"),
        Stream("q", GET + b"Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nT: x\r\n\r\n" + GET + b"\r\n"),
        Stream("r", (OK + b"Content-Length: 3\r\n\r\nabc") * 3),
        Stream("r", OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + OK + b"\r\nabc"),
        Stream(
            "r",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 304 A\r\nContent-Length: 3\r\n\r\n",
        ),
        Stream("h", (OK + b"Content-Length: 3\r\n\r\n") * 2 + OK + b"Transfer-Encoding: chunked\r\n\r\n"),
    ],
)
def test_plain_messages_are_never_pinned(stream: Stream) -> None:
    found = reports(stream)
    assert "unusual" not in [report.event for report in found]
    for seen in parsers(stream).values():
        assert seen.why in ("the end", "the connection closes")
        assert [(report.event, report.at) for report in found if report.event != "began"] == seen.found
        assert [report.closes for report in found if report.event == "end"] == seen.closes
