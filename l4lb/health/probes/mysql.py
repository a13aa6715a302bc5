"""mysql: the server's greeting; with a user also a login, and with a role whether the server is read-only.

Messages and their order are those of HAProxy's `option mysql-check`. Without a user, nothing is sent, which the server
counts as an aborted connection.

Source: MySQL's internals manual, "Client/Server Protocol": connection phase and text protocol; MariaDB's likewise.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping

from l4lb.base.text import quoted
from l4lb.config.model import Health
from l4lb.health.probes.base import Result, failure, success
from l4lb.health.probes.dialogue import ANSWER_MAX, Dialogue
from l4lb.net.connection import Connection, ReplyError

_CAPABILITIES = 0x00000001 | 0x00000200 | 0x00002000 | 0x00008000 | 0x00080000
"""LONG_PASSWORD, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH."""

ROUNDS_MAX = 8
"""Packets from the server in one login."""

_UTF8 = 33
_OK, _MORE, _SWITCH, _ERROR = 0x00, 0x01, 0xFE, 0xFF
_FAST_OK = b"\1\3"
_QUIT, _QUERY = b"\1\0\0\0\1", b"\3"
_READ_ONLY = b"SELECT @@global.read_only"


async def ask(connection: Connection, health: Health) -> Result:
    dialogue = Dialogue(connection)
    dialogue.listen("the greeting", "a version")
    sequence, greeting = await _packet(dialogue)
    version, plugin, salt = _greeting(dialogue, greeting)
    if health.user is None:
        return success(version)
    await _log_in(dialogue, health, sequence, plugin, salt)
    connection.farewell = _QUIT
    if health.role == "any":
        return success(f"logged in, {version}")
    await dialogue.ask("read_only", _framed(0, _QUERY + _READ_ONLY), f"a {health.role}")
    role = "replica" if await _is_read_only(dialogue) else "primary"
    if role == health.role:
        return success(f"{role}, {version}")
    return failure(f"expected a {health.role}, but read_only says that it is a {role}")


def _greeting(dialogue: Dialogue, body: bytes) -> tuple[str, bytes, bytes]:
    """The version of the server, its authentication plugin, and its salt."""
    version, _, rest = body[1:].partition(b"\0")
    if body[:1] != b"\x0a" or len(rest) < 31:
        raise dialogue.unexpected(body)
    second, _, plugin = rest[31:].partition(b"\0")
    return quoted(version)[1:-1], plugin.rstrip(b"\0"), (rest[4:12] + second)[:20]


async def _log_in(dialogue: Dialogue, health: Health, sequence: int, plugin: bytes, salt: bytes) -> None:
    user, password = (health.user or "").encode(), (health.password or "").encode()
    proof = _proof(plugin if plugin in _PROOFS else b"mysql_native_password", password, salt)
    body = struct.pack("<IIB23x", _CAPABILITIES, 1 << 24, _UTF8) + user + b"\0" + bytes([len(proof)]) + proof
    await dialogue.ask("the login", _framed(sequence + 1, body + plugin + b"\0"), "OK")
    for _ in range(ROUNDS_MAX):
        sequence, reply = await _packet(dialogue)
        kind = reply[0] if reply else -1
        if kind == _OK:
            return
        if kind == _SWITCH and len(reply) > 1:
            plugin, _, salt = reply[1:].partition(b"\0")
            proof = _proof(plugin, password, salt[:20])
            await dialogue.ask("the login", _framed(sequence + 1, proof), "OK")
        elif kind == _MORE and reply != _FAST_OK:
            raise ReplyError("the server wants to see the password itself (caching_sha2_password); log in once by TLS")
        elif kind != _MORE:
            raise dialogue.unexpected(reply)
    raise ReplyError("the login does not come to an end")


async def _is_read_only(dialogue: Dialogue) -> bool:
    """The only value of a result: a column count, a column, an end of columns, a row, an end."""
    for _ in range(3):
        await _packet(dialogue)
    _, row = await _packet(dialogue)
    return row[1:] not in (b"0", b"OFF")


async def _packet(dialogue: Dialogue) -> tuple[int, bytes]:
    """The number and the body of a packet. An error packet raises ReplyError."""
    head = await dialogue.exactly(4)
    length = int.from_bytes(head[:3], "little")
    if not 0 < length <= ANSWER_MAX:
        raise dialogue.unexpected(head)
    body = await dialogue.exactly(length)
    if body[0] == _ERROR:
        code, text = int.from_bytes(body[1:3], "little"), body[3:]
        text = text[6:] if text.startswith(b"#") else text
        raise ReplyError(f"error {code}: {quoted(text, 160)}")
    return head[3], body


def _framed(sequence: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([sequence & 0xFF]) + body


def _native(password: bytes, salt: bytes) -> bytes:
    def sha1(data: bytes) -> bytes:
        return hashlib.sha1(data, usedforsecurity=False).digest()

    return _xor(sha1(password), sha1(salt + sha1(sha1(password))))


def _caching_sha2(password: bytes, salt: bytes) -> bytes:
    def sha256(data: bytes) -> bytes:
        return hashlib.sha256(data).digest()

    return _xor(sha256(password), sha256(sha256(sha256(password)) + salt))


_PROOFS: Mapping[bytes, Callable[[bytes, bytes], bytes]] = {
    b"mysql_native_password": _native,
    b"caching_sha2_password": _caching_sha2,
}


def _proof(plugin: bytes, password: bytes, salt: bytes) -> bytes:
    """The proof that the client knows the password. An empty password needs none, whatever the plugin."""
    if not password:
        return b""
    if plugin not in _PROOFS:
        raise ReplyError(f"the server authenticates the user by {quoted(plugin)}, for which there is no support")
    return _PROOFS[plugin](password, salt)


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
