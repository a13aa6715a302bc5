"""Turns: what is in flight, told from bytes alone, and balancing by it."""

from __future__ import annotations

from tests.conftest import MakeScene
from tests.helpers.peers import Backend, Peer, Served, ask, named
from tests.helpers.scene import Scene
from tests.helpers.waiting import observe, wait_until

QUESTION = b"q" * 100
ANSWER = b"a" * 100


def busy(scene: Scene, name: str = "b0") -> int:
    return int(scene.backend_status(name)["busy"])


def phases(scene: Scene) -> list[str]:
    return sorted(session["phase"] for session in scene.lb.sessions())


def ask_over(client: Peer, server: Peer) -> None:
    client.send(QUESTION)
    assert server.receive(len(QUESTION)) == QUESTION


def answer_over(client: Peer, server: Peer) -> None:
    server.send(ANSWER)
    assert client.receive(len(ANSWER)) == ANSWER


def test_turns_are_counted_and_connections_are_not(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend)
    pairs = [scene.pair(backend) for _ in range(10)]
    assert busy(scene) == 0
    assert phases(scene) == ["new"] * 10
    for client, server in pairs[:3]:
        ask_over(client, server)
    wait_until(lambda: busy(scene) == 3)
    assert phases(scene) == ["new"] * 7 + ["wait"] * 3
    for client, server in pairs[:3]:
        answer_over(client, server)
    wait_until(lambda: busy(scene) == 0)
    assert phases(scene) == ["new"] * 7 + ["quiet"] * 3
    assert scene.backend_status()["turns_total"] == 3


def test_stream_is_in_flight_until_it_falls_silent(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend)
    client, server = scene.pair(backend)
    ask_over(client, server)
    for _ in range(20):
        answer_over(client, server)
        assert busy(scene) == 1
        observe(0.02)
    wait_until(lambda: busy(scene) == 0)
    assert phases(scene) == ["quiet"]
    assert scene.backend_status()["turns_total"] == 1
    assert scene.lb.metric("l4lb_backend_stream_gap_seconds_count", pool=scene.pool) == 19
    assert scene.lb.metric("l4lb_backend_turn_seconds_count", pool=scene.pool) == 1


def test_client_that_leaves_while_it_waits_is_in_flight_no_more(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend)
    client, server = scene.pair(backend)
    ask_over(client, server)
    wait_until(lambda: busy(scene) == 1)
    client.reset()
    server.close()
    wait_until(lambda: busy(scene) == 0)


def test_new_session_goes_where_fewest_turns_are_whatever_the_sockets(balance: MakeScene) -> None:
    """A pool of idle connections is no load; one request is."""
    with Backend() as pooled, Backend() as working:
        scene = balance(pooled, {"address": working.address, "weight": 0}, pool={"balance": "least_busy"})
        idle = [scene.pair(pooled) for _ in range(20)]
        observe(0.5)  # until nobody expects their first question any more
        scene.reload(backends=[{"address": pooled.address, "weight": 0}, working])
        client, server = scene.pair(working)
        ask_over(client, server)
        wait_until(lambda: busy(scene, "b1") == 1)
        scene.reload(backends=[pooled, working])
        scene.pair(pooled)
        assert (scene.backend_status("b0")["connections"], scene.backend_status("b1")["connections"]) == (
            len(idle) + 1,
            1,
        )


def test_new_clients_that_come_together_are_spread_before_they_ask(balance: MakeScene) -> None:
    with Served(named("b0")) as one, Served(named("b1")) as other:
        scene = balance(one, other, pool={"balance": "least_busy"})
        assert sorted(ask(scene.address) for _ in range(10)).count("b0") == 5
