"""The client side of SCRAM-SHA-256, without channel binding.

Pure, except for deriving the key from the password. That takes milliseconds, so it runs on a thread, and results are
cached.

Source: RFC 5802, 3 and 5; RFC 7677.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import errno
import functools
import hashlib
import hmac
import re
import secrets
import unicodedata

from l4lb.base.text import quoted
from l4lb.net.connection import ReplyError

ITERATIONS_MAX = 100_000
"""Iterations that a server may demand: PostgreSQL's default is 4,096."""

KEYS_MAX = 1024
_FIRST = re.compile(r"r=([!-+\--~]{1,256}),s=([A-Za-z0-9+/=]{1,256}),i=([0-9]{1,9})(?:,.*)?", re.ASCII)


class Scram:
    """One exchange: `first`, then `final` with the server's first message, then `verify` with its last."""

    def __init__(self, password: str) -> None:
        self._password = password
        self._nonce = secrets.token_urlsafe(18)
        self._signature = b""

    @property
    def first(self) -> bytes:
        return f"n,,{self._bare}".encode()

    @property
    def _bare(self) -> str:
        return f"n=,r={self._nonce}"

    async def final(self, challenge: bytes) -> bytes:
        text = challenge.decode("ascii", "replace")
        found = _FIRST.fullmatch(text)
        if found is None or not found[1].startswith(self._nonce) or not 0 < int(found[3]) <= ITERATIONS_MAX:
            raise ReplyError(f"the challenge of SCRAM-SHA-256 cannot be used: {quoted(challenge)}")
        try:
            salt = base64.b64decode(found[2], validate=True)
        except binascii.Error:
            raise ReplyError(f"the salt of SCRAM-SHA-256 cannot be read: {quoted(challenge)}") from None
        try:
            salted = await asyncio.to_thread(_salted, self._password, salt, int(found[3]))
        except RuntimeError as error:
            raise OSError(errno.ENOMEM, "no thread can be started") from error
        without_proof = f"c=biws,r={found[1]}"
        signed = ",".join((self._bare, text, without_proof)).encode()
        key = _sign(salted, b"Client Key")
        proof = bytes(a ^ b for a, b in zip(key, _sign(hashlib.sha256(key).digest(), signed), strict=True))
        self._signature = _sign(_sign(salted, b"Server Key"), signed)
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, last: bytes) -> None:
        if not hmac.compare_digest(last, b"v=" + base64.b64encode(self._signature)):
            raise ReplyError("the server does not know the password that it asks for (SCRAM-SHA-256)")


@functools.lru_cache(KEYS_MAX)
def _salted(password: str, salt: bytes, iterations: int) -> bytes:
    # For nearly every password, SASLprep (RFC 4013) equals this normalisation.
    normal = unicodedata.normalize("NFKC", password).encode()
    return hashlib.pbkdf2_hmac("sha256", normal, salt, iterations)


def _sign(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
