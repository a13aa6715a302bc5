"""The part of the Kubernetes API that EndpointSlices are read through, with every way that a real server has to end a
list or a watch. `tests/discovery/test_kubernetes_api.py` holds it against the official client and kubectl.
"""

from __future__ import annotations

import asyncio
import copy
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import trustme
import yaml
from aiohttp import web

from tests.helpers.waiting import DEADLINE
from tests.helpers.web import serving

T = TypeVar("T")
Object = dict[str, Any]

GROUP = "discovery.k8s.io"
SERVICE_LABEL = "kubernetes.io/service-name"
FIRST_VERSION = 1000


def endpoint(address: str, pod: str | None = None, zone: str | None = None, **conditions: bool | None) -> Object:
    found: Object = {"addresses": [address], "conditions": conditions}
    if pod is not None:
        found["targetRef"] = {"kind": "Pod", "name": pod, "namespace": "ml"}
    if zone is not None:
        found["zone"] = zone
    return found


@dataclass
class KubernetesApi:
    """Serves from a thread of its own for the length of a block. All methods may be called from any other thread.

    With `folder` it serves TLS, as a real one does, and puts the certificate of its authority there as `ca.crt`.
    `token` is what clients must show, if anything. `gone` is how a version that is forgotten is answered. `page` is the
    most items of a list in one answer. `requests` has the query of each request for EndpointSlices.
    """

    folder: Path | None = None
    token: str | None = None
    gone: Literal["status", "event"] = "status"
    page: int = 500
    broken: bool = False
    requests: list[dict[str, str]] = field(default_factory=list)
    unauthorized: int = 0

    def __enter__(self) -> Self:
        self._slices: dict[tuple[str, str], Object] = {}
        self._version = FIRST_VERSION
        self._history: list[tuple[int, Object]] = []
        self._forgotten = FIRST_VERSION
        self._pages: dict[str, tuple[list[Object], str]] = {}
        self._watches: set[_Watcher] = set()
        self._tls: ssl.SSLContext | None = None
        if self.folder is not None:
            authority = trustme.CA()
            authority.cert_pem.write_to_path(str(self.folder / "ca.crt"))
            self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            authority.issue_cert("127.0.0.1").configure_cert(self._tls)
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._started.wait(DEADLINE), "the API did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(DEADLINE)

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        async with serving(self._handle, self._tls) as self.origin:
            self._started.set()
            await self._stopping.wait()
            for watch in self._watches:
                watch.end()

    def _call(self, function: Callable[[], T]) -> T:
        async def call() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(DEADLINE)

    # ---- what happens in the cluster -------------------------------------------------------------------------------

    def put(
        self,
        name: str,
        *endpoints: Object,
        service: str = "llama",
        namespace: str = "ml",
        ports: Any = ({"name": "http", "port": 8000, "protocol": "TCP"},),
        family: str = "IPv4",
    ) -> None:
        """Create or change an EndpointSlice."""
        item = {
            "apiVersion": f"{GROUP}/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": namespace, "labels": {SERVICE_LABEL: service}, "uid": f"u-{name}"},
            "addressType": family,
            "endpoints": list(endpoints),
            "ports": list(ports),
        }

        def change() -> None:
            known = (namespace, name) in self._slices
            self._slices[namespace, name] = item
            self._happen("MODIFIED" if known else "ADDED", item)

        self._call(change)

    def delete(self, name: str, namespace: str = "ml") -> None:
        self._call(lambda: self._happen("DELETED", self._slices.pop((namespace, name))))

    def bookmark(self, versions: int = 1) -> None:
        """Tell every watch that so many changes of no interest to it have passed."""

        def pass_by() -> None:
            self._version += versions
            mark = {"kind": "EndpointSlice", "apiVersion": f"{GROUP}/v1"}
            self._send({"type": "BOOKMARK", "object": mark | {"metadata": {"resourceVersion": str(self._version)}}})

        self._call(pass_by)

    def forget(self) -> None:
        """Compact: no version before this one can be watched from, and no list be continued."""

        def forget() -> None:
            self._version += 1
            self._forgotten = self._version
            self._history.clear()
            self._pages.clear()

        self._call(forget)

    def end_watches(self, last: bytes = b"") -> None:
        """End every watch, with these bytes before the end; bytes cut it off without an end of the body."""
        self._call(lambda: [watch.end(last) for watch in list(self._watches)])

    def send(self, event: Object) -> None:
        """Send every watch an event of the test's making."""
        self._call(lambda: self._send(event))

    @property
    def watches(self) -> int:
        return len(self._watches)

    def lists(self) -> int:
        """How many lists were begun."""
        return sum("watch" not in query and "continue" not in query for query in self.requests)

    def _happen(self, kind: str, item: Object) -> None:
        self._version += 1
        item["metadata"]["resourceVersion"] = str(self._version)
        event = {"type": kind, "object": copy.deepcopy(item)}
        self._history.append((self._version, event))
        self._send(event)

    def _send(self, event: Object) -> None:
        for watch in self._watches:
            if event["type"] != "BOOKMARK" or watch.bookmarks:
                watch.put(event)

    def kubeconfig(self, path: Path, namespace: str = "ml") -> Path:
        """Write how to reach this API."""
        user = {} if self.token is None else {"token": self.token}
        cluster = {"server": self.origin}
        if self.folder is not None:
            cluster["certificate-authority"] = str(self.folder / "ca.crt")
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
            "current-context": "x",
        }
        path.write_text(yaml.safe_dump(config))
        return path

    # ---- serving ---------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            self.unauthorized += 1
            return _status(401, "Unauthorized", "Unauthorized")
        if self.broken:
            return _status(503, "ServiceUnavailable", "the apiserver is down")
        if (found := _discovery(request.path)) is not None:
            return web.json_response(found)
        parts = request.path.strip("/").split("/")
        if parts[:3] != ["apis", GROUP, "v1"] or parts[3:4] != ["namespaces"] or parts[5:] != ["endpointslices"]:
            return _status(404, "NotFound", "the server could not find the requested resource")
        query = dict(request.query)
        self.requests.append(query)
        if query.get("watch") in ("1", "true", "True"):
            return await self._watch(request, parts[4], query)
        return self._list(parts[4], query)

    def _matching(self, namespace: str, query: dict[str, str]) -> Callable[[Object], bool]:
        wanted = dict(part.split("=") for part in query.get("labelSelector", "").replace("==", "=").split(",") if part)

        def matches(item: Object) -> bool:
            metadata = item["metadata"]
            return metadata["namespace"] == namespace and wanted.items() <= metadata["labels"].items()

        return matches

    def _list(self, namespace: str, query: dict[str, str]) -> web.Response:
        if "continue" in query:
            if query["continue"] not in self._pages:
                return _status(410, "Expired", "The provided continue parameter is too old")
            items, version = self._pages.pop(query["continue"])
        else:
            matches = self._matching(namespace, query)
            items = [copy.deepcopy(item) for _, item in sorted(self._slices.items()) if matches(item)]
            version = str(self._version)
        size = min(self.page, int(query.get("limit") or 500))
        metadata: Object = {"resourceVersion": version}
        if len(items) > size:
            metadata["continue"] = f"page-{len(self._pages)}-{len(items)}-{version}"
            metadata["remainingItemCount"] = len(items) - size
            self._pages[metadata["continue"]] = (items[size:], version)
        head = {"kind": "EndpointSliceList", "apiVersion": f"{GROUP}/v1", "metadata": metadata}
        return web.json_response(head | {"items": items[:size]})

    async def _watch(self, request: web.Request, namespace: str, query: dict[str, str]) -> web.StreamResponse:
        matches = self._matching(namespace, query)
        version = query.get("resourceVersion", "")
        if version in ("", "0"):
            past = [{"type": "ADDED", "object": item} for item in self._slices.values() if matches(item)]
        else:
            if not version.isdigit():
                return _status(400, "BadRequest", f"invalid resource version {version}")
            if int(version) < self._forgotten:
                if self.gone == "status":
                    return _status(410, "Expired", "too old resource version")
                past = [{"type": "ERROR", "object": _error(410, "Expired", "too old resource version")}]
            else:
                past = [event for at, event in self._history if at > int(version) and matches(event["object"])]
        watcher = _Watcher(matches, query.get("allowWatchBookmarks") in ("1", "true", "True"))
        for event in past:
            watcher.put(event)
        if past and past[0]["type"] == "ERROR":
            watcher.end()
        self._watches.add(watcher)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        try:
            await response.prepare(request)
            async with asyncio.timeout(float(query.get("timeoutSeconds", 3600))):
                while (data := await watcher.queue.get()) is not None:
                    # In two pieces, as the network may cut it.
                    await response.write(data[: len(data) // 2])
                    await response.write(data[len(data) // 2 :])
                    if not data.endswith(b"\n"):
                        assert request.transport is not None
                        request.transport.abort()
        except (TimeoutError, ConnectionError):
            pass
        finally:
            self._watches.discard(watcher)
        return response


class _Watcher:
    """The events that one watch has not been sent yet."""

    def __init__(self, matches: Callable[[Object], bool], bookmarks: bool) -> None:
        self.bookmarks = bookmarks
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._matches = matches

    def put(self, event: Object) -> None:
        if "labels" not in event["object"].get("metadata", {}) or self._matches(event["object"]):
            self.queue.put_nowait(json.dumps(event).encode() + b"\n")

    def end(self, last: bytes = b"") -> None:
        if last:
            self.queue.put_nowait(last)
        self.queue.put_nowait(None)


def _error(code: int, reason: str, message: str) -> Object:
    head = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return head | {"message": message, "reason": reason, "code": code}


def _status(code: int, reason: str, message: str) -> web.Response:
    return web.json_response(_error(code, reason, message), status=code)


def _discovery(path: str) -> Object | None:
    """What a client asks to learn what the server has."""
    version = {"groupVersion": f"{GROUP}/v1", "version": "v1"}
    group = {"name": GROUP, "versions": [version], "preferredVersion": version}
    resource = {
        "name": "endpointslices",
        "singularName": "endpointslice",
        "namespaced": True,
        "kind": "EndpointSlice",
        "verbs": ["get", "list", "watch"],
    }
    answers: dict[str, Object] = {
        "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
        "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": []},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]},
        f"/apis/{GROUP}/v1": {"kind": "APIResourceList", "groupVersion": f"{GROUP}/v1", "resources": [resource]},
        "/version": {"major": "1", "minor": "30", "gitVersion": "v1.30.0"},
    }
    return answers.get(path)
