"""Discovery by the EndpointSlices of a Service in Kubernetes: listed once, then watched.

After an interruption the watch goes on from the last version that was seen. If the server no longer knows that version
(410, as a status or as an event), everything is listed again and replaces what was known, so that endpoints removed in
the meantime disappear. Versions are never compared.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Sequence
from typing import NoReturn
from urllib.parse import quote, urlencode

from l4lb.base.pacing import rounds
from l4lb.base.text import clipped, quoted
from l4lb.base.threads import SerialThread
from l4lb.bounded import shape
from l4lb.bounded.client import Client, Response
from l4lb.bounded.response import ResponseError
from l4lb.config.sections import discover
from l4lb.discovery.endpoint_slices import Slice, merge, read_slice
from l4lb.discovery.kubernetes_cluster import REQUEST_TIMEOUT, Cluster, sign_in
from l4lb.discovery.source import DiscoveryError, Report
from l4lb.discovery.web import lines, parsed, read_body

PAGE = 100
PAGES_MAX = 200

SETTLE = 0.05
"""Seconds between reporting a change and reading further events."""

WATCH_TIMEOUT = (240, 300)
"""Seconds after which the server should end a watch, random each time: it bounds the wait for a dead server."""

SILENCE = 90.0
"""Seconds without an event or bookmark after which the watch is restarted, because its server may be gone."""

RELIST_PAUSE = 1.0
"""Seconds before everything is listed again, up to twice that: all clients do so when the server loses its history."""

SHORT_WATCH = 1.0
"""Seconds. A server that repeatedly ends watches sooner than this is broken."""


class _Unauthorized(DiscoveryError):
    pass


class KubernetesSource:
    """Implements `Source`."""

    def __init__(self, settings: discover.KubernetesDiscovery) -> None:
        self._settings = settings
        self._files = SerialThread("reading a file")
        self.interval = math.inf

    async def watch(self, report: Report) -> NoReturn:
        loop = asyncio.get_running_loop()
        async for _ in rounds():
            begun = loop.time()
            try:
                await _Watch(self._settings, await sign_in(self._settings, self._files), report).run()
            except _Unauthorized:
                # Tokens rotate, and signing in again reads the new one. If that does not help, the source fails.
                if loop.time() - begun < REQUEST_TIMEOUT:
                    raise
        raise AssertionError("rounds do not end")


class _Watch:
    """The known slices, for the time of one sign-in."""

    def __init__(self, settings: discover.KubernetesDiscovery, cluster: Cluster, report: Report) -> None:
        self._settings = settings
        self._cluster = cluster
        self._client = Client(cluster.tls, server_name=cluster.server_name)
        self._report = report
        self._slices: dict[str, Slice] = {}
        self._version = ""

    async def run(self) -> NoReturn:
        async for _ in rounds(RELIST_PAUSE, spread=(1, 2)):
            await self._list()
            with contextlib.suppress(_Gone):
                async for _ in rounds():
                    await self._follow()
        raise AssertionError("rounds do not end")

    async def _list(self) -> None:
        slices: dict[str, Slice] = {}
        following: str | None = None
        for _ in range(PAGES_MAX):
            try:
                page = await self._page(following)
            except _Gone:
                # Listing took so long that its version has expired.
                slices, following = {}, None
                await asyncio.sleep(RELIST_PAUSE * random.uniform(1, 2))
                continue
            metadata = shape.section(page, "metadata")
            slices |= await asyncio.to_thread(self._read_all, shape.objects(page, "items"))
            following = shape.text(metadata, "continue") or None
            if following is None:
                self._slices, self._version = slices, shape.text(metadata, "resourceVersion")
                await self._tell()
                return
        raise DiscoveryError(f"the list does not end after {PAGES_MAX} pages")

    async def _page(self, following: str | None) -> shape.Object:
        more = {} if following is None else {"continue": following}
        async with asyncio.timeout(REQUEST_TIMEOUT), await self._request(limit=PAGE, **more) as response:
            await _check(response)
            body = await read_body(response)
        return shape.an_object(await parsed(body), "the list")

    async def _follow(self) -> None:
        """Watch until the server ends it or falls silent. _Gone if the server no longer knows the version."""
        loop = asyncio.get_running_loop()
        begun, heard = loop.time(), False
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                response = await stack.enter_async_context(
                    await self._request(
                        watch="true",
                        resourceVersion=self._version,
                        allowWatchBookmarks="true",
                        timeoutSeconds=random.randint(*WATCH_TIMEOUT),
                    )
                )
                await _check(response)
            self._report.unchanged()
            # However the watch ends, the next one starts from the last version that was seen.
            with contextlib.suppress(TimeoutError, ResponseError, OSError):
                async with asyncio.timeout(SILENCE) as silence:
                    async for line in lines(response):
                        heard = True
                        silence.reschedule(loop.time() + SILENCE)
                        await self._apply(shape.an_object(await parsed(line), "an event"))
        if not heard and loop.time() - begun < SHORT_WATCH:
            raise DiscoveryError("the server ends the watch at once")

    async def _apply(self, event: shape.Object) -> None:
        kind, item = shape.text(event, "type"), shape.section(event, "object")
        if kind == "ERROR":
            if item.get("code") == 410:
                raise _Gone
            why = shape.text(item, "message") or shape.text(item, "reason") or "no reason given"
            raise DiscoveryError(f"the watch failed: {clipped(why)}")
        self._version = shape.text(shape.section(item, "metadata"), "resourceVersion") or self._version
        if kind == "BOOKMARK":
            self._report.unchanged()
            return
        if kind == "DELETED":
            self._slices.pop(_name(item), None)
        elif kind in ("ADDED", "MODIFIED"):
            self._slices |= await asyncio.to_thread(self._read_all, (item,))
        else:
            raise DiscoveryError(f"the watch has an event of the unknown type {quoted(kind)}")
        await self._tell()
        # Let further events queue up, so that they are reported together.
        await asyncio.sleep(SETTLE)

    def _read_all(self, items: Sequence[shape.Object]) -> dict[str, Slice]:
        return {_name(item): read_slice(item, self._settings.port) for item in items}

    async def _tell(self) -> None:
        await self._report.found(await asyncio.to_thread(merge, tuple(self._slices.values())))

    async def _request(self, **parameters: str | int) -> contextlib.AbstractAsyncContextManager[Response]:
        query = {"labelSelector": f"kubernetes.io/service-name={self._settings.service}", **parameters}
        namespace = quote(self._cluster.namespace, safe="")
        target = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?{urlencode(query)}"
        headers = {"Accept": "application/json", **await self._cluster.authorization()}
        return self._client.request(self._cluster.url.under(target), headers)


class _Gone(Exception):
    """410: the server no longer knows the version, or the position in the list."""


async def _check(response: Response) -> None:
    if response.status == 200:
        return
    body = await read_body(response)
    if response.status == 410:
        raise _Gone
    message = f"HTTP {response.status}"
    with contextlib.suppress(DiscoveryError, ValueError):
        message = clipped(shape.text(shape.an_object(await parsed(body), "it"), "message")) or message
    if response.status == 401:
        raise _Unauthorized(f"the token is not accepted: {message}")
    raise DiscoveryError(message)


def _name(item: shape.Object) -> str:
    name = shape.text(shape.section(item, "metadata"), "name")
    if not name:
        raise DiscoveryError("an EndpointSlice has no name")
    return name
