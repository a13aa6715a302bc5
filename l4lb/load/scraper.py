"""One scrape of one backend, bounded in time and bytes. I/O only."""

from __future__ import annotations

import asyncio
from urllib.parse import urljoin

from l4lb.base.text import quoted
from l4lb.bounded.client import Client, Sources
from l4lb.bounded.url import Url
from l4lb.load.exposition import ExpositionError, Signal, Wanted, read

BODY_MAX = 4 * 1024 * 1024
"""Maximum bytes of an exposition: model servers send a tenth of that."""

INLINE_MAX = 64 * 1024
"""Bytes of an exposition that are parsed on the event loop, in a few milliseconds at worst. Larger ones use a thread.
"""

KEEPALIVE = 15.0

REDIRECTS_MAX = 3
"""Redirects that one scrape follows."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_HEADERS = {"Accept": "text/plain;version=0.0.4,*/*;q=0.1"}


def new_client() -> Client:
    """A client that keeps a connection to each server."""
    return Client(keep=KEEPALIVE)


def fill(template: str, host: str, port: int) -> str:
    """The URL of a backend."""
    shown = f"[{host}]" if ":" in host else host
    return template.replace("{host}", shown).replace("{port}", str(port))


async def scrape(
    client: Client, url: str, wanted: Wanted, timeout: float, sources: Sources = ()
) -> dict[Signal, float]:
    """The signals at `url`, requested from one of the source addresses. OSError, TimeoutError or ValueError on failure,
    after `timeout` seconds at most."""
    try:
        async with asyncio.timeout(timeout):
            body = await _body(client, url, sources)
    except TimeoutError:
        raise TimeoutError(f"no answer within {timeout:g}s") from None
    if len(body) <= INLINE_MAX:
        return _read(body, wanted)
    return await asyncio.to_thread(_read, body, wanted)


async def _body(client: Client, url: str, sources: Sources) -> bytes:
    """The body at `url`, following redirects within the same host."""
    for _ in range(1 + REDIRECTS_MAX):
        asked = Url.parse(url)
        async with client.request(asked, _HEADERS, sources=sources) as response:
            if response.status == 200:
                return await response.read(BODY_MAX)
            elsewhere = response.header("location")
            if response.status not in _REDIRECTS or elsewhere is None:
                raise ExpositionError(f"HTTP {response.status}")
            url = urljoin(url, elsewhere)
            if Url.parse(url).host != asked.host:
                raise ExpositionError(f"HTTP {response.status}, to another host: {quoted(elsewhere.encode())}")
    raise ExpositionError(f"HTTP {response.status} more than {REDIRECTS_MAX} times")


def _read(body: bytes, wanted: Wanted) -> dict[Signal, float]:
    return read(body.decode("utf-8", "replace"), wanted)
