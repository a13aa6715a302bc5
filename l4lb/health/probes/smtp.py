"""smtp: the greeting, and the reply to HELO, EHLO or LHLO, like HAProxy's `option smtpchk`.

Source: RFC 5321, 4.2 (replies) and 4.3 (sequencing), RFC 2033 (LHLO).
"""

from __future__ import annotations

import re

from l4lb.config.model import Health
from l4lb.health.probes.base import Result, success
from l4lb.health.probes.dialogue import Dialogue
from l4lb.net.connection import Connection

_REPLY = re.compile(rb"2[0-9]{2}(?:([ -]).*)?", re.DOTALL)


async def ask(connection: Connection, health: Health) -> Result:
    dialogue = Dialogue(connection)
    connection.farewell = b"QUIT\r\n"
    dialogue.listen("the greeting", "2xx")
    await _reply(dialogue)
    await dialogue.ask(health.hello, f"{health.hello}\r\n".encode(), "2xx")
    last = await _reply(dialogue)
    return success(f"{health.hello.partition(' ')[0]} is answered with {last[:3].decode()}")


async def _reply(dialogue: Dialogue) -> bytes:
    """The last line of a reply."""
    while True:
        line = await dialogue.line()
        found = _REPLY.fullmatch(line)
        if found is None:
            raise dialogue.unexpected(line)
        if found[1] != b"-":
            return line
