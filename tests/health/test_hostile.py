"""Checks of servers that try to keep the control plane busy: each ends soon, in short turns of the loop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest

from l4lb.config.model import Health
from l4lb.health.probes import Result, probe
from tests.health.probing import target
from tests.health.test_probe_grpc import SETTINGS, frame
from tests.health.test_probe_mysql import greeting, packet
from tests.health.test_probe_pgsql import message
from tests.helpers.loops import run
from tests.helpers.peers import Address, Peer, Served

TURN_MAX = 0.05
"""Seconds of CPU time in which the loop has to turn."""

TYPES: dict[str, dict[str, Any]] = {
    "http": {"body": "(x+x+)+y"},
    "grpc": {},
    "redis": {"role": "primary"},
    "pgsql": {"user": "u", "password": "p", "role": "primary"},
    "mysql": {"user": "u", "password": "p", "role": "primary"},
    "smtp": {},
    "send_expect": {"script": [{"send": "a", "match": ["(x+x+)+y", "!z"]}]},
}

FLOODS = {
    "x": b"x" * 65536,
    "lines": b"\r\n" * 32768,
    "zeros": bytes(65536),
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    "header": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000,
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 10_000,
    "reply": b"250-more\r\n" * 6000,
    "array": b"+PONG\r\n" + b"*1\r\n" * 10_000,
    "notices": message(b"N", b"") * 10_000,
    "passwords": message(b"R", b"\0\0\0\3") * 5000,
    "switches": greeting(b"mysql_native_password") + packet(2, b"\xfemysql_native_password\0" + bytes(20)) * 1000,
    "settings": SETTINGS * 7000,
    "pings": SETTINGS + frame(6, 0, 0, bytes(8)) * 4000,
}


def flooding(data: bytes) -> Callable[[Peer], None]:
    def handle(peer: Peer) -> None:
        with contextlib.suppress(OSError):
            for _ in itertools.count():
                peer.send(data)

    return handle


def dripping(data: bytes) -> Callable[[Peer], None]:
    def handle(peer: Peer) -> None:
        with contextlib.suppress(OSError):
            for at in itertools.count():
                peer.send(data[at % len(data) :][:1])

    return handle


async def timed(address: Address, health: Health) -> tuple[Result, float]:
    """The result, and the longest turn of the loop meanwhile, in CPU time of its thread."""
    longest = 0.0

    async def turn() -> None:
        nonlocal longest
        before = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest, before = max(longest, now - before), now

    turning = asyncio.get_running_loop().create_task(turn())
    result = await probe(target(address), health)
    turning.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await turning
    return result, longest


@pytest.mark.parametrize(
    ("how", "flood"),
    [*((flooding, flood) for flood in FLOODS), *((dripping, flood) for flood in ("x", "lines", "chunks"))],
)
@pytest.mark.parametrize("kind", TYPES)
def test_a_server_that_floods_is_down_and_holds_nothing_up(
    kind: str, flood: str, how: Callable[[bytes], Callable[[Peer], None]]
) -> None:
    health = Health.model_validate({"type": kind, "timeout": 0.3} | TYPES[kind])
    with Served(how(FLOODS[flood])) as server:
        result, longest = run(timed(server.address, health))
    assert not result.ok
    assert len(result.message) < 500
    assert result.message.isprintable()
    assert "internal error" not in result.message
    # A pattern has its own bound of 50 ms.
    assert longest < 2 * TURN_MAX + 0.05
