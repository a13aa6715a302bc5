"""send_expect: sends what the script says and searches for the expected replies, however they are split into pieces.

Data that arrived before something is sent cannot be its reply and is discarded. Consecutive steps that only send form
one request.
"""

from __future__ import annotations

import asyncio

from l4lb.base.text import quoted
from l4lb.config.model import Health, Step
from l4lb.health.probes.base import Result, success
from l4lb.health.probes.dialogue import unanswered
from l4lb.health.probes.patterns import TooSlow, is_found, objection
from l4lb.net.connection import Connection, ReplyError

ANSWER_MAX = 65536
"""Bytes that are searched for one expected reply."""

LOOK = 0.01
"""Seconds between two searches, so that a server which sends byte by byte costs no more than another."""


async def ask(connection: Connection, health: Health) -> Result:
    asking = False
    for number, step in enumerate(health.script, 1):
        connection.question = f"step {number}"
        if step.send is not None:
            connection.question += f" ({quoted(step.send)})"
            if not asking:
                connection.forget()
            await connection.send(step.send)
        asking = step.expect is None and not step.match
        if step.match:
            await _match(connection, step)
        if step.expect is not None:
            await _find(connection, step.expect)
    return success("answered as expected")


async def _find(connection: Connection, expected: bytes) -> None:
    """Read until the text is found; consume it and everything before it."""
    connection.expected = quoted(expected)
    heard, looked = connection.heard, 0
    while (at := heard.find(expected, looked)) < 0:
        # The text may span the pieces.
        looked = max(0, len(heard) - len(expected) + 1)
        await _more(connection)
    del heard[: at + len(expected)]


async def _match(connection: Connection, step: Step) -> None:
    """Read until every required pattern is found and no forbidden one is."""
    wanted = [pattern for pattern in step.match if not pattern.startswith("!")]
    unwanted = [pattern for pattern in step.match if pattern.startswith("!")]
    connection.expected = ", ".join(quoted(pattern.encode()) for pattern in step.match)
    try:
        while True:
            if not connection.heard:
                await _more(connection)
            heard = connection.heard.decode("utf-8", "replace")
            if wrong := await objection(unwanted, heard, "the answer"):
                raise ReplyError(f"{connection.question}: {wrong}")
            if all([await is_found(pattern, heard) for pattern in wanted]):
                return
            await asyncio.sleep(LOOK)
            await _more(connection)
    except TooSlow as error:
        raise ReplyError(f"{connection.question}: {error}") from None


async def _more(connection: Connection) -> None:
    if len(connection.heard) > ANSWER_MAX:
        expected = f"{connection.expected} is not in the first {ANSWER_MAX // 1024} KiB of the answer"
        raise ReplyError(f"{connection.question}: {expected}")
    data = await connection.receive()
    if not data:
        raise ReplyError(f"the connection ended, {unanswered(connection)}")
    connection.heard += data
