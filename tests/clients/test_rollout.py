"""Servers are restarted, killed and close connections; clients of HTTP/1 keep theirs and miss nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.clients.clients import PATIENCE, Client, Walk, crowd, opened, small
from tests.clients.fleet import Fleet
from tests.clients.messages import Ask
from tests.clients.programs import Curl, Wrk
from tests.helpers.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KINDS = ("httptools", "h11", "aiohttp")
UNTIL_SERVER = {"timeouts": {"backend_keepalive": "10m"}}
"""The server is the one that ends a connection."""


def ask_once(clients: list[Client], number: int) -> set[str]:
    """One request of each client; the servers that responded."""
    asks = [(client, Ask(client.name, number, "POST" if number % 2 else "GET")) for client in clients]
    return {ask.check(*client.send(ask)) for client, ask in asks}


def wait_detached(fleet: Fleet, number: int) -> None:
    wait_until(lambda: fleet.pool["detached_total"] >= number, what=lambda: fleet.pool)


def wait_no_connections(fleet: Fleet, *names: str) -> None:
    """Wait until no client has a connection to these servers."""

    def left() -> int:
        backends = fleet.pool["backends"]
        return sum(backends[name]["connections"] for name in names)

    wait_until(lambda: left() == 0, what=lambda: fleet.pool)


def test_no_client_notices_a_rolling_restart(node: str, curl: str, wrk: str, tmp_path: Path) -> None:
    with Fleet(*KINDS) as fleet, crowd(fleet.origin, node) as clients, Walk(clients) as walk:
        with Wrk(wrk, fleet.origin, 4) as load, Curl(curl, fleet.origin, tmp_path) as curls:
            walk.wait_done()
            for server in fleet.servers:
                fleet.wait_served(server)
                fleet.roll(server)
                fleet.wait_served(server)
                walk.wait_done()
            curls.wait_run()
        walk.check()
        assert curls.failures == []
        assert not load.failed, load.report
        assert opened(clients) == {}
        accepted = fleet.balancer.status()["listeners"]["web"]["connections_total"]
        assert accepted == len(clients) + load.connections + 1 + curls.runs
        assert len({line["process"] for line in fleet.noted()}) == 2 * len(KINDS)
        assert fleet.pinned == {}
        fleet.check_connections()


def test_servers_that_stop_without_a_drain_fail_no_get(node: str) -> None:
    """A server that stops closes idle connections, and may say in a response that its connection ends."""
    with Fleet(*KINDS) as fleet, crowd(fleet.origin, node, copies=2) as clients, Walk(clients, small) as walk:
        for server in fleet.servers * 2:
            walk.wait_done()
            server.stop()
            server.start()
            fleet.wait_served(server)
        walk.check()


def test_a_server_that_is_killed_between_two_requests_costs_no_connection(node: str) -> None:
    with Fleet(*KINDS, pool=UNTIL_SERVER) as fleet, crowd(fleet.origin, node, copies=2) as clients:
        ask_once(clients, 1)
        for number, server in enumerate(fleet.servers[:2], start=2):
            server.kill()
            wait_no_connections(fleet, server.name)
            assert server.name not in ask_once(clients, number)
        assert fleet.pool["detached_total"] > 0
        assert opened(clients) == {}
        fleet.check_connections()


def test_clients_may_idle_longer_than_servers_keep_connections(node: str) -> None:
    with Fleet(*KINDS, pool=UNTIL_SERVER, keepalive=1) as fleet, crowd(fleet.origin, node) as clients:
        for number in (1, 2, 3):
            ask_once(clients, number)
            wait_detached(fleet, number * len(clients))
        ask_once(clients, 4)
        assert opened(clients) == {}
        assert fleet.pool["resends_total"] == 0


def test_a_backend_connection_is_given_up_before_the_server_closes_it(node: str) -> None:
    pool = {"timeouts": {"backend_keepalive": "300ms"}}
    with Fleet(*KINDS, pool=pool) as fleet, crowd(fleet.origin, node) as clients:
        for number in (1, 2, 3):
            ask_once(clients, number)
            wait_no_connections(fleet, *(server.name for server in fleet.servers))
            assert {session["state"] for session in fleet.balancer.sessions()} == {"kept"}
        ask_once(clients, 4)
        assert opened(clients) == {}


def test_a_curl_that_pauses_keeps_its_connection(curl: str) -> None:
    """It sends a request every two seconds, and the servers keep a connection for one."""
    with Fleet("httptools", "aiohttp", pool=UNTIL_SERVER, keepalive=1) as fleet:
        targets = [fleet.origin + Ask("curl", number).target for number in (1, 2, 3)]
        command = (curl, "--silent", "--show-error", "--fail", "--rate", "30/m", "--write-out", "\n%{num_connects}\n")
        done = subprocess.run((*command, *targets), capture_output=True, timeout=PATIENCE)
        assert done.returncode == 0, done
        connects = [line for line in done.stdout.split(b"\n") if line in (b"0", b"1")]
        assert connects == [b"1", b"0", b"0"]
        assert fleet.pool["detached_total"] >= 2


def test_a_new_server_gets_requests_of_connections_that_were_there_before(node: str) -> None:
    with Fleet("httptools", "httptools") as fleet, crowd(fleet.origin, node, copies=2) as clients:
        first, second = fleet.servers
        fleet.reload([first])
        with Walk(clients) as walk:
            walk.wait_done()
            assert walk.answers.keys() == {first.name}
            fleet.reload()
            fleet.wait_served(second, 50)
        walk.check()
        assert opened(clients) == {}
