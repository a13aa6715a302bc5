"""A request that meets a backend connection just being closed is sent again, or not: as documented."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.clients.messages import Ask
from tests.clients.raw import read_response
from tests.conftest import MakeScene
from tests.helpers.peers import Backend, Peer
from tests.helpers.scene import Scene
from tests.helpers.waiting import wait_until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
KIB = 1 << 10


def request(method: str, size: int = 0) -> bytes:
    return Ask("c", 2, method, size=size).raw()


@contextmanager
def served(client: Peer, backends: list[Backend]) -> Iterator[tuple[Peer, Backend]]:
    """After a first request: the connection of the backend that had it, and the other backend."""
    client.send(Ask("c", 1).raw())
    wait_until(lambda: any(backend.pending() for backend in backends))
    first, other = sorted(backends, key=lambda backend: not backend.pending())
    with first.accept() as peer:
        peer.receive(len(Ask("c", 1).raw()))
        peer.send(OK + b"1!")
        assert read_response(client) == (200, b"1!")
        yield peer, other


def scene_of(balance: MakeScene, backends: list[Backend], **pool: object) -> Scene:
    """Both servers keep connections for longer than the test takes."""
    return balance(*backends, pool={"protocol": "http1", "timeouts": {"backend_keepalive": "10m"}, **pool})


Backends = Callable[[int], list[Backend]]
GOES = [
    ("idempotent", "GET", 0),
    ("idempotent", "HEAD", 0),
    ("idempotent", "PUT", 1000),
    ("idempotent", "DELETE", 0),
    ("all", "GET", 0),
    ("all", "POST", 30 * KIB),
    ("all", "PATCH", 0),
]
STAYS = [
    ("idempotent", "POST", 10),
    ("idempotent", "PATCH", 0),
    ("off", "GET", 0),
    ("all", "POST", 64 * KIB),
]


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize(("resend", "method", "size"), GOES)
def test_a_request_is_sent_again(
    balance: MakeScene, backends: Backends, resend: str, method: str, size: int, how: str
) -> None:
    both = backends(2)
    scene = scene_of(balance, both, resend=resend)
    client = scene.connect()
    with served(client, both) as (peer, _):
        sent = request(method, size)
        client.send(sent)
        assert peer.receive(len(sent)) == sent
        getattr(peer, how)()
        wait_until(lambda: any(backend.pending() for backend in both))
        second = next(backend for backend in both if backend.pending())
        with second.accept() as again:
            assert again.receive(len(sent)) == sent
            again.send(OK + (b"" if method == "HEAD" else b"2!"))
            assert read_response(client, method) == (200, b"" if method == "HEAD" else b"2!")
            assert scene.pool_status()["resends_total"] == 1
            # The connection goes on.
            client.send(Ask("c", 3).raw())
            assert again.receive(len(Ask("c", 3).raw())) == Ask("c", 3).raw()
            again.send(OK + b"3!")
            assert read_response(client) == (200, b"3!")


@pytest.mark.parametrize(("resend", "method", "size"), STAYS)
def test_a_request_is_not_sent_again(
    balance: MakeScene, backends: Backends, resend: str, method: str, size: int
) -> None:
    both = backends(2)
    scene = scene_of(balance, both, resend=resend)
    client = scene.connect()
    with served(client, both) as (peer, _):
        client.send(request(method, size))
        peer.receive(size + 1)
        peer.close()
        assert client.drain().count == 0
        assert scene.pool_status()["resends_total"] == 0
        assert not any(backend.pending() for backend in both)


def test_a_request_that_a_byte_of_a_response_came_to_is_not_sent_again(balance: MakeScene, backends: Backends) -> None:
    both = backends(2)
    scene = scene_of(balance, both, resend="all")
    client = scene.connect()
    with served(client, both) as (peer, _):
        client.send(request("GET"))
        peer.receive(len(request("GET")))
        peer.send(b"H")
        peer.close()
        assert client.read_all() == b"H"
        assert not any(backend.pending() for backend in both)


def test_a_request_that_is_not_complete_is_not_sent_again(balance: MakeScene, backends: Backends) -> None:
    both = backends(2)
    scene = scene_of(balance, both, resend="all")
    client = scene.connect()
    with served(client, both) as (peer, _):
        part = request("POST", 1000)[:-1]
        client.send(part)
        peer.receive(len(part))
        peer.close()
        assert client.drain().count == 0
        assert not any(backend.pending() for backend in both)


def test_the_first_request_of_a_backend_connection_is_not_sent_again(balance: MakeScene, backends: Backends) -> None:
    both = backends(2)
    scene = scene_of(balance, both, resend="all")
    client = scene.connect()
    client.send(request("GET"))
    wait_until(lambda: any(backend.pending() for backend in both))
    first = next(backend for backend in both if backend.pending())
    with first.accept() as peer:
        peer.receive(len(request("GET")))
    assert client.drain().count == 0
    assert not any(backend.pending() for backend in both)


@pytest.mark.parametrize("listens", [True, False])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_request_is_sent_again_elsewhere(balance: MakeScene, backends: Backends, how: str, listens: bool) -> None:
    """Also when its server still seems to accept, as one does that is dying."""
    both = backends(2)
    scene = scene_of(balance, both)
    client = scene.connect()
    with served(client, both) as (peer, other):
        client.send(request("GET"))
        assert peer.receive(len(request("GET"))) == request("GET")
        gone = next(backend for backend in both if backend is not other)
        if not listens:
            gone.close()
        getattr(peer, how)()
        with other.accept() as again:
            assert again.receive(len(request("GET"))) == request("GET")
            again.send(OK + b"2!")
            assert read_response(client) == (200, b"2!")
        assert not (listens and gone.pending())
