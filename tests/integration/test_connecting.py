"""The way to a backend: what is full for a moment, and clients that give up before there is one."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.conftest import MakeScene
from tests.helpers.peers import Backend, Peer
from tests.helpers.scene import Scene
from tests.helpers.waiting import wait_until

QUESTION = b"q" * 100
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
