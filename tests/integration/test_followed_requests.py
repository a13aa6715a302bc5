"""What the status, the metrics, the access log and passive health know of requests, and how clients leave a stop."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import MakeScene
from tests.helpers.balancer import STOP_DEADLINE, Balancer
from tests.helpers.peers import Handler, Peer, Served, connect
from tests.helpers.scene import Scene
from tests.helpers.upgrades import taking_care_of_orphans, upgrade
from tests.helpers.waiting import wait_until

HTTP1 = {"protocol": "http1", "balance": "round_robin"}
REQUESTS = {"access": {"format": "json", "events": ["request", "close"]}}


def responding(name: str, status: int = 200) -> Handler:
    """Answer each request with this name. A path that is a number is the status instead."""

    def handler(peer: Peer) -> None:
        while request := peer.read_first():
            while not request.endswith(b"\r\n\r\n"):
                request += peer.receive(1)
            path = request.split()[1].decode().strip("/")
            body = name.encode()
            head = f"HTTP/1.1 {path or status} Any\r\nContent-Length: {len(body)}\r\n\r\n"
            peer.send(head.encode() + body)

    return handler


def send(client: Peer, path: str = "/") -> None:
    client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


def read(client: Peer) -> tuple[int, str]:
    """The status and the name in a response."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.receive(1)
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    return int(head.split()[1]), client.receive(length).decode()


def ask(client: Peer, path: str = "/") -> tuple[int, str]:
    send(client, path)
    return read(client)


@pytest.fixture
def pair() -> Iterator[tuple[Served, Served]]:
    """Two servers that answer with `a` and `b`."""
    with Served(responding("a")) as a, Served(responding("b")) as b:
        yield a, b


def entries(*servers: Served) -> list[dict[str, Any]]:
    return [{"name": name, "address": str(server)} for name, server in zip("ab", servers, strict=False)]


def only_session(scene: Scene) -> dict[str, Any]:
    (session,) = (one for one in scene.lb.sessions() if one["listener"] == scene.listener)
    return session


def drain_other_than(scene: Scene, name: str) -> str:
    """Drain the backend that served last; the other one."""
    other = "b" if name == "a" else "a"
    path = f"/api/v1/pools/{scene.pool}/backends/{name}"
    assert scene.lb.request("PATCH", path, {"state": "drain"})[0] == 200
    return other


def test_each_request_has_a_line_and_the_session_says_how_often_it_moved(
    balance: MakeScene, pair: tuple[Served, Served]
) -> None:
    scene = balance(*entries(*pair), pool=HTTP1, log=REQUESTS)
    client = scene.connect()
    status, name = ask(client)
    other = drain_other_than(scene, name)
    assert ask(client, "/404") == (404, other)
    client.close()
    first, second, closed = scene.access(3)
    assert [line["event"] for line in (first, second, closed)] == ["request", "request", "close"]
    assert (status, first["status"], second["status"]) == (200, 200, 404)
    assert (first["backend"], second["backend"], closed["backend"]) == (name, other, other)
    assert [line["moves"] for line in (first, second, closed)] == [0, 1, 1]
    assert (closed["turns"], closed["pin"], closed["code"]) == (2, None, "--")
    for line, path in ((first, "/"), (second, "/404")):
        assert line["bytes_in"] == len(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
        assert line["bytes_out"] == len("HTTP/1.1 200 Any\r\nContent-Length: 1\r\n\r\na")
        assert 0 <= line["first_byte_s"] <= line["duration_s"]
    assert first["session"] == second["session"] == closed["session"]


def test_statuses_are_counted_by_class_and_moves_by_pool(balance: MakeScene, pair: tuple[Served, Served]) -> None:
    scene = balance(*entries(*pair), pool=HTTP1)
    client = scene.connect()
    _, name = ask(client)
    for path in ("/302", "/404", "/503", "/799"):
        assert ask(client, path)[1] == name
    expected = {"1xx": 0, "2xx": 1, "3xx": 1, "4xx": 1, "5xx": 1, "other": 1}
    assert scene.backend_status(name)["responses_total"] == expected
    labels = {"pool": scene.pool, "backend": name}
    assert scene.lb.metric("l4lb_backend_responses_total", **labels, code="5xx") == 1
    other = drain_other_than(scene, name)
    assert ask(client) == (200, other)
    session = only_session(scene)
    assert (session["backend"], session["moves"], session["status"], session["pin"]) == (other, 1, 200, None)
    assert scene.pool_status()["moves_total"] == 1
    assert scene.lb.metric("l4lb_pool_moves_total", pool=scene.pool) == 1
    assert scene.lb.metric("l4lb_backend_first_body_seconds_count", pool=scene.pool, backend=other) == 1


def test_a_client_of_another_protocol_is_pinned_and_served(balance: MakeScene) -> None:
    with Served(lambda peer: peer.send(peer.read_first())) as echo:
        scene = balance(echo, pool=HTTP1)
        client = scene.connect()
        client.send(b"\x16\x03\x01 no HTTP")
        assert client.receive(11) == b"\x16\x03\x01 no HTTP"
        assert only_session(scene)["pin"] == "not_http"
        assert scene.pool_status()["pinned_total"]["not_http"] == 1
        assert scene.lb.metric("l4lb_pool_pinned_total", pool=scene.pool, reason="not_http") == 1
        client.close()
        (line,) = scene.access()
        assert line["pin"] == "not_http"


def test_a_session_without_a_backend_connection_is_kept(balance: MakeScene, pair: tuple[Served, Served]) -> None:
    scene = balance(*entries(*pair), pool=HTTP1 | {"timeouts": {"backend_keepalive": "50ms"}})
    client = scene.connect()
    assert ask(client)[0] == 200
    wait_until(lambda: only_session(scene)["state"] == "kept")
    assert [backend["connections"] for backend in scene.pool_status()["backends"].values()] == [0, 0]
    assert scene.pool_status()["detached_total"] == 1
    assert only_session(scene)["backend"] is None
    _, name = ask(client)
    wait_until(lambda: only_session(scene)["state"] == "kept")
    client.close()
    (line,) = scene.access()
    assert (line["backend"], line["code"]) == (name, "--")


def test_a_backend_that_answers_with_server_errors_is_ejected_and_clients_go_on() -> None:
    passive = {"eject": "1h", "server_errors": {"share": "50%", "responses": 5, "within": "1m"}}
    with Served(responding("a", 500)) as bad, Served(responding("b")) as good, contextlib.ExitStack() as stack:
        config = {
            "listeners": {"main": {"bind": "127.0.0.1:0", "pool": "main"}},
            "pools": {"main": HTTP1 | {"backends": entries(bad, good), "passive": passive}},
        }
        with Balancer(config) as lb:
            clients = [stack.enter_context(connect(lb.address("main"))) for _ in range(4)]

            def ejected() -> bool:
                for client in clients:
                    ask(client)
                return lb.metric("l4lb_backend_ejected", pool="main", backend="a") == 1

            wait_until(ejected)
            assert [ask(client) for client in clients] == [(200, "b")] * len(clients)
            status = lb.status()["pools"]["main"]["backends"]
            assert status["a"]["ejection"]["cause"] == "server_errors"
            assert status["b"]["ejection"]["cause"] is None
            assert lb.metric("l4lb_backend_ejections_total", pool="main", backend="a", cause="server_errors") == 1
            assert "too many of its responses have a status of 5xx" in lb.log
            stack.close()


@pytest.mark.parametrize("spread", ["0s", "200ms"])
def test_a_stop_closes_clients_between_two_requests_and_lets_the_others_finish(spread: str) -> None:
    with Served(responding("a")) as quick, contextlib.ExitStack() as stack:
        pools = {"main": HTTP1 | {"backends": entries(quick), "drain_spread": spread}}
        config = {
            "process": {"drain_timeout": "1h"},
            "listeners": {"main": {"bind": "127.0.0.1:0", "pool": "main"}},
            "pools": pools,
        }
        with Balancer(config) as lb:
            idle, busy = (stack.enter_context(connect(lb.address("main"))) for _ in range(2))
            assert ask(idle) == ask(busy) == (200, "a")
            busy.send(b"GET / HTTP/1.1\r\nHost: ")
            wait_until(lambda: lb.status()["pools"]["main"]["backends"]["a"]["busy"] == 1)
            lb.signal(signal.SIGTERM)
            assert idle.read_all() == b""
            busy.send(b"x\r\n\r\n")
            assert read(busy) == (200, "a")
            assert busy.read_all() == b""
            lb.wait_exit()


def test_an_upgrade_moves_clients_between_two_requests() -> None:
    with Served(responding("a")) as server, taking_care_of_orphans(), contextlib.ExitStack() as stack:
        config = {
            "process": {"drain_timeout": "1h"},
            "listeners": {"main": {"bind": "127.0.0.1:0", "pool": "main"}},
            "pools": {"main": HTTP1 | {"backends": entries(server)}},
        }
        with Balancer(config) as lb:
            address = lb.address("main")
            idle, busy = (stack.enter_context(connect(address)) for _ in range(2))
            assert ask(idle) == (200, "a")
            busy.send(b"GET / HTTP/1.1\r\nHost: ")
            wait_until(lambda: lb.status()["pools"]["main"]["backends"]["a"]["busy"] == 1)
            old = upgrade(lb)
            assert idle.read_all() == b""
            assert ask(stack.enter_context(connect(address))) == (200, "a")
            busy.send(b"x\r\n\r\n")
            assert read(busy) == (200, "a")
            assert busy.read_all() == b""
            assert old.wait(STOP_DEADLINE) == 0
            stack.close()
