"""The demo's clients: each keeps a connection for some streamed completions, then opens the next."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import statistics
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import aiohttp

from l4lb.config import Address

CLIENTS = 9
REQUESTS_PER_CONNECTION = (2, 6)
TOKENS = (20, 100)
PAUSE_SECONDS = (0.0, 0.4)
TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=5)
FIRST_TOKENS_KEPT = 100


@dataclass(slots=True)
class Served:
    """The results of one backend. `first_token` holds the latest times to the first token, in seconds."""

    requests: int = 0
    tokens: int = 0
    first_token: deque[float] = field(default_factory=lambda: deque(maxlen=FIRST_TOKENS_KEPT))

    @property
    def first_token_median(self) -> float | None:
        return statistics.median(self.first_token) if self.first_token else None


class LoadGenerator:
    """Clients of the listeners at `addresses`, shared out evenly."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = addresses
        self.served: defaultdict[str, Served] = defaultdict(Served)
        self.failed = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The clients send requests for the length of the block."""
        addresses = itertools.cycle(self._addresses)
        clients = [asyncio.create_task(self._client(next(addresses))) for _ in range(CLIENTS)]
        try:
            yield
        finally:
            for client in clients:
                client.cancel()
            await asyncio.wait(clients)

    async def _client(self, address: Address) -> None:
        while True:
            async with _connection(address) as http:
                for _ in range(random.randint(*REQUESTS_PER_CONNECTION)):
                    await asyncio.sleep(random.uniform(*PAUSE_SECONDS))
                    try:
                        await self._complete(http)
                    except (aiohttp.ClientError, TimeoutError, OSError):
                        self.failed += 1
                        break

    async def _complete(self, http: aiohttp.ClientSession) -> None:
        request = {"model": "stand-in", "prompt": "Hello", "max_tokens": random.randint(*TOKENS), "stream": True}
        started = time.monotonic()
        async with http.post("/v1/completions", json=request) as response:
            served = self.served[response.headers["X-Served-By"]]
            first = True
            async for line in response.content:
                if not line.startswith(b"data: "):
                    continue
                if line == b"data: [DONE]\n":
                    served.requests += 1
                    continue
                if first:
                    served.first_token.append(time.monotonic() - started)
                    first = False
                served.tokens += 1


def _connection(address: Address) -> aiohttp.ClientSession:
    """An HTTP session with one connection, to the address of this listener."""
    connector: aiohttp.BaseConnector
    if address.path is not None:
        connector = aiohttp.UnixConnector(path=address.unix_name, limit=1)
        url = "http://localhost"
    else:
        connector = aiohttp.TCPConnector(limit=1)
        url = f"http://{reachable(address)}"
    return aiohttp.ClientSession(url, connector=connector, timeout=TIMEOUT, raise_for_status=True)


def reachable(address: Address) -> Address:
    """The address to connect to for a listener bound to `address`: loopback for a wildcard."""
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host or "", address.host)
    return Address(host=loopback, port=address.port)
