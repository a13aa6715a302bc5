"""Whatever happens: no message is torn, no server's connection has two clients, `max_busy` holds as servers count."""

from __future__ import annotations

import asyncio
import itertools

import aiohttp
import pytest

from tests.clients.clients import PATIENCE, mixed
from tests.clients.fleet import Fleet
from tests.clients.messages import Ask
from tests.clients.raw import read_response
from tests.helpers.loops import run
from tests.helpers.peers import Background, connect
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.slow

REQUESTS = 10_000
CLIENTS = 60
MAX_BUSY = 4


class Storm:
    """Clients of one connection each, with so many requests altogether, every response checked."""

    def __init__(self, origin: str, requests: int) -> None:
        self.opened = 0
        self.failed: list[Exception] = []
        self._origin, self._requests = origin, requests
        self._numbers = itertools.count(1)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for client in range(CLIENTS):
                group.create_task(self._walk(f"c{client}"))

    async def _walk(self, name: str) -> None:
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(self._count)
        connector = aiohttp.TCPConnector(limit=1, keepalive_timeout=600)
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(
            self._origin, connector=connector, trace_configs=[trace], timeout=timeout
        ) as http:
            while (number := next(self._numbers)) <= self._requests:
                # Most are short: what counts is how many meet at a server.
                short = Ask(name, number, "POST" if number % 3 else "GET", "/work")
                await self._request(http, mixed(name, number) if number % 10 == 0 else short)

    async def _count(self, *_: object) -> None:
        self.opened += 1

    async def _request(self, http: aiohttp.ClientSession, ask: Ask) -> None:
        try:
            async with http.request(ask.method, ask.target, data=ask.body) as response:
                ask.check(response.status, await response.read())
        except aiohttp.ClientError as error:
            self.failed.append(error)


@pytest.mark.timeout(300)
def test_no_server_ever_has_more_than_max_busy_and_nothing_is_mixed_up() -> None:
    pool = {"queue": {"size": 1000, "timeout": "1m"}}
    with Fleet("httptools", "h11", "aiohttp", pool=pool, backend={"max_busy": MAX_BUSY}) as fleet:
        storm = Storm(fleet.origin, REQUESTS)
        run(storm.run(), deadline=240)
        assert storm.failed == []
        assert storm.opened == CLIENTS
        lines = fleet.noted()
        assert len(lines) == REQUESTS
        assert max(line["in_flight"] for line in lines) == MAX_BUSY
        assert {line["server"] for line in lines} == {"s0", "s1", "s2"}
        assert fleet.balancer.metric("l4lb_pool_queue_seconds_count", pool="web") > CLIENTS
        assert fleet.pinned == {}
        fleet.check_connections()


@pytest.mark.timeout(300)
def test_servers_that_are_killed_under_load_cost_only_the_requests_they_had() -> None:
    pool = {"health": {"type": "tcp", "interval": "200ms"}}
    with Fleet("httptools", "h11", "aiohttp", pool=pool) as fleet:
        storm = Storm(fleet.origin, REQUESTS)
        running = Background(lambda: run(storm.run(), deadline=240))
        kills = 0
        while running.running():
            server = fleet.servers[kills % len(fleet.servers)]
            server.kill()
            kills += 1
            server.start()
            fleet.wait_up(server)
        running.result()
        assert storm.opened - CLIENTS <= kills * CLIENTS
        # A GET is sent again, by l4lb or by aiohttp. A client has one request in flight.
        assert len(storm.failed) <= storm.opened - CLIENTS
        fleet.check_connections("GET")


@pytest.mark.parametrize("how", ["reset", "finish"])
def test_a_queued_request_whose_client_leaves_reaches_no_server(how: str) -> None:
    pool = {"queue": {"size": 10, "timeout": "1m"}, "abort_on_close": True}
    with Fleet("httptools", pool=pool, backend={"max_busy": 1}) as fleet:
        with connect(fleet.address) as first, connect(fleet.address) as leaver, connect(fleet.address) as last:
            # Each has had a response, so that it is a later request of a connection that waits.
            for client, peer in {"first": first, "leaver": leaver, "last": last}.items():
                peer.send(Ask(client, 1).raw())
                read_response(peer)
            first.send(Ask("first", 2, path="/hold").raw())
            fleet.wait_noted("first", 2)
            leaver.send(Ask("leaver", 2).raw())
            wait_until(lambda: fleet.pool["queued"] == 1, what=lambda: fleet.pool)
            last.send(Ask("last", 2).raw())
            wait_until(lambda: fleet.pool["queued"] == 2, what=lambda: fleet.pool)
            getattr(leaver, how)()
            wait_until(lambda: fleet.pool["queued"] == 1, what=lambda: fleet.pool)
            fleet.release()
            fleet.wait_noted("last", 2)
        assert [line["number"] for line in fleet.noted() if line["client"] == "leaver"] == [1]
