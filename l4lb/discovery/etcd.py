"""Backends from keys below a prefix in etcd, version 3: read once, then watched.

Through the JSON gateway that every member has, so no gRPC is needed. Everything is read again now and then, and after
each break of the watch: that finds a member that is cut off from the others, and what a compaction made us miss.

Source: https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, NoReturn

import aiohttp

from l4lb.config.sections import discover
from l4lb.discovery.keys import range_end, read_pairs
from l4lb.discovery.source import ENDPOINTS_MAX, DiscoveryError, Report
from l4lb.discovery.web import in_words, lines, new_session, read_body, tls_context

REFRESH = 60.0
"""Seconds after which everything is read again though nothing was heard. A member without a quorum then says so."""

SHORT_WATCH = 1.0
"""Seconds. A member that ends watches sooner without a word is broken."""

WRONG_MAX = 1024
"""Keys whose mistakes are remembered, so that each is said once."""

_log = logging.getLogger(__name__)

Pairs = dict[bytes, bytes]


class EtcdSource:
    """Satisfies `Source`."""

    def __init__(self, settings: discover.EtcdSource) -> None:
        self._settings = settings
        self._prefix = settings.prefix.encode()
        self._member = 0
        self._wrong: dict[str, str] = {}

    async def watch(self, report: Report) -> NoReturn:
        settings, loop = self._settings, asyncio.get_running_loop()
        async with new_session(await tls_context(settings.ca, settings.certificate, settings.key)) as session:
            while True:
                pairs, revision = await self._read(session)
                self._tell(pairs, report)
                begun = loop.time()
                try:
                    async with asyncio.timeout(REFRESH):
                        heard = await self._follow(session, pairs, revision + 1, report)
                except (TimeoutError, aiohttp.ClientError, ConnectionError):
                    # Whether that matters shows when everything is read again.
                    heard = True
                if not heard and loop.time() - begun < SHORT_WATCH:
                    raise DiscoveryError("the member ends the watch at once")

    def _tell(self, pairs: Pairs, report: Report) -> None:
        endpoints, wrong = read_pairs(pairs.items(), self._settings.prefix)
        for key, mistake in wrong.items():
            if self._wrong.get(key) != mistake:
                _log.warning("etcd: the key %s is passed over: %s", key, mistake)
        self._wrong = dict(list(wrong.items())[:WRONG_MAX])
        report.found(endpoints)

    async def _read(self, session: aiohttp.ClientSession) -> tuple[Pairs, int]:
        """All pairs, and the revision they are of, from the first member that answers."""
        members = self._settings.endpoints
        problems: list[str] = []
        for _ in members:
            try:
                async with asyncio.timeout(self._settings.timeout):
                    return await self._range(session, members[self._member])
            except TimeoutError:
                problems.append(f"no answer within {self._settings.timeout:g}s")
            except aiohttp.ClientError as error:
                problems.append(in_words(error))
            except DiscoveryError as error:
                problems.append(str(error))
            self._member = (self._member + 1) % len(members)
        raise DiscoveryError("; ".join(dict.fromkeys(problems)))

    async def _range(self, session: aiohttp.ClientSession, member: str) -> tuple[Pairs, int]:
        body = self._keys() | {"limit": ENDPOINTS_MAX + 1}
        async with session.post(f"{member}/v3/kv/range", json=body, allow_redirects=False) as response:
            await _check(response)
            answer = _object(await read_body(response))
        pairs = {_decoded(item, "key"): _decoded(item, "value") for item in answer.get("kvs") or ()}
        if len(pairs) > ENDPOINTS_MAX:
            raise DiscoveryError(f"there are more than the {ENDPOINTS_MAX} keys that fit")
        return pairs, _revision(answer)

    async def _follow(self, session: aiohttp.ClientSession, pairs: Pairs, revision: int, report: Report) -> bool:
        """Watch from `revision` until the member ends it; whether it said anything."""
        heard = False
        member = self._settings.endpoints[self._member]
        request = {"create_request": self._keys() | {"start_revision": revision}}
        post = session.post(f"{member}/v3/watch", json=request, allow_redirects=False)
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(self._settings.timeout):
                response = await stack.enter_async_context(post)
                await _check(response)
            async for line in lines(response):
                message = _object(line)
                if "error" in message:
                    raise DiscoveryError(f"the watch failed: {_reason(message)}")
                result = message.get("result") or {}
                heard = True
                if result.get("canceled"):
                    # A compaction has swallowed the revision.
                    return heard
                events = result.get("events") or ()
                for event in events:
                    _apply(pairs, event)
                if events:
                    self._tell(pairs, report)
        return heard

    def _keys(self) -> dict[str, Any]:
        return {"key": _encoded(self._prefix), "range_end": _encoded(range_end(self._prefix))}


def _apply(pairs: Pairs, event: Mapping[str, Any]) -> None:
    # What is a default is left out of the JSON: PUT is one, and so is an empty value.
    item = event.get("kv") or {}
    if event.get("type") == "DELETE":
        pairs.pop(_decoded(item, "key"), None)
    else:
        pairs[_decoded(item, "key")] = _decoded(item, "value")


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status == 200:
        return
    try:
        message = _reason(_object(await read_body(response)))
    except DiscoveryError:
        message = "no reason given"
    raise DiscoveryError(f"HTTP {response.status}: {message}")


def _reason(message: Mapping[str, Any]) -> str:
    error = message.get("error")
    if isinstance(error, Mapping):
        error = error.get("message")
    return str(error or message.get("message") or "no reason given")


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DiscoveryError(f"the answer is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise DiscoveryError("the answer is no object")
    return found


def _revision(answer: Mapping[str, Any]) -> int:
    return int((answer.get("header") or {}).get("revision") or 0)


def _encoded(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _decoded(item: Mapping[str, Any], field: str) -> bytes:
    return b64decode(str(item.get(field) or ""), validate=True)
