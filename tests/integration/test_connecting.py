"""The way to a backend: what is full for a moment, and clients that give up before there is one."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.conftest import MakeScene
from tests.helpers.peers import Backend, Peer
from tests.helpers.scene import Scene
from tests.helpers.waiting import wait_until

QUESTION = b"q" * 100
QUEUE = {"queue": {"size": 100, "timeout": "1h"}}
PATIENT = {"connect": "1h"}


def asked(scene: Scene) -> Peer:
    """A client whose question has arrived."""
    client = scene.connect()
    client.send(QUESTION)
    client.wait_acknowledged()
    return client


def test_clients_wait_for_room_in_the_backlog_of_a_unix_socket(balance: MakeScene, tmp_path: Path) -> None:
    path = str(tmp_path / "narrow.sock")
    with Backend(path=path, backlog=0) as backend, socket.socket(socket.AF_UNIX) as first:
        first.connect(path)
        scene = balance(backend, pool={"timeouts": PATIENT})
        clients = [asked(scene) for _ in range(10)]
        wait_until(lambda: scene.backend_status()["connections"] == 10)
        backend.accept().close()
        for _ in clients:
            with backend.accept() as server:
                assert server.receive(100) == QUESTION
        for client in clients:
            client.close()
        assert sorted(line["code"] for line in scene.access(10)) == ["--"] * 10
        assert scene.backend_status()["connect_failures_total"] == 0


def test_no_backend_works_for_clients_that_gave_up_in_the_queue(balance: MakeScene, backend: Backend) -> None:
    entry = {"address": backend.address, "max_connections": 1}
    scene = balance(entry, pool=QUEUE | {"abort_on_close": True})
    client, server = scene.pair(backend)
    gone = [asked(scene) for _ in range(6)]
    patient = asked(scene)
    wait_until(lambda: scene.pool_status()["queued"] == 7)
    for peer in gone:
        peer.close()
    wait_until(lambda: scene.pool_status()["queued"] == 1)
    assert scene.closed() == {"CQ client_abort": 6}
    client.close()
    server.close()
    with backend.accept() as last:
        assert last.receive(100) == QUESTION
        last.send(b"answer")
        assert patient.receive(6) == b"answer"
    assert not backend.pending()


def test_a_question_that_ends_with_a_fin_waits_in_the_queue_by_default(balance: MakeScene, backend: Backend) -> None:
    scene = balance({"address": backend.address, "max_connections": 1}, pool=QUEUE)
    client, server = scene.pair(backend)
    finished = asked(scene)
    finished.finish()
    wait_until(lambda: scene.pool_status()["queued"] == 1)
    stays = asked(scene)
    wait_until(lambda: scene.pool_status()["queued"] == 2)
    client.close()
    server.close()
    with backend.accept() as next_server:
        assert next_server.receive(100) == QUESTION
        next_server.send(b"answer")
        assert finished.receive(6) == b"answer"
        assert scene.pool_status()["queued"] == 1
    stays.close()
