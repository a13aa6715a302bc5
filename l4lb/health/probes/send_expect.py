"""send_expect: says what the script says, and looks for its answers, however they are cut into pieces.

What came before something is sent is forgotten: it cannot be an answer to that.
"""

from __future__ import annotations

from l4lb.config.model import Health
from l4lb.health.probes.base import AnswerError, Result, quoted, success
from l4lb.health.probes.connection import Connection
from l4lb.health.probes.dialogue import unanswered

ANSWER_MAX = 65536
"""Bytes in which one expected answer has to be."""


async def ask(connection: Connection, health: Health) -> Result:
    for number, step in enumerate(health.script, 1):
        connection.question = f"step {number}"
        connection.expected = ""
        if step.send is not None:
            connection.question += f" ({quoted(step.send)})"
            connection.forget()
            await connection.send(step.send)
        if step.expect is not None:
            await _find(connection, step.expect)
    return success("answered as expected")


async def _find(connection: Connection, expected: bytes) -> None:
    """Read until it is there, and take it with all before it."""
    connection.expected = quoted(expected)
    heard, looked = connection.heard, 0
    while (at := heard.find(expected, looked)) < 0:
        if len(heard) > ANSWER_MAX:
            raise AnswerError(
                f"{connection.question}: {quoted(expected)} is not in the first {ANSWER_MAX // 1024} KiB of the answer"
            )
        # It may have begun already.
        looked = max(0, len(heard) - len(expected) + 1)
        data = await connection.receive()
        if not data:
            raise AnswerError(f"the connection ended, {unanswered(connection)}")
        heard += data
    del heard[: at + len(expected)]
