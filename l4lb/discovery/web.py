"""HTTP for the sources: bounded responses, certificates and tokens from files."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any

from l4lb.base.threads import SerialThread
from l4lb.bounded.client import Response
from l4lb.bounded.documents import SMALL, DocumentError, read_json
from l4lb.discovery.source import ANSWER_MAX, DiscoveryError
from l4lb.net.tls import load_identity

TOKEN_MAX = 64 * 1024

BURST = 64
"""Lines of a stream that are read without a pause."""

PAUSE = 0.01
"""Seconds of such a pause: a server that never stops sending must not hold the event loop."""


async def tls_context(
    files: SerialThread, ca: str | None, certificate: str | None = None, key: str | None = None
) -> ssl.SSLContext | None:
    """A TLS context with these files, or with the authorities of the system. DiscoveryError for an invalid file."""
    if ca is None and certificate is None:
        return None

    def load() -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=ca)
        if certificate is not None:
            load_identity(context, certificate, key)
        return context

    try:
        return await files.call(load)
    except (OSError, ValueError) as error:
        named = ", ".join(path for path in (ca, certificate, key) if path)
        raise DiscoveryError(f"the certificates cannot be used ({named}): {error}") from error


async def read_token(files: SerialThread, path: str) -> str:
    """The token in a file, read now because tokens rotate. DiscoveryError if there is none."""

    def read() -> str:
        with open(path, encoding="ascii") as file:
            return file.read(TOKEN_MAX).strip()

    try:
        token = await files.call(read)
    except (OSError, ValueError) as error:
        raise DiscoveryError(f"the token cannot be read: {path}: {error}") from error
    if not token or not token.isprintable():
        raise DiscoveryError(f"there is no token in {path}")
    return token


async def read_body(response: Response) -> bytes:
    """The whole body. ValueError if it is too large."""
    return await response.read(ANSWER_MAX)


async def lines(response: Response) -> AsyncIterator[bytes]:
    """The complete lines of a body as they arrive; an incomplete last line is dropped. DiscoveryError if one is too
    large."""
    buffer = bytearray()
    count = 0
    async for piece in response.pieces():
        if b"\n" not in piece:
            buffer += piece
            if len(buffer) > ANSWER_MAX:
                raise DiscoveryError(f"an event is larger than {ANSWER_MAX // 2**20} MiB")
            continue
        first, *others, rest = piece.split(b"\n")
        for line in (bytes(buffer + first), *others):
            if line.strip():
                yield line
                count += 1
                if count % BURST == 0:
                    await asyncio.sleep(PAUSE)
        buffer = bytearray(rest)


async def parsed(body: bytes) -> Any:
    """The value of a JSON document. DiscoveryError if it is invalid or too large."""
    try:
        return read_json(body) if len(body) <= SMALL else await asyncio.to_thread(read_json, body)
    except DocumentError as error:
        raise DiscoveryError(f"the response is not valid JSON: {error}") from error
