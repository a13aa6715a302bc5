"""Backends come and go, and pools change how they follow, while clients send requests: nothing fails."""

from __future__ import annotations

import json
from itertools import combinations

import pytest

from tests.clients.clients import Walk, crowd, opened
from tests.clients.fleet import Fleet
from tests.helpers.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KINDS = ("httptools", "h11", "aiohttp")


def test_clients_keep_their_connections_while_reloads_change_the_servers(node: str) -> None:
    with Fleet(*KINDS) as fleet, crowd(fleet.origin, node, copies=2) as clients:
        with Walk(clients) as walk:
            for _ in range(3):
                for servers in combinations(fleet.servers, 2):
                    fleet.reload(servers)
                    walk.wait_done(3)
            fleet.reload()
            walk.wait_done()
        walk.check()
        assert opened(clients) == {}
        assert walk.answers.keys() == {server.name for server in fleet.servers}
        fleet.check_connections()


def test_clients_keep_their_connections_while_a_source_changes_the_servers(node: str) -> None:
    with Fleet(*KINDS) as fleet:
        targets = fleet.balancer.directory / "targets.json"

        def found(*numbers: int) -> None:
            addresses = ["{}:{}".format(*fleet.servers[number].address) for number in numbers]
            new = targets.with_suffix(".new")
            new.write_text(json.dumps([{"targets": addresses}]))
            new.replace(targets)
            wait_until(
                lambda: set(addresses) == usable(fleet),
                what=lambda: (addresses, fleet.pool),
            )

        targets.write_text(json.dumps([{"targets": ["{}:{}".format(*fleet.servers[0].address)]}]))
        discover = {"file": {"path": str(targets)}, "hold": "0s"}
        fleet.reload([], discover=discover)
        with crowd(fleet.origin, node) as clients, Walk(clients) as walk:
            for numbers in ((0, 1), (1, 2), (2,), (0, 1, 2), (0,)):
                found(*numbers)
                walk.wait_done(3)
            walk.check()
            assert opened(clients) == {}
        fleet.check_connections()


def usable(fleet: Fleet) -> set[str]:
    return {backend["address"] for backend in fleet.pool["backends"].values() if backend["state"] == "ready"}


def test_a_pool_changes_between_followed_and_plain_under_traffic(node: str) -> None:
    with Fleet(*KINDS) as fleet, crowd(fleet.origin, node) as old, Walk(old) as walk:
        walk.wait_done()
        fleet.reload(protocol="tcp")
        walk.wait_done()
        with crowd(fleet.origin, node) as new:
            for client in new:
                client.name += " new"
            with Walk(new) as plain:
                plain.wait_done()
                fleet.reload(protocol="http1")
                plain.wait_done()
                walk.wait_done()
                # Sessions keep what they began with.
                states = [session["moves"] for session in fleet.balancer.sessions()]
                assert len(states) == len(old) + len(new)
            plain.check()
            assert opened(new) == {}
        walk.check()
        assert opened(old) == {}
        fleet.check_connections()
