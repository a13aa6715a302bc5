"""Queues: first come first served, bounded, and no client is forgotten."""

from __future__ import annotations

import contextlib

import pytest

from tests.conftest import MakeScene
from tests.helpers.peers import Address, Backend, End, Peer, Served, connect, named, read_name
from tests.helpers.scene import Scene
from tests.helpers.waiting import wait_until

QUESTION = b"q" * 100


def queued(scene: Scene) -> int:
    return int(scene.pool_status()["queued"])


def limited(address: Address, **limits: int) -> dict[str, object]:
    return {"address": address} | limits


def test_clients_are_served_in_the_order_they_came(balance: MakeScene, backend: Backend) -> None:
    scene = balance(limited(backend.address, max_connections=1), pool={"queue": {"size": 10, "timeout": "30s"}})
    client, server = scene.pair(backend)
    waiting = []
    for number in range(6):
        peer = scene.connect()
        peer.send(b"%d" % number)
        waiting.append(peer)
        wait_until(lambda n=number: queued(scene) == n + 1)  # type: ignore[misc]
    assert not backend.pending()
    for number in range(6):
        client.close()
        server.close()
        client, server = waiting[number], backend.accept()
        assert server.receive(1) == b"%d" % number
        assert scene.backend_status()["connections"] == 1
    assert queued(scene) == 0
    client.close()
    server.close()
    lines = scene.access(7)
    assert sorted(line["queue_s"] > 0 for line in lines) == [False] + [True] * 6


def test_room_is_full_at_its_size(balance: MakeScene, backend: Backend) -> None:
    scene = balance(limited(backend.address, max_connections=1), pool={"queue": {"size": 2, "timeout": "30s"}})
    scene.pair(backend)
    for number in range(2):
        scene.connect()
        wait_until(lambda n=number: queued(scene) == n + 1)  # type: ignore[misc]
    assert scene.connect().ended() is End.FIN
    assert scene.closed() == {"SQ queue_full": 1}


def test_waiting_ends_after_its_time(balance: MakeScene, backend: Backend) -> None:
    scene = balance(limited(backend.address, max_connections=1), pool={"queue": {"size": 2, "timeout": "300ms"}})
    scene.pair(backend)
    assert scene.connect().ended() is End.FIN
    assert queued(scene) == 0
    assert scene.closed() == {"sQ queue_timeout": 1}


@pytest.mark.parametrize("how", ["close", "reset"])
def test_client_that_leaves_gives_up_its_place_in_line(balance: MakeScene, backend: Backend, how: str) -> None:
    scene = balance(limited(backend.address, max_connections=1), pool={"queue": {"size": 5, "timeout": "30s"}})
    client, server = scene.pair(backend)
    leaver = scene.connect()
    wait_until(lambda: queued(scene) == 1)
    stayer = scene.connect()
    stayer.send(b"here")
    wait_until(lambda: queued(scene) == 2)
    getattr(leaver, how)()
    wait_until(lambda: queued(scene) == 1)
    assert scene.closed() == {"CQ client_abort": 1}
    client.close()
    server.close()
    with backend.accept() as next_server:
        assert next_server.receive(4) == b"here"


def test_end_of_a_turn_lets_the_next_client_in(balance: MakeScene, backend: Backend) -> None:
    scene = balance(limited(backend.address, max_busy=1), pool={"queue": {"size": 5, "timeout": "30s"}})
    client, server = scene.pair(backend)
    client.send(QUESTION)
    assert server.receive(100) == QUESTION
    second = scene.connect()
    second.send(b"next")
    wait_until(lambda: queued(scene) == 1)
    server.send(b"answer" * 20)
    with backend.accept() as next_server:
        assert next_server.receive(4) == b"next"


def test_backend_that_is_ready_again_takes_waiting_clients(balance: MakeScene) -> None:
    with Served(named("b0")) as served:
        scene = balance(served, pool={"queue": {"size": 50, "timeout": "30s"}})
        path = f"/api/v1/pools/{scene.pool}/backends/b0"
        scene.lb.request("PATCH", path, {"state": "drain"})
        clients = [scene.connect() for _ in range(20)]
        wait_until(lambda: queued(scene) == 20)
        scene.lb.request("PATCH", path, {"state": "ready"})
        assert [read_name(client) for client in clients] == ["b0"] * 20


def test_backend_of_a_reload_takes_waiting_clients(balance: MakeScene) -> None:
    with Served(named("b1")) as served, Backend() as full:
        scene = balance(limited(full.address, max_connections=1), pool={"queue": {"size": 50, "timeout": "30s"}})
        scene.pair(full)
        clients = [scene.connect() for _ in range(20)]
        wait_until(lambda: queued(scene) == 20)
        scene.reload(backends=[limited(full.address, max_connections=1), served])
        assert [read_name(client) for client in clients] == ["b1"] * 20


def test_everybody_is_served_and_no_limit_is_passed_in_a_crowd(balance: MakeScene) -> None:
    """Two workers, three places, a hundred clients of which every fifth leaves."""
    most = 0

    def serve(peer: Peer) -> None:
        peer.receive(100)
        peer.send(b"done")
        peer.read_all()

    with Served(serve) as served:
        scene = balance(limited(served.address, max_connections=3), pool={"queue": {"size": 200, "timeout": "60s"}})
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(scene.address)) for _ in range(100)]
            for client in clients[::5]:
                client.reset()
            for number, client in enumerate(clients):
                if number % 5:
                    client.send(QUESTION)
            waiting = {client for number, client in enumerate(clients) if number % 5}
            while waiting:
                # Workers accept in an order of their own: take whichever client is served.
                wait_until(lambda: any(client.readable() for client in waiting))
                most = max(most, scene.backend_status()["connections"])
                for client in [client for client in waiting if client.readable()]:
                    assert client.receive(4) == b"done"
                    client.close()
                    waiting.remove(client)
        assert most <= 3
        wait_until(lambda: queued(scene) == 0)
        wait_until(lambda: scene.backend_status()["connections"] == 0)
