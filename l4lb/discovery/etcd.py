"""Discovery by keys below a prefix in etcd, version 3: read once, then watched.

It uses the JSON gateway that every member has, so gRPC is not needed. Everything is read again at intervals and after
each interruption of the watch. That detects a member that is cut off from the others, and changes lost to a compaction.

Source: https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from l4lb.base.pacing import rounds
from l4lb.base.text import clipped, reason
from l4lb.base.threads import SerialThread
from l4lb.bounded import shape
from l4lb.bounded.client import Client, Response
from l4lb.bounded.response import ResponseError
from l4lb.bounded.url import Url
from l4lb.config.sections import discover
from l4lb.discovery.keys import range_end, read_pairs
from l4lb.discovery.source import ENDPOINTS_MAX, DiscoveryError, Report
from l4lb.discovery.web import lines, parsed, read_body, tls_context

REFRESH = 60.0
"""Seconds after which everything is read again although the watch is silent. A member without quorum then fails."""

SHORT_WATCH = 1.0
"""Seconds. A member that repeatedly ends watches sooner than this is broken."""

SETTLE = 0.05
"""Seconds between reporting a change and reading further events."""

_NUMBER = re.compile(r"[0-9]{1,20}", re.ASCII)

Pairs = dict[bytes, bytes]


class EtcdSource:
    """Implements `Source`."""

    def __init__(self, settings: discover.EtcdDiscovery) -> None:
        self._settings = settings
        self._files = SerialThread("reading a file")
        self.interval = math.inf
        self._prefix = settings.prefix.encode()
        self._member = 0

    async def watch(self, report: Report) -> NoReturn:
        settings, loop = self._settings, asyncio.get_running_loop()
        client = Client(await tls_context(self._files, settings.ca, settings.certificate, settings.key))
        async for _ in rounds():
            pairs, revision = await self._read(client)
            await self._tell(pairs, report)
            begun = loop.time()
            try:
                async with asyncio.timeout(REFRESH):
                    heard = await self._follow(client, pairs, revision + 1, report)
            except (TimeoutError, ResponseError, OSError):
                # Reading everything again shows whether the error matters.
                heard = True
            if not heard and loop.time() - begun < SHORT_WATCH:
                raise DiscoveryError("the member ends the watch at once")
        raise AssertionError("rounds do not end")

    async def _tell(self, pairs: Pairs, report: Report) -> None:
        await report.found(await asyncio.to_thread(read_pairs, tuple(pairs.items()), self._settings.prefix))

    async def _read(self, client: Client) -> tuple[Pairs, int]:
        """All pairs and their revision, from the first member that answers."""
        members = self._settings.endpoints
        problems: list[str] = []
        for _ in members:
            try:
                async with asyncio.timeout(self._settings.timeout):
                    return await self._range(client, members[self._member])
            except TimeoutError:
                problems.append(f"no answer within {self._settings.timeout:g}s")
            except (DiscoveryError, ValueError, OSError) as error:
                problems.append(reason(error))
            self._member = (self._member + 1) % len(members)
        raise DiscoveryError("; ".join(dict.fromkeys(problems)))

    async def _range(self, client: Client, member: str) -> tuple[Pairs, int]:
        async with self._post(client, member, "/v3/kv/range", self._keys() | {"limit": ENDPOINTS_MAX + 1}) as response:
            await _check(response)
            answer = await _object(await read_body(response))
        return await asyncio.to_thread(_pairs, shape.objects(answer, "kvs")), _revision(answer)

    async def _follow(self, client: Client, pairs: Pairs, revision: int, report: Report) -> bool:
        """Watch from `revision` until the member ends the watch. Returns whether there was any event."""
        heard = False
        member = self._settings.endpoints[self._member]
        request = {"create_request": self._keys() | {"start_revision": revision}}
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(self._settings.timeout):
                response = await stack.enter_async_context(self._post(client, member, "/v3/watch", request))
                await _check(response)
            async for line in lines(response):
                message = await _object(line)
                if "error" in message:
                    raise DiscoveryError(f"the watch failed: {_reason(message)}")
                result = shape.section(message, "result")
                heard = True
                if result.get("canceled"):
                    if why := shape.text(result, "cancel_reason"):
                        raise DiscoveryError(f"the watch was cancelled: {clipped(why)}")
                    # The revision was compacted.
                    return heard
                if events := shape.objects(result, "events"):
                    await self._heard(pairs, events, report)
        return heard

    async def _heard(self, pairs: Pairs, events: Sequence[shape.Object], report: Report) -> None:
        await asyncio.to_thread(_apply, pairs, events)
        if len(pairs) > ENDPOINTS_MAX:
            raise DiscoveryError(f"there are more than the {ENDPOINTS_MAX} keys that fit")
        await self._tell(pairs, report)
        # Let further events queue up, so that they are reported together.
        await asyncio.sleep(SETTLE)

    @staticmethod
    def _post(
        client: Client, member: str, target: str, body: Mapping[str, Any]
    ) -> contextlib.AbstractAsyncContextManager[Response]:
        headers = {"Content-Type": "application/json"}
        return client.request(Url.parse(member).at(target), headers, method="POST", body=json.dumps(body).encode())

    def _keys(self) -> dict[str, Any]:
        return {"key": _encoded(self._prefix), "range_end": _encoded(range_end(self._prefix))}


def _pairs(found: Sequence[shape.Object]) -> Pairs:
    if len(found) > ENDPOINTS_MAX:
        raise DiscoveryError(f"there are more than the {ENDPOINTS_MAX} keys that fit")
    return {_decoded(item, "key"): _decoded(item, "value") for item in found}


def _apply(pairs: Pairs, events: Sequence[shape.Object]) -> None:
    for event in events:
        # The JSON omits default values: the event type PUT, and an empty value.
        item = shape.section(event, "kv")
        if event.get("type") == "DELETE":
            pairs.pop(_decoded(item, "key"), None)
        else:
            pairs[_decoded(item, "key")] = _decoded(item, "value")


async def _check(response: Response) -> None:
    if response.status == 200:
        return
    try:
        message = _reason(await _object(await read_body(response)))
    except (DiscoveryError, ValueError):
        message = "no reason given"
    raise DiscoveryError(f"HTTP {response.status}: {message}")


def _reason(message: shape.Object) -> str:
    error = message.get("error")
    if isinstance(error, Mapping):
        error = error.get("message")
    given = error or message.get("message")
    return clipped(given) if isinstance(given, str) else "no reason given"


async def _object(body: bytes) -> shape.Object:
    return shape.an_object(await parsed(body), "the answer")


def _revision(answer: shape.Object) -> int:
    """64-bit numbers are strings in this JSON."""
    given = shape.section(answer, "header").get("revision") or 0
    return int(given) if isinstance(given, int) or (isinstance(given, str) and _NUMBER.fullmatch(given)) else 0


def _encoded(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _decoded(item: shape.Object, field: str) -> bytes:
    return b64decode(shape.text(item, field), validate=True)
