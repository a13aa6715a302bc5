"""redis: PING, and ROLE if a role is configured. Valkey and KeyDB use the same protocol.

PING comes first: a server that is still loading its data, or refuses to serve without its primary, rejects PING but not
ROLE.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec/ and the pages of the commands.
"""

from __future__ import annotations

import re

from l4lb.config.model import Health
from l4lb.health.probes.base import Result, failure, success
from l4lb.health.probes.dialogue import Dialogue
from l4lb.net.connection import Connection, ReplyError

_TEXT_MAX = 1024
_BULK = re.compile(rb"\$([0-9]{1,4})")
_NAMES = {b"master": "primary", b"slave": "replica", b"replica": "replica"}


async def ask(connection: Connection, health: Health) -> Result:
    dialogue = Dialogue(connection)
    connection.farewell = _command("QUIT")
    if health.user is not None or health.password is not None:
        words = [word for word in (health.user, health.password or "") if word is not None]
        await _expect(dialogue, "AUTH", _command("AUTH", *words), b"+OK")
    await _expect(dialogue, "PING", _command("PING"), b"+PONG")
    if health.role == "any":
        return success("PONG")
    await dialogue.ask("ROLE", _command("ROLE"), f"a {health.role}")
    return await _judge(dialogue, health.role)


async def _judge(dialogue: Dialogue, wanted: str) -> Result:
    head = await dialogue.line()
    if not head.startswith(b"*"):
        raise dialogue.unexpected(head)
    said = await _text(dialogue)
    role = _NAMES.get(said)
    if role != wanted:
        raise dialogue.unexpected(said)
    if role == "primary":
        return success("PONG, primary")
    _host, _port = await _text(dialogue), await _text(dialogue)
    link = (await _text(dialogue)).decode("ascii", "replace")
    # It has no data yet, or data that is about to be replaced.
    if link == "sync":
        return failure("PONG, a replica that is still copying the data of its primary (sync)")
    return success(f"PONG, replica ({link})")


async def _text(dialogue: Dialogue) -> bytes:
    """A reply element as text."""
    line = await dialogue.line()
    if line[:1] in (b"+", b":"):
        return line[1:]
    bulk = _BULK.fullmatch(line)
    if bulk is None or int(bulk[1]) > _TEXT_MAX:
        raise dialogue.unexpected(line)
    return (await dialogue.exactly(int(bulk[1]) + 2))[:-2]


async def _expect(dialogue: Dialogue, name: str, data: bytes, wanted: bytes) -> None:
    await dialogue.ask(name, data, wanted.decode())
    line = await dialogue.line()
    if line != wanted:
        raise _explained(dialogue.unexpected(line), line)


def _explained(error: ReplyError, line: bytes) -> ReplyError:
    if line.startswith((b"-NOAUTH", b"-NOPERM")):
        return ReplyError(f"{error}; give health.password, and health.user where the server has users")
    return error


def _command(*words: str) -> bytes:
    coded = [word.encode() for word in words]
    return b"*%d\r\n" % len(coded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in coded)
