"""Discovery by polling an HTTP server, in the format of Prometheus' http_sd.

Every response has the whole list. A server that supports ETags may respond that nothing changed.

Source: https://prometheus.io/docs/prometheus/latest/http_sd/
"""

from __future__ import annotations

import asyncio
import re
from typing import NoReturn

from l4lb.base.pacing import every
from l4lb.base.text import clipped
from l4lb.base.threads import SerialThread
from l4lb.bounded.client import Client
from l4lb.bounded.url import Url
from l4lb.config.sections import discover
from l4lb.discovery.source import DiscoveryError, Report
from l4lb.discovery.targets import parse_json
from l4lb.discovery.web import read_body, read_token, tls_context

_ETAG = re.compile(r"[!-~]{1,1024}", re.ASCII)

JITTER = 0.1
"""Intervals vary at random by this share."""


class HttpSource:
    """Implements `Source`."""

    def __init__(self, settings: discover.HttpDiscovery) -> None:
        self._settings = settings
        self._files = SerialThread("reading a file")
        self.interval = settings.interval

    async def watch(self, report: Report) -> NoReturn:
        timeout = self._settings.timeout
        client = Client(await tls_context(self._files, self._settings.ca))
        etag: str | None = None
        async for _ in every(self.interval, JITTER):
            try:
                async with asyncio.timeout(timeout):
                    etag = await self._ask(client, etag, report)
            except TimeoutError:
                raise TimeoutError(f"no complete response within {timeout:g}s") from None
        raise AssertionError("rounds do not end")

    async def _ask(self, client: Client, etag: str | None, report: Report) -> str | None:
        """Poll once and report the result. Returns the ETag of the response."""
        headers = {
            "Accept": "application/json",
            "X-Prometheus-Refresh-Interval-Seconds": f"{self._settings.interval:g}",
        }
        if etag is not None:
            headers["If-None-Match"] = etag
        if self._settings.token_file is not None:
            headers["Authorization"] = f"Bearer {await read_token(self._files, self._settings.token_file)}"
        # Redirects are not followed: they would send the token to another server.
        async with client.request(Url.parse(self._settings.url), headers) as response:
            if response.status == 304 and etag is not None:
                report.unchanged()
                return etag
            if response.status != 200:
                raise DiscoveryError(f"HTTP {response.status}")
            kind = (response.header("Content-Type") or "of no type").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise DiscoveryError(f"the answer is {clipped(kind, 60)}; application/json is expected")
            body = await read_body(response)
            tag = response.header("ETag") or ""
        answer = await asyncio.to_thread(parse_json, body)
        await report.found(answer)
        return tag if _ETAG.fullmatch(tag) else None
