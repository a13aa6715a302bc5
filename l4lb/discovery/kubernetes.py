"""Backends from the EndpointSlices of a Service in Kubernetes: listed once, then watched.

The watch goes on from the last version that was seen, whatever interrupts it. When the server no longer knows that
version (410, as a status or as an event), everything is listed again and takes the place of what was known, so that
what went meanwhile is gone. Versions are never compared.

Reaching the cluster and signing in are kubernetes-asyncio's; it is only needed, and only loaded, by such a pool.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NoReturn

import aiohttp

from l4lb.config.sections import discover
from l4lb.discovery.endpoint_slices import Object, Slice, merge, read_slice
from l4lb.discovery.source import DiscoveryError, Report
from l4lb.discovery.web import in_words, lines, read_body

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
PAGE = 500
PAGES_MAX = 64

REQUEST_TIMEOUT = 10.0
"""Seconds for signing in, for a page of a list, and for a watch to begin."""

WATCH_TIMEOUT = (240, 300)
"""Seconds after which the server ends a watch, drawn anew each time: a dead one is not waited for any longer."""

SILENCE = 90.0
"""Seconds without an event or bookmark after which a watch is begun anew, from where it was: its server may be gone."""

RELIST_PAUSE = 1.0
"""Seconds before everything is listed again, or twice that: all who watch do so when the server loses its history."""

SHORT_WATCH = 1.0
"""Seconds. A server that ends watches sooner without a word is broken."""


class _Unauthorized(DiscoveryError):
    pass


class KubernetesSource:
    """Satisfies `Source`."""

    def __init__(self, settings: discover.KubernetesSource) -> None:
        self._settings = settings

    async def watch(self, report: Report) -> NoReturn:
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                async with _signed_in(self._settings) as (api, namespace):
                    await _Watch(self._settings, api, namespace, report).run()
            except _Unauthorized:
                # Tokens rotate; whoever signs in again reads the new one. If that does not help, it is a failure.
                if loop.time() - begun < REQUEST_TIMEOUT:
                    raise
            except aiohttp.ClientError as error:
                raise DiscoveryError(in_words(error)) from error


class _Watch:
    """The slices as they are known, for as long as one sign-in holds."""

    def __init__(self, settings: discover.KubernetesSource, api: Any, namespace: str, report: Report) -> None:
        self._settings = settings
        self._api = api
        self._namespace = namespace
        self._report = report
        self._slices: dict[str, Slice] = {}
        self._version = ""

    async def run(self) -> NoReturn:
        while True:
            await self._list()
            with contextlib.suppress(_Gone):
                while True:
                    await self._follow()
            await asyncio.sleep(RELIST_PAUSE * random.uniform(1, 2))

    async def _list(self) -> None:
        slices: dict[str, Slice] = {}
        following: str | None = None
        for _ in range(PAGES_MAX):
            try:
                page = await self._page(following)
            except _Gone:
                # The list took so long that its beginning is forgotten.
                slices, following = {}, None
                await asyncio.sleep(RELIST_PAUSE * random.uniform(1, 2))
                continue
            metadata = page.get("metadata") or {}
            slices |= {_name(item): self._read(item) for item in page.get("items") or ()}
            following = metadata.get("continue") or None
            if following is None:
                self._slices, self._version = slices, str(metadata.get("resourceVersion") or "")
                self._tell()
                return
        raise DiscoveryError(f"the list does not end after {PAGES_MAX} pages")

    async def _page(self, following: str | None) -> Object:
        async with asyncio.timeout(REQUEST_TIMEOUT):
            response = await self._request(limit=PAGE, **({} if following is None else {"_continue": following}))
            async with response:
                await _check(response)
                body = await read_body(response)
        found = await asyncio.to_thread(json.loads, body)
        if not isinstance(found, dict):
            raise DiscoveryError("the server answers no list")
        return found

    async def _follow(self) -> None:
        """Watch until the server ends it, or nothing is heard any more. _Gone when the version is forgotten."""
        loop = asyncio.get_running_loop()
        begun, heard = loop.time(), False
        async with asyncio.timeout(REQUEST_TIMEOUT):
            response = await self._request(
                watch=True,
                resource_version=self._version,
                allow_watch_bookmarks=True,
                timeout_seconds=random.randint(*WATCH_TIMEOUT),
            )
        async with response:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                await _check(response)
            self._report.unchanged()
            # However it ends, it goes on from the last version that was seen.
            with contextlib.suppress(TimeoutError, aiohttp.ClientPayloadError, ConnectionResetError):
                async for line in lines(response):
                    heard = True
                    self._apply(json.loads(line))
        if not heard and loop.time() - begun < SHORT_WATCH:
            raise DiscoveryError("the server ends the watch at once")

    def _apply(self, event: Object) -> None:
        kind, item = event.get("type"), event.get("object") or {}
        if kind == "ERROR":
            if item.get("code") == 410:
                raise _Gone
            raise DiscoveryError(f"the watch failed: {item.get('message') or item.get('reason') or 'no reason given'}")
        self._version = str((item.get("metadata") or {}).get("resourceVersion") or self._version)
        if kind == "BOOKMARK":
            self._report.unchanged()
            return
        if kind == "DELETED":
            self._slices.pop(_name(item), None)
        elif kind in ("ADDED", "MODIFIED"):
            self._slices[_name(item)] = self._read(item)
        else:
            raise DiscoveryError(f"the watch has an event of the unknown type {kind!r}")
        self._tell()

    def _read(self, item: Object) -> Slice:
        return read_slice(item, self._settings.port)

    def _tell(self) -> None:
        self._report.found(merge(self._slices.values()))

    async def _request(self, **parameters: Any) -> aiohttp.ClientResponse:
        response: aiohttp.ClientResponse = await self._api.list_namespaced_endpoint_slice(
            self._namespace,
            label_selector=f"kubernetes.io/service-name={self._settings.service}",
            _preload_content=False,
            # Deadlines are ours: of the library's, the shortest would end a watch.
            _request_timeout=aiohttp.ClientTimeout(total=None, sock_read=SILENCE),
            **parameters,
        )
        return response


class _Gone(Exception):
    """410: the server has forgotten the version, or the place in the list, that was asked for."""


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status == 200:
        return
    body = await read_body(response)
    if response.status == 410:
        raise _Gone
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, LookupError, TypeError):
        message = f"HTTP {response.status}"
    if response.status == 401:
        raise _Unauthorized(f"the token is not accepted: {message}")
    raise DiscoveryError(message)


def _name(item: Object) -> str:
    name = (item.get("metadata") or {}).get("name")
    if not isinstance(name, str):
        raise DiscoveryError("an EndpointSlice has no name")
    return name


@contextlib.asynccontextmanager
async def _signed_in(settings: discover.KubernetesSource) -> AsyncIterator[tuple[Any, str]]:
    """The API of the cluster, and the namespace to look in. Files are read now."""
    client, config = await asyncio.to_thread(_library)
    configuration = client.Configuration()
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT):
            if settings.kubeconfig is None:
                namespace = await asyncio.to_thread(_as_service_account, config, configuration)
            else:
                await config.load_kube_config(
                    settings.kubeconfig, client_configuration=configuration, persist_config=False
                )
                _, context = await asyncio.to_thread(config.list_kube_config_contexts, settings.kubeconfig)
                namespace = ((context or {}).get("context") or {}).get("namespace")
    except config.ConfigException as error:
        raise DiscoveryError(f"the cluster cannot be reached: {error}") from error
    async with client.ApiClient(configuration) as api:
        yield client.DiscoveryV1Api(api), settings.namespace or namespace or "default"


def _library() -> tuple[Any, Any]:
    try:
        from kubernetes_asyncio import client, config
    except ImportError as error:
        raise DiscoveryError(f"it needs more packages ({error.name}); install l4lb[kubernetes]") from error
    return client, config


def _as_service_account(config: Any, configuration: Any) -> str | None:
    """Sign in as the pod that this process runs in; its namespace."""
    account = Path(SERVICE_ACCOUNT)
    config.load_incluster_config(
        configuration, token_filename=str(account / "token"), cert_filename=str(account / "ca.crt")
    )
    with contextlib.suppress(OSError):
        return (account / "namespace").read_text().strip()
    return None
