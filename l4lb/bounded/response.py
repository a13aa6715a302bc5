"""A parser for one HTTP/1.1 response that arrives in pieces. Pure.

It is lenient about form, like curl and browsers: lines may end in LF alone, HTTP/1.0 is fine. It is strict about
amounts: the head has a maximum size, the number of interim responses is limited, and chunk framing must not outweigh
the body. Every byte is looked at once.

Source: https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

import re
from collections.abc import Callable

from l4lb.base.text import QUOTED_MAX, quoted

HEAD_MAX = 64 * 1024
"""Bytes of a head, including interim responses before it."""

HEADERS_MAX = 256
INTERIM_MAX = 8
"""Responses such as `100 Continue` before the final one."""

STATUS_LINE_MAX = 1024
"""Bytes that are searched for the end of the status line before the head is complete."""

CHUNK_LINE_MAX = 1024
FRAMING_MAX = 64 * 1024
"""Bytes of chunk framing, in addition to as many as the body itself has."""

_HEAD_END = re.compile(rb"\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/[0-9]\.([0-9]) {1,8}([1-9][0-9][0-9])(?=[ \r\n]|$)")
_BLANK = re.compile(rb"[\r\n]*+")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*+(?:;|$)")
_LENGTH = re.compile(r"[0-9]{1,15}", re.ASCII)
_BEGIN = b"HTTP/"
_EMPTY = frozenset({204, 304})


class ResponseError(ValueError):
    """The response is malformed or too large. `str()` is one short line."""


class ResponseParser:
    """`status` is 0 until the head is complete. `ended` means the response is complete, `reusable` that another may
    follow on the connection. Header names are lower case; the first of repeated headers counts."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.ended = False
        self.begun = False
        self._persistent = False
        self._buffer = bytearray()
        self._searched = 0
        self._interim = 0
        self._left = 0
        self._body_bytes = 0
        self._framing_bytes = 0
        self._step: Callable[[int, bytearray], int | None] = self._head

    @property
    def reusable(self) -> bool:
        return self.ended and self._persistent and not self._buffer

    @property
    def early_status(self) -> int:
        """The status as soon as its line is complete; 0 before that and for an interim response."""
        return self.status or early_status(self._buffer)

    def feed(self, data: bytes) -> bytes:
        """The bytes of the body in `data`. ResponseError if this is not a valid response."""
        self.begun = True
        self._buffer += data
        body = bytearray()
        at = 0
        while not self.ended and (following := self._step(at, body)) is not None:
            at = following
        del self._buffer[:at]
        self._searched = max(0, self._searched - at)
        self._body_bytes += len(body)
        self._framing_bytes += at - len(body)
        if self._framing_bytes > FRAMING_MAX + HEAD_MAX + self._body_bytes:
            raise ResponseError("the response has too many chunks")
        return bytes(body)

    def end(self) -> None:
        """The stream has ended. ResponseError if the response is incomplete."""
        if not self.begun:
            raise ResponseError("the connection ended without a response")
        if self._step != self._until_end:
            raise ResponseError("the connection ended within the response")
        self.ended = True

    # ---- steps: where the next one begins, or None while bytes are missing ------------------------------------------

    def _head(self, at: int, _body: bytearray) -> int | None:
        if (blank := _BLANK.match(self._buffer, at)) is not None and blank.end() > at:
            return blank.end()
        begin = bytes(self._buffer[at : at + len(_BEGIN)])
        if not _BEGIN.startswith(begin) and not begin.startswith(_BEGIN):
            raise ResponseError(f"the response is not HTTP: {quoted(bytes(self._buffer[at : at + QUOTED_MAX + 1]))}")
        found = _HEAD_END.search(self._buffer, max(at, self._searched))
        size = self._framing_bytes + (len(self._buffer) if found is None else found.end())
        if size > HEAD_MAX:
            raise ResponseError(f"the head of the response is larger than {HEAD_MAX // 1024} KiB")
        if found is None:
            self._searched = max(at, len(self._buffer) - 2)
            return None
        self._read_head(bytes(self._buffer[at : found.start()]))
        return found.end()

    def _read_head(self, head: bytes) -> None:
        first, *lines = head.split(b"\n")
        line = _STATUS_LINE.match(first)
        if line is None:
            raise ResponseError(f"the response is not HTTP: {quoted(first)}")
        status = int(line[2])
        if status < 200:
            self._interim += 1
            if status == 101 or self._interim > INTERIM_MAX:
                raise ResponseError(f"the server answers {status} without a final response")
            return
        if len(lines) > HEADERS_MAX:
            raise ResponseError(f"the response has more than {HEADERS_MAX} headers")
        self.status = status
        for name, colon, value in (item.decode("latin-1").partition(":") for item in lines):
            if colon:
                self.headers.setdefault(name.strip().lower(), value.strip())
        if self.headers.get("content-encoding", "identity").lower() != "identity":
            raise ResponseError("the response is compressed although that was not requested")
        connection = self.headers.get("connection", "").lower()
        self._persistent = "close" not in connection and (line[1] != b"0" or "keep-alive" in connection)
        self._frame()

    def _frame(self) -> None:
        """Decide from the head how the body is framed."""
        coding, length = self.headers.get("transfer-encoding", ""), _agreed(self.headers.get("content-length"))
        if self.status in _EMPTY:
            self.ended = True
        elif coding.lower() == "chunked":
            self._step = self._chunk_size
        elif coding.lower() not in ("", "identity"):
            raise ResponseError(f"the response has the unknown transfer encoding {quoted(coding.encode())}")
        elif length is None:
            self._persistent = False
            self._step = self._until_end
        elif _LENGTH.fullmatch(length):
            self._left = int(length)
            self.ended = self._left == 0
            self._step = self._counted
        else:
            raise ResponseError(f"the response has the length {quoted(length.encode())}")

    def _until_end(self, at: int, body: bytearray) -> int | None:
        return self._take(at, len(self._buffer) - at, body)

    def _counted(self, at: int, body: bytearray) -> int | None:
        following = self._take(at, self._left, body)
        self.ended = self._left == 0
        return following

    def _take(self, at: int, most: int, body: bytearray) -> int | None:
        size = min(most, len(self._buffer) - at)
        if size == 0:
            return None
        body += self._buffer[at : at + size]
        self._left -= size
        return at + size

    def _chunk_size(self, at: int, _body: bytearray) -> int | None:
        line, following = self._line(at)
        if following is None:
            return None
        found = _CHUNK_SIZE.match(line)
        if found is None:
            raise ResponseError(f"the response has a chunk of the size {quoted(line)}")
        self._left = int(found[1], 16)
        self._step = self._chunk if self._left else self._trailer
        return following

    def _chunk(self, at: int, body: bytearray) -> int | None:
        following = self._take(at, self._left, body)
        if self._left == 0:
            self._step = self._chunk_end
        return following

    def _chunk_end(self, at: int, _body: bytearray) -> int | None:
        line, following = self._line(at)
        if line:
            raise ResponseError("the response has a chunk that is longer than its size")
        self._step = self._step if following is None else self._chunk_size
        return following

    def _trailer(self, at: int, _body: bytearray) -> int | None:
        line, following = self._line(at)
        self.ended = following is not None and not line
        return following

    def _line(self, at: int) -> tuple[bytes, int | None]:
        """The line that begins at `at`, without its line end, and the position after it."""
        end = self._buffer.find(b"\n", max(at, self._searched), at + CHUNK_LINE_MAX)
        if end < 0:
            if len(self._buffer) - at >= CHUNK_LINE_MAX:
                raise ResponseError("the response has an endless line between its chunks")
            self._searched = len(self._buffer)
            return b"", None
        return bytes(self._buffer[at:end]).rstrip(b"\r"), end + 1


def early_status(begin: bytes | bytearray) -> int:
    """The status at the start of a response, if the line is complete and the response is not interim; else 0."""
    line = _STATUS_LINE.match(begin)
    if line is None or begin.find(b"\n", line.start(2), STATUS_LINE_MAX) < 0:
        return 0
    status = int(line[2])
    return status if status >= 200 or status == 101 else 0


def _agreed(value: str | None) -> str | None:
    """The value of a header that proxies may have joined into a list: if all items are equal, that item."""
    parts = {part.strip() for part in (value or "").split(",")}
    return parts.pop() if value is not None and len(parts) == 1 else value
