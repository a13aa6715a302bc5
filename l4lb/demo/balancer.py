"""The balancer as a child process of the demo, and its status from its admin socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp

from l4lb.admin.client import Json
from l4lb.demo.children import PATIENCE, Child, child
from l4lb.errors import L4lbError, StartError

READY_SECONDS = 20.0
POLL_SECONDS = 0.1
TIMEOUT = aiohttp.ClientTimeout(total=5)


class BalancerChild:
    def __init__(self, process: Child, http: aiohttp.ClientSession) -> None:
        self.process = process
        self._http = http

    async def wait_ready(self) -> None:
        """Wait until every listener accepts and every pool has a backend that passed its check."""
        reason = "its admin socket does not answer"
        try:
            async with asyncio.timeout(READY_SECONDS):
                while self.process.running:
                    with contextlib.suppress(aiohttp.ClientError, OSError):
                        async with self._http.get("/readyz?pools=all") as response:
                            if response.ok:
                                return
                            reason = (await response.text()).strip()
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise StartError(f"the balancer is not ready after {READY_SECONDS:g} s: {reason}") from None
        raise StartError(f"the balancer cannot start: {await self._last_words()}")

    async def status(self) -> Json:
        """The state in `/api/v1/status`. L4lbError if the balancer has ended."""
        try:
            async with self._http.get("/api/v1/status", raise_for_status=True) as response:
                answer: Json = await response.json()
        except (aiohttp.ClientError, OSError) as error:
            words = await self._last_words()
            fate = "hangs" if self.process.running else f"ended with status {self.process.process.returncode}"
            raise L4lbError(f"the balancer {fate}; its last line: {words}") from error
        return answer

    async def _last_words(self) -> str:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self.process.heard.wait()
        lines = self.process.lines
        return lines[-1].removeprefix("Error: ") if lines else "empty response"


@contextlib.asynccontextmanager
async def balancer(path: str, socket_path: str, environ: Mapping[str, str]) -> AsyncIterator[BalancerChild]:
    """`l4lb run` of this file for the length of the block."""
    connector = aiohttp.UnixConnector(path=socket_path)
    async with (
        child("l4lb", "run", "-c", path, environ=environ) as process,
        aiohttp.ClientSession("http://localhost", connector=connector, timeout=TIMEOUT) as http,
    ):
        yield BalancerChild(process, http)


def section(answer: Json, *keys: str) -> dict[str, Any]:
    """The object under this key of a response."""
    value: Any = answer
    for key in keys:
        value = value[key]
    return dict(value)
