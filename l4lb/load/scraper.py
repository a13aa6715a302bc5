"""One scrape of one backend: bounded in time and in bytes. I/O only."""

from __future__ import annotations

import asyncio

import aiohttp
from yarl import URL

from l4lb.load.exposition import ExpositionError, Signal, Wanted, read

BODY_MAX = 4 * 1024 * 1024
"""Bytes of an exposition: a model server has a tenth of that."""

INLINE_MAX = 64 * 1024
"""Bytes of an exposition that are read on the loop, in a few milliseconds at the worst. Larger ones get a thread."""

KEEPALIVE = 15.0

_HEADERS = {"Accept": "text/plain;version=0.0.4,*/*;q=0.1", "Accept-Encoding": "identity"}


def new_session() -> aiohttp.ClientSession:
    """Keeps connections; whoever scrapes bounds how many. Nothing is unpacked, stored or sent along."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE, use_dns_cache=False),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        headers=_HEADERS,
    )


def fill(template: str, host: str, port: int) -> str:
    """The URL of a backend."""
    shown = f"[{host}]" if ":" in host else host
    return template.replace("{host}", shown).replace("{port}", str(port))


async def scrape(session: aiohttp.ClientSession, url: str, wanted: Wanted, timeout: float) -> dict[Signal, float]:
    """The signals at `url`, within `timeout` for everything; else ExpositionError, OSError or TimeoutError."""
    try:
        async with (
            asyncio.timeout(timeout),
            session.get(URL(url, encoded=True), allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise ExpositionError(f"HTTP {response.status}")
            body = await _body(response)
    except TimeoutError:
        raise TimeoutError(f"no answer within {timeout:g}s") from None
    except aiohttp.ClientError as error:
        raise ConnectionError(str(error) or type(error).__name__) from error
    if len(body) <= INLINE_MAX:
        return _read(body, wanted)
    return await asyncio.to_thread(_read, body, wanted)


def _read(body: bytes, wanted: Wanted) -> dict[Signal, float]:
    return read(body.decode("utf-8", "replace"), wanted)


async def _body(response: aiohttp.ClientResponse) -> bytes:
    parts = bytearray()
    async for part in response.content.iter_any():
        parts += part
        if len(parts) > BODY_MAX:
            raise ExpositionError(f"the answer is larger than {BODY_MAX // 2**20} MiB")
    return bytes(parts)
