"""Which clients may connect, and what a limit means while two workers accept."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import MakeScene
from tests.helpers.peers import Address, Backend, Served, connect, echo, named, read_name
from tests.helpers.waiting import wait_until


def admitted(address: Address, source: str) -> bool:
    """Whether a client from `source` gets an answer rather than an end."""
    with connect(address, source=source) as client:
        return client.read_first() != b""


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ({}, {"127.0.0.1": True, "127.0.9.1": True}),
        ({"allow": ["127.0.0.0/24"]}, {"127.0.0.1": True, "127.0.0.255": True, "127.0.1.1": False}),
        ({"allow": ["127.0.0.7"]}, {"127.0.0.7": True, "127.0.0.6": False, "127.0.0.8": False}),
        ({"deny": ["127.0.0.2/31"]}, {"127.0.0.1": True, "127.0.0.2": False, "127.0.0.3": False, "127.0.0.4": True}),
        (
            {"allow": ["127.0.0.0/16"], "deny": ["127.0.5.0/24"]},
            {"127.0.4.255": True, "127.0.5.0": False, "127.0.5.255": False, "127.0.6.0": True, "127.1.0.1": False},
        ),
        ({"deny": ["127.0.0.0/8"], "allow": ["127.0.0.1"]}, {"127.0.0.1": False}),
        ({"allow": ["10.0.0.0/8", "::/0"]}, {"127.0.0.1": False}),
    ],
)
def test_allow_and_deny_lists(balance: MakeScene, lists: dict[str, list[str]], expected: dict[str, bool]) -> None:
    with Served(named("b")) as served:
        scene = balance(served, listener=lists)
        assert {source: admitted(scene.address, source) for source in expected} == expected
        refused = list(expected.values()).count(False)
        assert scene.listener_status()["rejected_total"]["denied"] == refused
        assert scene.backend_status()["connections_total"] == len(expected) - refused


def test_denied_client_reaches_no_backend(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend, listener={"deny": ["127.0.0.1"]})
    client = scene.connect()
    assert client.read_all() == b""
    wait_until(lambda: scene.listener_status()["rejected_total"]["denied"] == 1)
    assert not backend.pending()
    assert scene.listener_status()["connections"] == 0


def test_ipv6_clients_are_matched_too(balance: MakeScene) -> None:
    with Served(named("b")) as served:
        scene = balance(served, listener={"bind": "[::1]:0", "deny": ["::1/128"]})
        assert not admitted(scene.address, "::1")
        scene.reload(listener={"deny": ["::2/128", "0.0.0.0/0"]})
        assert admitted(scene.address, "::1")


def test_reload_replaces_the_lists_for_new_clients_only(balance: MakeScene) -> None:
    with Served(echo) as served:
        scene = balance(served)
        client = scene.connect()
        client.send(b"a")
        assert client.receive(1) == b"a"
        scene.reload(listener={"deny": ["127.0.0.0/8"]})
        assert scene.connect().read_all() == b""
        client.send(b"b")
        assert client.receive(1) == b"b"


def test_a_file_of_networks_is_read_again_at_each_reload(balance: MakeScene, tmp_path: Path) -> None:
    file = tmp_path / "deny.lst"
    file.write_text("# blocked\n127.0.0.2\n")
    with Served(named("b")) as served:
        scene = balance(served, listener={"deny": ["127.0.0.3", {"file": str(file)}]})

        def turned_away() -> list[str]:
            sources = [f"127.0.0.{number}" for number in range(1, 5)]
            return [source for source in sources if not admitted(scene.address, source)]

        assert turned_away() == ["127.0.0.2", "127.0.0.3"]
        file.write_text("127.0.0.4/31\n127.0.0.2\n127.0.0.1\n")
        assert turned_away() == ["127.0.0.2", "127.0.0.3"], "not before a reload"
        scene.reload()
        assert turned_away() == ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"]
        file.write_text("127.0.0.2\nnonsense\n")
        status, answer = scene.lb.request("POST", "/api/v1/reload")
        assert status == 422
        assert f"{file}:2:1: error: 'nonsense' is not a network" in answer["error"]
        assert turned_away() == ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"], "all or nothing"


def test_an_allow_list_that_lost_its_content_lets_no_client_in(balance: MakeScene, tmp_path: Path) -> None:
    file = tmp_path / "allow.lst"
    file.write_text("127.0.0.1\n")
    with Served(named("b")) as served:
        scene = balance(served, listener={"allow": {"file": str(file)}})
        assert admitted(scene.address, "127.0.0.1")
        file.write_text("")
        scene.reload()
        assert not admitted(scene.address, "127.0.0.1")


def test_a_hundred_thousand_networks_are_looked_up(balance: MakeScene, tmp_path: Path) -> None:
    file = tmp_path / "deny.lst"
    lines = [f"10.{number >> 8 & 255}.{number & 255}.{(number >> 16) * 16}/28" for number in range(100_000)]
    file.write_text("\n".join([*lines, "127.0.0.9/32"]))
    with Served(named("b")) as served:
        scene = balance(served, listener={"deny": {"file": str(file)}})
        assert admitted(scene.address, "127.0.0.1")
        assert not admitted(scene.address, "127.0.0.9")


@pytest.mark.parametrize("limit", [1, 7])
def test_listener_limit_is_exact_under_two_workers(balance: MakeScene, limit: int) -> None:
    with Served(named("b")) as served:
        scene = balance(served, listener={"max_connections": limit})
        clients = [scene.connect() for _ in range(40)]
        open_now = list(clients)
        highest = 0
        while open_now:
            wait_until(lambda: sum(client.readable() for client in open_now) >= min(limit, len(open_now)))
            served_now = [client for client in open_now if client.readable()]
            assert len(served_now) <= limit
            highest = max(highest, scene.listener_status()["connections"])
            for client in served_now:
                client.close()
                open_now.remove(client)
        assert highest <= limit
        assert scene.listener_status()["connections_total"] == 40


@pytest.mark.parametrize("waits_for", ["header", "name"])
def test_silent_clients_do_not_keep_out_those_of_another_listener(balance: MakeScene, waits_for: str) -> None:
    """They hold a quarter of the connections of the process, whatever they come for."""
    proxied = {"proxy_protocol": {"from": ["127.0.0.0/8"], "timeout": "1h"}}
    named_pool = {"balance": "maglev", "hash": {"key": "sni"}, "timeouts": {"hello": "1h"}}
    with Served(named("b")) as served, ExitStack() as stack:
        scene = balance(
            served,
            process={"max_connections": 40},
            listener=proxied if waits_for == "header" else {},
            pool=named_pool if waits_for == "name" else {},
            sections={
                "listeners": {"other": {"bind": "127.0.0.1:0", "pool": "other"}},
                "pools": {"other": {"backends": [str(served)]}},
            },
        )
        for _ in range(80):
            stack.enter_context(connect(scene.address))
        # A quarter stays, and each of two workers keeps one in any case.
        wait_until(lambda: scene.listener_status()["connections_total"] == 80)
        wait_until(lambda: scene.listener_status()["rejected_total"]["silent"] >= 80 - 12)
        others = [stack.enter_context(connect(scene.lb.address("other"))) for _ in range(20)]
        assert [read_name(other) for other in others] == ["b"] * 20
