"""send_expect: says what the script says, and looks for its answers, however they are cut into pieces."""

from __future__ import annotations

from l4lb.config.model import Health
from l4lb.health.probes.base import AnswerError, Result, failure, quoted, success
from l4lb.health.probes.connection import Connection

ANSWER_MAX = 65536
"""Bytes in which one expected answer has to be."""


async def ask(connection: Connection, health: Health) -> Result:
    received = b""
    for step in health.script:
        if step.send is not None:
            await connection.send(step.send)
        if step.expect is None:
            continue
        while (at := received.find(step.expect)) < 0:
            if len(received) > ANSWER_MAX:
                raise AnswerError(f"{quoted(step.expect)} is not in the first {ANSWER_MAX // 1024} KiB of the answer")
            data = await connection.receive()
            if not data:
                return failure(f"expected {quoted(step.expect)}, but the stream ended with {quoted(received)}")
            received += data
        received = received[at + len(step.expect) :]
    return success("answered as expected")
