"""pgsql: whether PostgreSQL is ready to log a user in. With a role it logs in and asks whether the server is in
recovery.

Without a role or a password, a server that asks for a password is healthy, as with HAProxy's `option pgsql-check`.

Source: PostgreSQL's documentation, "Frontend/Backend Protocol": message flow and message formats.
"""

from __future__ import annotations

import hashlib
import ssl
import struct

from l4lb.base.text import quoted
from l4lb.config.model import Health
from l4lb.health.probes.base import Result, failure, success
from l4lb.health.probes.dialogue import ANSWER_MAX, Dialogue
from l4lb.health.probes.scram import Scram
from l4lb.net.connection import Connection, ReplyError

ROUNDS_MAX = 8
"""Authentication requests from the server in one login: SCRAM needs four."""

_VERSION_3 = 3 << 16
_SSL_REQUEST = struct.pack("!II", 8, 80877103)
_TERMINATE = b"X\0\0\0\4"
_RECOVERY = b"SELECT pg_is_in_recovery()\0"
_KINDS = b"RENSKZTDCIv"
"""Messages that may come: authentication, error, notice, parameter, key, ready, and those of a result."""

_OK, _CLEARTEXT, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 5, 10, 11, 12
_METHODS = {_CLEARTEXT: "password", _MD5: "md5", _SASL: "SCRAM"}


async def ask(connection: Connection, health: Health, context: ssl.SSLContext | None, name: str) -> Result:
    dialogue = Dialogue(connection)
    if context is not None:
        await _start_tls(connection, dialogue, context, name)
    await dialogue.ask("the startup message", _startup(health), "a request to authenticate")
    method = await _Login(dialogue, health).run()
    if method is not None:
        if health.role == "any":
            return success(f"asks for a password ({method})")
        return failure(f"asks for a password ({method}), which the role needs; give health.password, or trust the user")
    await _until(dialogue, b"Z")
    connection.farewell = _TERMINATE
    if health.role == "any":
        return success("logged in")
    await dialogue.ask("pg_is_in_recovery()", _message(b"Q", _RECOVERY), f"a {health.role}")
    row = await _until(dialogue, b"D")
    role = {b"f": "primary", b"t": "replica"}.get(row[-1:])
    if role is None:
        raise dialogue.unexpected(row)
    await _until(dialogue, b"Z")
    return success(role) if role == health.role else failure(f"expected a {health.role}, but it is a {role}")


async def _start_tls(connection: Connection, dialogue: Dialogue, context: ssl.SSLContext, name: str) -> None:
    await dialogue.ask("SSLRequest", _SSL_REQUEST, "S")
    said = await dialogue.exactly(1)
    # Plaintext after the S would be taken for decrypted data, so discard it.
    if said != b"S" or connection.heard:
        raise dialogue.unexpected(said + bytes(connection.heard))
    await connection.start_tls(context, name)


class _Login:
    """From the startup message to AuthenticationOk."""

    def __init__(self, dialogue: Dialogue, health: Health) -> None:
        self._dialogue = dialogue
        self._user = health.user or ""
        self._password = health.password
        self._scram = Scram(health.password or "")

    async def run(self) -> str | None:
        """None once logged in; the method if the server asks for a password and none is configured."""
        for _ in range(ROUNDS_MAX):
            body = await _until(self._dialogue, b"R")
            if len(body) < 4:
                raise self._dialogue.unexpected(body)
            kind, rest = int.from_bytes(body[:4]), body[4:]
            if kind == _OK:
                return None
            if self._password is None:
                return _METHODS.get(kind, f"method {kind}")
            if kind == _SASL_FINAL:
                self._scram.verify(rest)
                continue
            answer = await self._answer(kind, rest, self._password)
            await self._dialogue.ask("the password", _message(b"p", answer), "to be let in")
        raise ReplyError("the login does not come to an end")

    async def _answer(self, kind: int, rest: bytes, password: str) -> bytes:
        if kind == _SASL and b"SCRAM-SHA-256" in rest.split(b"\0"):
            first = self._scram.first
            return b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first
        if kind == _SASL_CONTINUE:
            return await self._scram.final(rest)
        if kind == _MD5:
            inner = hashlib.md5((password + self._user).encode(), usedforsecurity=False).hexdigest()
            return b"md5" + hashlib.md5(inner.encode() + rest, usedforsecurity=False).hexdigest().encode() + b"\0"
        if kind == _CLEARTEXT:
            return password.encode() + b"\0"
        raise ReplyError(f"the server asks for authentication {kind} {quoted(rest)}; only passwords can be given")


async def _until(dialogue: Dialogue, wanted: bytes) -> bytes:
    """The body of the next message of this kind. An error message raises ReplyError."""
    while True:
        head = await dialogue.exactly(5)
        kind, length = head[:1], int.from_bytes(head[1:])
        if kind not in _KINDS or not 4 <= length <= ANSWER_MAX:
            raise dialogue.unexpected(head)
        body = await dialogue.exactly(length - 4)
        if kind == b"E":
            raise ReplyError(_shown(body))
        if kind == wanted:
            return body


def _shown(body: bytes) -> str:
    """An ErrorResponse as psql shows it."""
    fields = {field[:1]: field[1:] for field in body.split(b"\0") if field}
    text = fields.get(b"S", b"ERROR") + b": " + fields.get(b"M", b"") + b" (" + fields.get(b"C", b"") + b")"
    return quoted(text, 160)


def _startup(health: Health) -> bytes:
    values = [("user", health.user or ""), ("application_name", "l4lb")]
    if health.database is not None:
        values.append(("database", health.database))
    body = struct.pack("!I", _VERSION_3) + b"".join(f"{key}\0{value}\0".encode() for key, value in values) + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body
