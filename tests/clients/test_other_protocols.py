"""What is not HTTP/1 in the clear passes a pool that follows HTTP/1, as it passes any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import MakeScene
from tests.helpers.asgi import LONG_BYTES, Server, certificate
from tests.helpers.peers import Served, echo, named, read_name
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("secure", [False, True])
def test_tls_and_http2_pass(balance: MakeScene, tmp_path: Path, secure: bool, http2: bool) -> None:
    with Server(certificate(tmp_path) if secure else None, http2=http2) as server:
        scene = balance(server.address, pool={"protocol": "http1"})
        with server.client(scene.address) as client:
            for _ in range(3):
                response = client.post("/short", content=b"x" * 100_000)
                assert response.json() == {"received": 100_000}
            assert len(client.get("/long").content) == LONG_BYTES
            assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            (session,) = scene.lb.sessions()
            assert session["pin"] == ("not_http" if secure or http2 else None)


def test_a_protocol_of_lines_passes(balance: MakeScene) -> None:
    with Served(echo) as backend:
        scene = balance(backend, pool={"protocol": "http1"})
        client = scene.connect()
        for line in (b"*1\r\n$4\r\nPING\r\n", b"\x00\x01\x02", b"GET / HTTP/1.1\r\n\r\n"):
            client.send(line)
            assert client.receive(len(line)) == line
        assert scene.pool_status()["pinned_total"]["not_http"] == 1
        client.finish()
        client.drain()


def test_a_server_that_speaks_first_is_reached_by_the_first_byte_of_the_client(balance: MakeScene) -> None:
    with Served(named("a")) as backend:
        scene = balance(backend, pool={"protocol": "http1"})
        client = scene.connect()
        scene.wait_connections(1)
        assert backend.served == 0
        client.send(b"hello\r\n")
        assert read_name(client) == "a"
        assert client.receive(7) == b"hello\r\n"
        wait_until(lambda: sum(scene.pool_status()["pinned_total"].values()) == 1)
