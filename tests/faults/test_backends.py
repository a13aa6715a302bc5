"""Backends that refuse, stall, vanish or die: their clients get the best that is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.conftest import MakeScene
from tests.helpers.leaks import assert_quiet
from tests.helpers.peers import (
    Address,
    Backend,
    Background,
    End,
    Ended,
    Peer,
    Served,
    ask,
    blackhole,
    connect,
    echo,
    named,
    refused,
)
from tests.helpers.scene import Scene
from tests.helpers.waiting import observe, wait_until

MIB = 1 << 20

STREAMER = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    try:
        while True:
            connection.sendall(b"token " * 100)
    except OSError:
        pass
"""


@pytest.fixture
def streamer() -> Iterator[tuple[subprocess.Popen[str], Address]]:
    """A backend in a process of its own that streams for ever, one client at a time."""
    with subprocess.Popen([sys.executable, "-c", STREAMER], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, ("127.0.0.1", int(process.stdout.readline()))
        finally:
            process.kill()


def test_refusing_backend_costs_its_clients_nothing(balance: MakeScene) -> None:
    with refused() as dead, Served(named("alive")) as alive:
        scene = balance(dead, alive)
        assert [ask(scene.address) for _ in range(10)] == ["alive"] * 10
        status = scene.backend_status("b0")
        assert status["connect_failures_total"] == status["retries_total"] > 0
        assert status["connections"] == 0
        assert scene.backend_status("b1")["connections_total"] == 10
        assert {line["backend"] for line in scene.access(10)} == {"b1"}


def test_black_hole_is_left_after_the_connect_timeout(balance: MakeScene) -> None:
    with blackhole() as silent, Served(named("alive")) as alive:
        scene = balance(silent, alive, pool={"timeouts": {"connect": "200ms"}})
        asking = [Background(lambda: ask(scene.address)) for _ in range(6)]
        assert [question.result() for question in asking] == ["alive"] * 6
        status = scene.backend_status("b0")
        assert status["connect_timeouts_total"] == status["retries_total"] > 0


def test_only_black_holes_end_in_a_connect_timeout(balance: MakeScene) -> None:
    with blackhole() as silent:
        scene = balance(silent, pool={"timeouts": {"connect": "150ms"}, "retries": 1})
        client = scene.connect()
        client.read_all()
        scene.wait_closed("sC connect_timeout")
        line = scene.access()[0]
        assert line["retries"] == 1
        assert line["bytes_out"] == 0


def test_no_attempt_is_made_beyond_the_retries(balance: MakeScene) -> None:
    with refused() as dead:
        scene = balance(dead, pool={"retries": 2})
        scene.connect().read_all()
        scene.wait_closed("SC connect_failed")
        assert scene.backend_status()["connect_failures_total"] == 3


def test_all_backends_refusing_closes_the_client_at_once_and_does_not_spin(balance: MakeScene) -> None:
    with ExitStack() as stack:
        dead = [stack.enter_context(refused()) for _ in range(3)]
        scene = balance(*dead)
        for _ in range(20):
            with connect(scene.address) as client:
                assert client.read_all() == b""
        scene.wait_closed(*["SC connect_failed"] * 20)
        assert_quiet(scene.lb.pid, 0.5)


def test_no_usable_backend_closes_the_client_at_once(balance: MakeScene, backend: Backend) -> None:
    scene = balance({"address": backend, "weight": 0})
    with connect(scene.address) as client:
        assert client.read_all() == b""
    scene.wait_closed("SC no_backend")
    assert not backend.pending()
    assert scene.access()[0]["backend"] is None


def test_backend_that_closes_at_once_ends_its_client(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend)
    client, server = scene.pair(backend)
    server.close()
    assert client.ended() is End.FIN


def test_backend_that_resets_at_once_resets_its_client(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend)
    client, server = scene.pair(backend)
    # A reset that comes with the news of the connection is a failed attempt, and tried again.
    wait_until(lambda: [session["state"] for session in scene.lb.sessions()] == ["relay"])
    server.reset()
    assert client.ended() is End.RESET
    scene.wait_closed("SD server_abort")


@pytest.mark.parametrize("stalled", [False, True], ids=["reading", "stalled"])
def test_answer_before_a_reset_arrives_whole(balance: MakeScene, stalled: bool) -> None:
    """The backend answers, never reads the request, and closes: the kernel sends a RST behind the answer."""
    with Backend(receive_buffer=8192) as backend:
        scene = balance(backend)
        for number in range(20):
            size = (100, 5_000, 60_000, 300_000)[number % 4]
            client, server = scene.pair(backend, receive_buffer=8192 if stalled else None)
            client.send(b"request without a reader")
            wait_until(server.readable)
            answering = Background(lambda s=server, n=size: (s.send_pattern(1, n), s.wait_acknowledged(), s.close()))  # type: ignore[misc]
            if stalled and size <= 60_000:
                answering.result()
            received = client.drain(1)
            answering.result()
            assert received.count == size
            client.close()


def _broken_answer(balance: MakeScene, backend: Backend, **timeouts: str) -> tuple[Scene, Peer]:
    """A client that reads nothing has a part of an answer when its backend resets."""
    scene = balance(backend, pool={"timeouts": timeouts})
    client, server = scene.pair(backend, receive_buffer=4096)
    server.send_pattern(1, 60_000)
    server.wait_acknowledged()
    server.reset()
    wait_until(lambda: scene.backend_status()["busy"] == 0)
    return scene, client


def test_lifetime_ends_a_session_whose_client_does_not_take_what_is_left(balance: MakeScene, backend: Backend) -> None:
    scene, client = _broken_answer(balance, backend, lifetime="1s", half_close="1h")
    scene.wait_closed("SD server_abort")
    assert client.drain(1).end is End.RESET


def test_killed_while_its_client_takes_what_is_left_of_a_broken_answer(balance: MakeScene, backend: Backend) -> None:
    """A FIN would make the part look like all of it."""
    scene, client = _broken_answer(balance, backend)
    (session,) = scene.lb.sessions()
    assert scene.lb.request("DELETE", f"/api/v1/sessions/{session['session']}")[0] in (200, 204)
    assert client.drain(1).end is End.RESET
    scene.wait_closed("KD killed")


def test_client_that_never_speaks_is_closed_by_first_byte(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend, pool={"timeouts": {"first_byte": "300ms"}})
    client, server = scene.pair(backend)
    assert client.ended() is End.FIN
    assert server.ended() is End.FIN
    scene.wait_closed("cD first_byte")


def test_backend_that_never_answers_is_left_by_first_byte(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend, pool={"timeouts": {"first_byte": "300ms"}})
    client, server = scene.pair(backend)
    client.send(b"question")
    assert server.receive(8) == b"question"
    assert client.ended() is End.FIN
    scene.wait_closed("sD first_byte")


def test_backend_that_speaks_first_settles_first_byte(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend, pool={"timeouts": {"first_byte": "300ms"}})
    client, server = scene.pair(backend)
    server.send(b"banner")
    assert client.receive(6) == b"banner"
    observe(0.6)
    client.send(b"later")
    assert server.receive(5) == b"later"


def test_backend_that_finishes_without_a_byte_owes_no_first_byte(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend, pool={"timeouts": {"first_byte": "400ms"}})
    client, server = scene.pair(backend)
    client.send(b"upload")
    assert server.receive(6) == b"upload"
    server.finish()
    assert client.ended() is End.FIN
    observe(0.8)
    client.send(b"more")
    assert server.receive(4) == b"more"
    client.finish()
    scene.wait_closed("-- normal")


def test_killed_backend_ends_its_session_and_no_other(
    balance: MakeScene, backend: Backend, streamer: tuple[subprocess.Popen[str], Address]
) -> None:
    process, address = streamer
    scene = balance(address, backend, pool={"balance": "round_robin"})
    first, second = scene.connect(), scene.connect()
    wait_until(lambda: backend.pending() and (first.readable() or second.readable()))
    streamed, other = (first, second) if first.readable() else (second, first)
    with backend.accept() as server:
        data = streamed.receive(60_000)
        process.kill()
        data += streamed.read_all()
        assert data == (b"token " * (len(data) // 6 + 1))[: len(data)]
        other.send(b"unaffected")
        assert server.receive(10) == b"unaffected"
        other.close()


def test_frozen_backend_passes_a_tcp_check_and_fails_an_http_check(
    balance: MakeScene, streamer: tuple[subprocess.Popen[str], Address]
) -> None:
    """Its kernel still accepts, so only a check that wants an answer finds out."""
    process, address = streamer
    health = {"interval": "100ms", "timeout": "200ms", "rise": 1, "fall": 2}
    scene = balance(address, pool={"health": {"type": "tcp"} | health})
    wait_until(lambda: scene.backend_status()["health"] == "up")
    os.kill(process.pid, signal.SIGSTOP)
    try:
        passed = sum(scene.backend_status()["health_checks_total"].values())
        wait_until(lambda: sum(scene.backend_status()["health_checks_total"].values()) >= passed + 5)
        assert scene.backend_status()["health"] == "up"
        scene.reload(pool={"health": {"type": "http"} | health})
        wait_until(lambda: scene.backend_status()["health"] == "down", what=scene.backend_status)
    finally:
        os.kill(process.pid, signal.SIGCONT)


def test_backend_that_half_closes_first_still_gets_the_upload(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend)
    client, server = scene.pair(backend)
    server.send(b"go on")
    server.finish()
    assert client.drain() == Ended(5, End.FIN)
    sending = Background(lambda: (client.send_pattern(1, 8 * MIB), client.finish()))
    assert server.drain(1) == Ended(8 * MIB, End.FIN)
    sending.result()
    client.close()
    server.close()
    scene.wait_closed("-- normal")


def test_connection_limit_of_a_backend_is_never_exceeded(balance: MakeScene) -> None:
    """With two workers that decide at the same time."""
    lock = threading.Lock()
    now = highest = 0

    def count(peer: Peer) -> None:
        nonlocal now, highest
        with lock:
            now += 1
            highest = max(highest, now)
        try:
            peer.receive(1)
        finally:
            with lock:
                now -= 1

    def visit(address: Address) -> None:
        with connect(address) as client:
            client.send(b"x")
            client.drain()

    with Served(count) as served:
        scene = balance({"address": served, "max_connections": 2})
        for _ in range(10):
            visits = [Background(lambda: visit(scene.address)) for _ in range(12)]
            for visiting in visits:
                visiting.result()
        assert 1 <= highest <= 2
        wait_until(lambda: scene.backend_status()["connections"] == 0)
        assert set(scene.closed()) <= {"-- normal", "SC no_backend", "CD client_abort", "SD server_abort"}


def test_backends_come_and_go_under_load_and_scrapes(
    balance: MakeScene, backends: Callable[[int], list[Backend]]
) -> None:
    """A removed backend keeps its sessions; nothing is lost while metrics are read all the time."""
    stop = threading.Event()
    done = 0

    def load(address: Address) -> int:
        exchanges = 0
        while not stop.is_set():
            with connect(address) as client:
                for _ in range(5):
                    client.send_pattern(exchanges, 5000)
                    client.receive_pattern(exchanges, 5000)
                client.finish()
                assert client.ended() is End.FIN
            exchanges += 1
        return exchanges

    with ExitStack() as stack:
        servers = [stack.enter_context(Served(echo)) for _ in range(3)]
        scene = balance(*servers)
        loads = [Background(lambda: load(scene.address)) for _ in range(4)]

        def scrape() -> None:
            while not stop.is_set():
                assert scene.lb.fetch("GET", "/metrics")[0] == 200

        scraping = Background(scrape)
        try:
            for number in range(25):
                kept = [
                    {"name": f"b{i}", "address": server}
                    for i, server in enumerate(servers)
                    if (number + i) % 3 or i == 2
                ]
                scene.reload(backends=kept)
        finally:
            stop.set()
        scraping.result()
        done = sum(int(str(running.result())) for running in loads)
        assert done > 0
        assert scene.closed().keys() == {"-- normal"}
