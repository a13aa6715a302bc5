"""`max_busy` in the server's own count: never exceeded, whatever clients do."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Sequence

import pytest
import uvloop

from tests.conftest import MakeScene
from tests.helpers.counting import Counted
from tests.helpers.peers import Address
from tests.helpers.waiting import wait_until

REQUESTS = 100_000
SERVERS = 4
MAX_BUSY = 5
CLIENTS = 80
"""Four times as many as there is room for."""
PIPELINED_MOST = 4
PATIENCE_MOST = 0.15
"""Seconds: longer than most responses take, with the time in the queue."""
RESET = struct.pack("ii", 1, 0)


class Client:
    """Asks on a connection that stays open, pipelines at times, and at times leaves without its response."""

    def __init__(self, number: int, address: Address) -> None:
        self._number = number
        self._address = address
        self._asked = 0
        self.complete = 0
        self.left = 0

    async def run(self, servers: Sequence[Counted]) -> None:
        while sum(server.requests for server in servers) < REQUESTS:
            reader, writer = await asyncio.open_connection(*self._address)
            with contextlib.closing(writer):
                while sum(server.requests for server in servers) < REQUESTS:
                    paths = [self._path() for _ in range(random.choice((1, 1, 1, PIPELINED_MOST)))]
                    writer.write(b"".join(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in paths))
                    if random.random() < 0.1:
                        await self._leave(writer)
                        break
                    for path in paths:
                        assert await _body(reader) == path
                    self.complete += len(paths)

    def _path(self) -> bytes:
        self._asked += 1
        return b"/%d/%d" % (self._number, self._asked)

    async def _leave(self, writer: asyncio.StreamWriter) -> None:
        """By a reset or a FIN, before the request is placed, in the queue or in the middle of the response."""
        await asyncio.sleep(random.uniform(0, PATIENCE_MOST))
        if random.random() < 0.5:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.left += 1


async def _body(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    return await reader.readexactly(int(head.rpartition(b":")[2]))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_server_works_on_more_than_max_busy_requests(balance: MakeScene) -> None:
    servers = [Counted(f"b{number}", seconds_most=0.003) for number in range(SERVERS)]
    scene = balance(
        *({"address": server.address, "max_busy": MAX_BUSY} for server in servers),
        pool={
            "protocol": "http1",
            "balance": "least_busy",
            "queue": {"size": 1000, "timeout": "1m"},
            "abort_on_close": True,
        },
        process={"workers": 3},
    )
    clients = [Client(number, scene.address) for number in range(CLIENTS)]

    async def run() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for server in servers:
                await stack.enter_async_context(server.serving())
            await asyncio.gather(*(client.run(servers) for client in clients))

    uvloop.run(run())
    assert sum(server.requests for server in servers) >= REQUESTS
    assert [server.most for server in servers] == [MAX_BUSY] * SERVERS
    assert sum(client.left for client in clients) > REQUESTS / 100
    assert sum(server.abandoned for server in servers) > REQUESTS / 10_000
    wait_until(lambda: all(scene.backend_status(server.name)["busy"] == 0 for server in servers))
    assert scene.lb.metric("l4lb_pool_queue_seconds_count", pool=scene.pool) > REQUESTS / 10
