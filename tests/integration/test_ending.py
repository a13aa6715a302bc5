"""How sessions end that l4lb ends: with every byte, between two turns, and not before a response that is owed."""

from __future__ import annotations

import contextlib

import pytest

from tests.conftest import MakeScene
from tests.helpers.peers import Backend, Background, End, Ended, Peer, Served
from tests.helpers.waiting import observe, wait_until

QUESTION = b"GET /some/where HTTP/1.1\r\nHost: here\r\nUser-Agent: a client\r\nAccept: */*\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + bytes(100)


def test_a_response_is_waited_for_longer_than_half_close_if_the_client_ended_its_request(
    balance: MakeScene, backend: Backend
) -> None:
    scene = balance(backend, pool={"timeouts": {"half_close": "200ms"}})
    client, server = scene.pair(backend)
    client.send(QUESTION)
    client.finish()
    assert server.drain() == Ended(len(QUESTION), End.FIN)
    # More than half_close before the response, and more than half_close within it.
    for _ in range(2):
        observe(0.6)
        server.send(ANSWER)
        assert client.receive(len(ANSWER)) == ANSWER
    observe(0.6)
    server.finish()
    assert client.ended() is End.FIN
    scene.wait_closed("-- normal")


def test_a_backend_that_has_closed_has_its_place_back_though_the_client_stays(
    balance: MakeScene, backend: Backend
) -> None:
    scene = balance({"address": backend.address, "max_connections": 1}, pool={"queue": {"timeout": "1m"}})
    client, server = scene.pair(backend)
    client.send(QUESTION)
    assert server.receive(len(QUESTION)) == QUESTION
    with scene.connect() as waiting:
        wait_until(lambda: scene.pool_status()["queued"] == 1)
        server.send(ANSWER)
        server.close()
        with backend.accept() as next_server:
            assert client.drain() == Ended(len(ANSWER), End.FIN)
            waiting.send(QUESTION)
            assert next_server.receive(len(QUESTION)) == QUESTION


def ask_on(client: Peer, question: bytes) -> int:
    """Ask again and again, at once, until the connection is closed before a response; how many there were."""
    answers = 0
    while True:
        with contextlib.suppress(OSError):
            client.send(question)
        try:
            first = client.sock.recv(1)
        except ConnectionResetError:
            return answers
        if not first:
            return answers
        assert first + client.receive(len(ANSWER) - 1) == ANSWER
        answers += 1


SHORTEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
COMMAND = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n"


@pytest.mark.slow
@pytest.mark.parametrize("question", [QUESTION, SHORTEST, COMMAND], ids=["usual", "shortest", "redis"])
def test_clients_that_ask_again_at_once_are_drained_with_every_response_whole(
    balance: MakeScene, question: bytes
) -> None:
    def answer_all(peer: Peer) -> None:
        while peer.sock.recv(len(question)):
            peer.send(ANSWER)

    with Served(answer_all) as served:
        scene = balance(served)
        clients = [scene.connect() for _ in range(12)]
        asking = [Background(lambda client=client: ask_on(client, question)) for client in clients]  # type: ignore[misc]
        wait_until(lambda: scene.backend_status()["connections"] == 12)
        path = f"/api/v1/pools/{scene.pool}/backends/b0"
        assert scene.lb.request("PATCH", path, {"state": "drain"})[0] == 200
        wait_until(lambda: scene.backend_status()["connections"] == 0, deadline=60)
        for one in asking:
            answers = one.result()
            assert isinstance(answers, int)
            assert answers > 0


TOKEN = b"data: a\n\n"


@pytest.mark.slow
def test_a_stream_that_pauses_is_not_cut_by_a_drain_of_any_age(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend)
    client, server = scene.pair(backend)
    client.send(QUESTION)
    assert server.receive(len(QUESTION)) == QUESTION
    scene.lb.request("PATCH", f"/api/v1/pools/{scene.pool}/backends/b0", {"state": "drain"})
    # Steadily for longer than it takes a drain to want less silence, with a pause now and then.
    for pause in (0.2, 0.6, 2.0, 0.6, 2.0):
        for _ in range(40):
            server.send(TOKEN)
            assert client.receive(len(TOKEN)) == TOKEN
            observe(0.03)
        observe(pause)
    server.send(TOKEN)
    server.finish()
    assert client.drain() == Ended(len(TOKEN), End.FIN)
    client.finish()
    scene.wait_closed("-- normal")
