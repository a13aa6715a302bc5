"""A check of several steps: each sends something and reads the reply, as lines or as frames of a known length.

Data that arrived before a step's request cannot be its reply and is discarded. The length of a reply is bounded, and
each byte is looked at once. ReplyError says which step failed, what was expected and what came.
"""

from __future__ import annotations

from l4lb.base.text import quoted
from l4lb.net.connection import Connection, ReplyError

ANSWER_MAX = 65536


class Dialogue:
    """Borrows the connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._heard = connection.heard
        self._left = ANSWER_MAX

    def listen(self, question: str, expected: str) -> None:
        """The peer speaks first: what comes next is the reply to `question`."""
        self._connection.question, self._connection.expected = question, expected
        self._left = ANSWER_MAX

    async def ask(self, question: str, data: bytes, expected: str) -> None:
        """Send `data`; `question` describes it in messages."""
        self.listen(question, expected)
        self._connection.forget()
        await self._connection.send(data)

    async def line(self) -> bytes:
        """The next line, without its line end."""
        looked = 0
        while (end := self._heard.find(b"\n", looked)) < 0:
            looked = len(self._heard)
            await self._more()
        taken = self._take(end + 1)
        return taken[:-2] if taken.endswith(b"\r\n") else taken[:-1]

    async def exactly(self, length: int) -> bytes:
        while len(self._heard) < length:
            await self._more()
        return self._take(length)

    def unexpected(self, came: bytes) -> ReplyError:
        """The error for a reply other than the expected one."""
        return ReplyError(f"{self._connection.question}: expected {self._connection.expected}, but {quoted(came)} came")

    def _take(self, length: int) -> bytes:
        taken = bytes(self._heard[:length])
        del self._heard[:length]
        return taken

    async def _more(self) -> None:
        data = await self._connection.receive()
        if not data:
            raise ReplyError(f"the connection ended, {unanswered(self._connection)}")
        self._left -= len(data)
        if self._left < 0:
            raise ReplyError(f"{self._connection.question}: the response is longer than {ANSWER_MAX // 1024} KiB")
        self._heard += data


def unanswered(connection: Connection) -> str:
    """What a check was waiting for when it ended, and what came instead."""
    question = f" to {connection.question}" if connection.question else ""
    if not connection.heard:
        return f"no answer{question}"
    expected = f": expected {connection.expected}" if connection.expected else ""
    return f"no complete response{question}{expected}, but {quoted(bytes(connection.heard))} came"
