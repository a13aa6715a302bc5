"""Turns in front of real servers: what l4lb takes for in flight is what they have in flight."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import MakeScene
from tests.helpers.asgi import LONG_BYTES, Certificate, Server, certificate
from tests.helpers.scene import Scene
from tests.helpers.waiting import settled, wait_until

HANDSHAKE_TURNS_MAX = 2
"""The hellos are a turn; the client's last message and the session tickets may be another."""


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(params=["clear", "tls"])
def server(request: pytest.FixtureRequest, issued: Certificate) -> Iterator[Server]:
    """A server of HTTP/1.1."""
    with Server(issued if request.param == "tls" else None) as server:
        yield server


@pytest.fixture(params=["tcp", "http1"])
def either(request: pytest.FixtureRequest, balance: MakeScene) -> MakeScene:
    """Ends of responses are learnt, or follow from the messages. Inside TLS they are learnt in either case."""
    return functools.partial(balance, pool={"protocol": request.param})


@pytest.fixture
def http2(issued: Certificate) -> Iterator[Server]:
    with Server(issued, http2=True) as server:
        yield server


def handshake_turns(server: Server) -> int:
    """How many turns a connection may have before its first request."""
    return HANDSHAKE_TURNS_MAX if server.secure else 0


def busy(scene: Scene) -> int:
    return int(scene.backend_status()["busy"])


def turns(scene: Scene) -> int:
    return int(scene.backend_status()["turns_total"])


def wait_busy(scene: Scene, number: int) -> None:
    wait_until(lambda: busy(scene) == number, what=lambda: f"{busy(scene)} busy, not {number}")


@contextlib.contextmanager
def stream(client: httpx.Client, name: str) -> Iterator[Iterator[bytes]]:
    """The pieces of a stream that goes on until the server lets it end."""
    with client.stream("POST", f"/stream/{name}", content=b"q" * 500) as answer:
        assert answer.status_code == 200
        yield answer.iter_raw()


def test_as_many_are_busy_as_streams_run(either: MakeScene, server: Server) -> None:
    names = ["a", "b", "c"]
    scene = either(server.address)
    with server.client(scene.address) as client, contextlib.ExitStack() as stack:
        streams = [stack.enter_context(stream(client, name)) for name in names]
        wait_busy(scene, len(names))
        assert scene.backend_status()["connections"] == len(names)
        for ended, (name, pieces) in enumerate(zip(names, streams, strict=True), start=1):
            server.end(name)
            assert b"".join(pieces).endswith(b"[DONE]\n\n")
            wait_busy(scene, len(names) - ended)
        assert 0 <= turns(scene) - len(names) <= len(names) * handshake_turns(server)


def test_every_request_on_a_kept_connection_is_a_turn(either: MakeScene, server: Server) -> None:
    scene = either(server.address)
    with server.client(scene.address) as client:
        assert client.post("/short", content=b"q" * 500).json() == {"received": 500}
        first = settled(lambda: turns(scene))
        assert 0 <= first - 1 <= handshake_turns(server)
        for _ in range(20):
            client.post("/short", content=b"q" * 500)
        wait_busy(scene, 0)
        assert turns(scene) == first + 20
        assert scene.backend_status()["connections_total"] == 1


def test_streams_one_after_the_other_on_a_connection_are_a_turn_each(either: MakeScene, server: Server) -> None:
    scene = either(server.address)
    with server.client(scene.address) as client:
        client.post("/short", content=b"q" * 500)
        first = settled(lambda: turns(scene))
        for name in ("a", "b", "c"):
            with stream(client, name) as pieces:
                wait_busy(scene, 1)
                server.end(name)
                assert b"".join(pieces).endswith(b"[DONE]\n\n")
        wait_busy(scene, 0)
        assert turns(scene) == first + 3


def test_long_answer_is_one_turn_however_many_pieces_it_has(either: MakeScene, server: Server) -> None:
    scene = either(server.address)
    with server.client(scene.address) as client:
        client.post("/short", content=b"q" * 500)
        first = settled(lambda: turns(scene))
        with client.stream("GET", "/long") as answer:
            wait_busy(scene, 1)
            assert sum(map(len, answer.iter_bytes())) == LONG_BYTES
        wait_busy(scene, 0)
        assert turns(scene) == first + 1


def test_learnt_turns_are_as_many_as_the_messages_show(either: MakeScene) -> None:
    with Server(None) as server:
        scene = either(server.address)
        with server.client(scene.address) as client:
            for i in range(30):
                client.post("/short", content=b"q" * (100 + 50 * i))
                client.get("/long")
                with stream(client, f"{i}") as pieces:
                    wait_busy(scene, 1)
                    server.end(f"{i}")
                    assert b"".join(pieces).endswith(b"[DONE]\n\n")
                wait_busy(scene, 0)
        assert turns(scene) == 90


def test_connection_of_http2_is_busy_while_any_stream_runs(balance: MakeScene, http2: Server) -> None:
    scene = balance(http2.address)
    with http2.client(scene.address) as client:
        with stream(client, "a") as first, stream(client, "b") as second:
            wait_busy(scene, 1)
            http2.end("a")
            assert b"".join(first).endswith(b"[DONE]\n\n")
            next(second)
            wait_busy(scene, 1)
            http2.end("b")
            assert b"".join(second).endswith(b"[DONE]\n\n")
        wait_busy(scene, 0)
        assert scene.backend_status()["connections_total"] == 1
