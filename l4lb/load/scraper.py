"""One scrape of one backend: bounded in time and in bytes. I/O only."""

from __future__ import annotations

import asyncio

from l4lb.bounded.client import Client
from l4lb.bounded.url import Url
from l4lb.load.exposition import ExpositionError, Signal, Wanted, read

BODY_MAX = 4 * 1024 * 1024
"""Bytes of an exposition: a model server has a tenth of that."""

INLINE_MAX = 64 * 1024
"""Bytes of an exposition that are read on the loop, in a few milliseconds at the worst. Larger ones get a thread."""

KEEPALIVE = 15.0

_HEADERS = {"Accept": "text/plain;version=0.0.4,*/*;q=0.1"}


def new_client() -> Client:
    """Keeps a connection to each server."""
    return Client(keep=KEEPALIVE)


def fill(template: str, host: str, port: int) -> str:
    """The URL of a backend."""
    shown = f"[{host}]" if ":" in host else host
    return template.replace("{host}", shown).replace("{port}", str(port))


async def scrape(client: Client, url: str, wanted: Wanted, timeout: float) -> dict[Signal, float]:
    """The signals at `url`, within `timeout` for everything; else OSError, TimeoutError or ValueError."""
    try:
        async with asyncio.timeout(timeout), client.request(Url.parse(url), _HEADERS) as response:
            if response.status != 200:
                raise ExpositionError(f"HTTP {response.status}")
            body = await response.read(BODY_MAX)
    except TimeoutError:
        raise TimeoutError(f"no answer within {timeout:g}s") from None
    if len(body) <= INLINE_MAX:
        return _read(body, wanted)
    return await asyncio.to_thread(_read, body, wanted)


def _read(body: bytes, wanted: Wanted) -> dict[Signal, float]:
    return read(body.decode("utf-8", "replace"), wanted)
