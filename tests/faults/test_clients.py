"""Clients that misbehave: what each costs is bounded, and no other client notices."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.conftest import MakeScene
from tests.helpers.balancer import Balancer
from tests.helpers.leaks import assert_quiet, resident_bytes
from tests.helpers.network import INSIDE, cabled, vanish
from tests.helpers.peers import Backend, Background, End, Ended, Served, connect, echo, sink, source
from tests.helpers.waiting import observe, settled, wait_until

MIB = 1 << 20


@pytest.fixture
def small_backend() -> Iterator[Backend]:
    with Backend(receive_buffer=8192) as backend:
        yield backend


def test_silent_client_is_closed_on_both_sides_when_idle(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend, pool={"timeouts": {"idle": "300ms"}})
    client, server = scene.pair(backend)
    wait_until(client.broken)
    wait_until(server.broken)
    scene.wait_closed("cD idle")


def test_bytes_in_one_direction_keep_a_session_from_being_idle(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend, pool={"timeouts": {"idle": "1s"}})
    client, server = scene.pair(backend)
    for number in range(15):
        server.send(b"x")
        assert client.receive(1) == b"x", f"closed after {number} bytes"
        observe(0.1)
    wait_until(client.broken)


def test_resets_right_after_connecting_leave_nothing_behind(balance: MakeScene) -> None:
    with Served(echo) as served:
        scene = balance(served)
        for _ in range(400):
            connect(scene.address).reset()
        scene.wait_connections(0)
        wait_until(lambda: scene.backend_status()["connections"] == 0)
        with connect(scene.address) as client:
            client.send(b"still there")
            assert client.receive(11) == b"still there"


def test_reset_in_the_middle_of_bulk_gives_its_pipe_back(balance: MakeScene, small_backend: Backend) -> None:
    scene = balance(small_backend)
    for _ in range(10):
        client, server = scene.pair(small_backend)
        client.fill(1, 8 * MIB, quiet=0.02)
        client.reset()
        assert server.drain(1).end is End.RESET
        server.close()
    wait_until(lambda: scene.lb.workers_total("pipes_in_use") == 0)


def test_request_ended_by_fin_gets_its_whole_answer(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend)
    client, server = scene.pair(backend)
    client.send(b"everything, please")
    client.finish()
    assert server.drain() == Ended(18, End.FIN)
    answering = Background(lambda: (server.send_pattern(1, 8 * MIB), server.finish()))
    assert client.drain(1) == Ended(8 * MIB, End.FIN)
    answering.result()


@pytest.mark.parametrize("closer", ["client", "backend"])
def test_half_close_time_begins_with_the_fin(balance: MakeScene, backend: Backend, closer: str) -> None:
    """However long the session was silent before: the end that still has to send gets the whole time."""
    scene = balance(backend, pool={"timeouts": {"half_close": "1s"}})
    client, server = scene.pair(backend)
    first, second = (client, server) if closer == "client" else (server, client)
    observe(1.2)
    first.finish()
    assert second.ended() is End.FIN
    second.send(b"answer")
    assert first.receive(6) == b"answer"
    second.finish()
    assert first.ended() is End.FIN
    scene.wait_closed("-- normal")


@pytest.mark.parametrize("breaker", ["client", "backend"])
def test_reset_after_the_fin_is_passed_on(balance: MakeScene, backend: Backend, breaker: str) -> None:
    """Nothing is left to read from the end that finished, so only the event shows that it waits no longer."""
    scene = balance(backend)
    client, server = scene.pair(backend)
    first, second = (client, server) if breaker == "client" else (server, client)
    first.send(b"request")
    first.finish()
    assert second.drain() == Ended(7, End.FIN)
    first.reset()
    scene.wait_closed("CD client_abort" if breaker == "client" else "SD server_abort")
    wait_until(lambda: second.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), what="no reset")


def test_connect_and_fin_without_a_byte_ends_normally(balance: MakeScene, backend: Backend) -> None:
    scene = balance(backend)
    client, server = scene.pair(backend)
    client.close()
    assert server.ended() is End.FIN
    server.close()
    scene.wait_closed("-- normal")


@pytest.mark.parametrize("stuck", ["client", "backend"])
def test_peer_that_never_reads_costs_bounded_memory_and_a_bounded_time(
    balance: MakeScene, small_backend: Backend, stuck: str
) -> None:
    scene = balance(small_backend, pool={"timeouts": {"idle": "1s"}})
    client, server = scene.pair(small_backend, receive_buffer=8192)
    sender = server if stuck == "client" else client
    before = resident_bytes(scene.lb.pid)
    sender.fill(1)
    # The session must not be over before memory was looked at.
    assert scene.listener_status()["connections"] == 1
    assert resident_bytes(scene.lb.pid) - before < 8 * MIB
    wait_until(sender.broken)
    scene.wait_closed("cD idle" if stuck == "client" else "sD idle")


def test_client_that_never_reads_and_half_closes_costs_no_cpu_and_ends(
    balance: MakeScene, small_backend: Backend
) -> None:
    scene = balance(small_backend, pool={"timeouts": {"half_close": "1500ms"}})
    client, server = scene.pair(small_backend, receive_buffer=8192)
    sent = server.fill(1)
    client.finish()
    assert server.ended() is End.FIN
    assert_quiet(scene.lb.pid, 0.5)
    wait_until(server.broken)
    scene.wait_closed("cD half_close")
    received = client.drain(1)
    assert received.count <= sent


def test_fin_behind_a_stuck_transfer_costs_no_cpu(balance: MakeScene, small_backend: Backend) -> None:
    scene = balance(small_backend)
    client, server = scene.pair(small_backend)
    sent = client.fill(1)
    client.finish()
    assert_quiet(scene.lb.pid, 0.5)
    assert server.drain(1) == Ended(sent, End.FIN)


def test_slow_reader_is_served_without_a_spin(balance: MakeScene, small_backend: Backend) -> None:
    scene = balance(small_backend)
    client, server = scene.pair(small_backend, receive_buffer=8192)
    server.fill(1)
    reading = threading.Event()

    def slowly() -> None:
        for offset in range(0, 10_000_000, 100):
            client.receive_pattern(1, 100, offset)
            observe(0.01)
            if reading.is_set():
                return

    slow = Background(slowly)
    assert_quiet(scene.lb.pid, 1.0)
    reading.set()
    slow.result()


def test_both_ends_closing_at_once_is_one_clean_end(balance: MakeScene, backend: Backend) -> None:
    # A backend that resets before the balancer has seen it connected would be tried again.
    scene = balance(backend, pool={"retries": 0})
    rounds = 150
    for number in range(rounds):
        client, server = scene.pair(backend)
        barrier = threading.Barrier(2)

        def end(peer: object, how: str, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(10)
            getattr(peer, how)()

        hows = [("close", "close"), ("reset", "close"), ("close", "reset"), ("reset", "reset")][number % 4]
        ends = [Background(lambda c=client, h=hows[0]: end(c, h)), Background(lambda s=server, h=hows[1]: end(s, h))]  # type: ignore[misc]
        for ending in ends:
            ending.result()
    scene.wait_connections(0)
    wait_until(lambda: scene.backend_status()["connections"] == 0)
    wait_until(lambda: sum(scene.closed().values()) == rounds, what=scene.closed)


def test_many_idle_sessions_cost_no_cpu_and_hold_no_pipe(balance: MakeScene) -> None:
    with Served(echo) as served:
        scene = balance(served)
        before = resident_bytes(scene.lb.pid)
        clients = [scene.connect() for _ in range(1000)]
        for client in clients:
            client.send(b"x")
        for client in clients:
            assert client.receive(1) == b"x"
        assert scene.lb.workers_total("pipes_in_use") == 0
        settled(lambda: scene.lb.workers_total("copied_bytes_total"))
        assert_quiet(scene.lb.pid, 0.5)
        assert resident_bytes(scene.lb.pid) - before < 1000 * 4096
        for client in clients:
            client.close()


@pytest.mark.parametrize("downloading", [False, True], ids=["idle", "downloading"])
def test_client_that_vanishes_is_reaped(downloading: bool) -> None:
    """No FIN and no RST ever comes, and with a download running nothing is acknowledged either."""
    with cabled() as (inside, outside):
        with inside.entered():
            served = Served(source(1, 64 * MIB) if downloading else sink)
        with served, inside.entered():
            config = {
                "listeners": {"main": {"bind": f"{INSIDE}:0", "pool": "main"}},
                "pools": {"main": {"timeouts": {"idle": "700ms"}, "backends": [str(served)]}},
            }
            with Balancer(config) as lb:
                address = lb.address("main")
                with outside.entered():
                    client = connect(address, receive_buffer=8192)
                with client:
                    wait_until(lambda: served.served == 1)
                    if downloading:
                        client.receive_pattern(1, 10_000)
                    vanish(outside, INSIDE)
                    wait_until(lambda: lb.session_count() == 0, what=lb.sessions)
                    wait_until(lambda: not served.live)
