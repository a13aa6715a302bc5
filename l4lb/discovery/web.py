"""HTTP as the sources need it: bounded answers, errors in a few words, certificates and tokens from files."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import aiohttp

from l4lb.discovery.source import ANSWER_MAX, DiscoveryError

TOKEN_MAX = 64 * 1024


def new_session(tls: ssl.SSLContext | bool = True) -> aiohttp.ClientSession:
    """Keeps nothing: no cookies, and no connections, which would be found dead a minute later. Deadlines are those of
    whoever asks."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls, use_dns_cache=False, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        headers={"User-Agent": "l4lb"},
    )


async def tls_context(ca: str | None, certificate: str | None = None, key: str | None = None) -> ssl.SSLContext | bool:
    """How to trust a server, and who to be: the files, or what the system trusts. DiscoveryError for a bad file."""
    if ca is None and certificate is None:
        return True

    def load() -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=ca)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
        return context

    try:
        return await asyncio.to_thread(load)
    except (OSError, ValueError) as error:
        named = ", ".join(path for path in (ca, certificate, key) if path)
        raise DiscoveryError(f"the certificates cannot be used ({named}): {error}") from error


async def read_token(path: str) -> str:
    """The token in a file, read now: tokens rotate. DiscoveryError if there is none."""

    def read() -> str:
        with open(path, encoding="ascii") as file:
            return file.read(TOKEN_MAX).strip()

    try:
        token = await asyncio.to_thread(read)
    except (OSError, ValueError) as error:
        raise DiscoveryError(f"the token cannot be read: {path}: {error}") from error
    if not token or not token.isprintable():
        raise DiscoveryError(f"there is no token in {path}")
    return token


async def read_body(response: aiohttp.ClientResponse) -> bytes:
    """The whole body. DiscoveryError if it is too large."""
    parts = bytearray()
    async for part in response.content.iter_any():
        parts += part
        if len(parts) > ANSWER_MAX:
            raise DiscoveryError(f"the answer is larger than {ANSWER_MAX // 2**20} MiB")
    return bytes(parts)


async def lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The complete lines of a body as they come. Half a line at its end is none. DiscoveryError if one is too large."""
    buffer = bytearray()
    async for part in response.content.iter_any():
        buffer += part
        if len(buffer) > ANSWER_MAX:
            raise DiscoveryError(f"an event is larger than {ANSWER_MAX // 2**20} MiB")
        *whole, rest = buffer.split(b"\n")
        for line in whole:
            if line.strip():
                yield bytes(line)
        buffer = bytearray(rest)


def in_words(error: aiohttp.ClientError) -> str:
    """What went wrong, short."""
    return " ".join(str(error).split()) or type(error).__name__
