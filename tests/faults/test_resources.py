"""Running out of something: descriptors, pipes, ports, connections, a log without a reader."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
from pathlib import Path

import psutil
import pytest

from l4lb.health.machine import UNDECIDED_MAX
from tests.conftest import MakeScene
from tests.helpers.balancer import Balancer, Json, UnixConnection
from tests.helpers.leaks import assert_quiet
from tests.helpers.network import isolated
from tests.helpers.peers import Backend, Background, End, Ended, Peer, Served, connect, echo, named, read_name
from tests.helpers.waiting import wait_until

MIB = 1 << 20


def limit_descriptors(pid: int, spare: int) -> None:
    """Let the process open `spare` more descriptors than it has (a number below a gap may still be used)."""
    highest = max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1 + spare, hard))


def restore_descriptors(pid: int) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))


def config(*backends: object, **pool: object) -> dict[str, object]:
    return {
        "listeners": {"main": {"bind": "127.0.0.1:0", "pool": "main"}},
        "pools": {"main": {"backends": [str(backend) for backend in backends]} | pool},
    }


@pytest.mark.parametrize("spare", [0, 1, 2, 3])
def test_no_descriptor_left_pauses_accepting_without_a_spin(spare: int) -> None:
    with Served(echo) as served, Balancer(config(served)) as lb, contextlib.ExitStack() as stack:
        address = lb.address("main")
        first = stack.enter_context(connect(address))
        first.send(b"a")
        assert first.receive(1) == b"a"
        limit_descriptors(lb.pid, spare)
        try:
            waiting = [stack.enter_context(connect(address)) for _ in range(30)]
            assert_quiet(lb.pid, 0.7)
            first.send(b"b")
            assert first.receive(1) == b"b"
        finally:
            restore_descriptors(lb.pid)
        # Clients that were accepted and could not be served are gone by now; those in the backlog are served.
        served_late = 0
        for client in waiting:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError, AssertionError):
                client.send(b"c")
                assert client.receive(1) == b"c"
                served_late += 1
        if spare == 0:
            assert served_late == len(waiting)
        latest = stack.enter_context(connect(address))
        latest.send(b"d")
        assert latest.receive(1) == b"d"
        assert len(lb.log.splitlines()) < 100


@pytest.mark.parametrize(
    "health",
    [{"type": "tcp"}, {"type": "redis"}, {"type": "exec", "command": ["/bin/true"]}],
    ids=lambda health: health["type"],
)
def test_no_descriptor_left_takes_no_backend_down(health: dict[str, object]) -> None:
    pool = {"health": health | {"interval": "20ms", "fall": 1}, "passive": {"failures": 1}}
    with Served(pong) as served, Balancer(config(served, **pool)) as lb, contextlib.ExitStack() as stack:
        address = lb.address("main")
        # It is open already: another one would need a descriptor.
        asking = UnixConnection(str(lb.socket_path), 10)
        stack.callback(asking.close)

        def backend() -> Json:
            asking.request("GET", "/api/v1/status")
            (found,) = json.load(asking.getresponse())["pools"]["main"]["backends"].values()
            return dict(found)

        wait_until(lambda: backend()["health"] == "up")
        before = backend()["health_checks_total"]
        limit_descriptors(lb.pid, 0)
        try:
            # They take the numbers that are left below the limit, and then wait.
            waiting = [stack.enter_context(connect(address)) for _ in range(2 * _gaps(lb.pid) + 10)]
            wait_until(lambda: backend()["health_checks_total"]["hindered"] > UNDECIDED_MAX + 20)
            during = backend()
        finally:
            restore_descriptors(lb.pid)
        assert during["health"] == "up"
        assert during["health_message"].startswith("checks hindered: ")
        assert during["health_checks_total"]["failure"] == before["failure"]
        waiting[-1].send(b"PING\r\n")
        assert waiting[-1].receive(1) == b"+"
        wait_until(lambda: backend()["health_checks_total"]["success"] > during["health_checks_total"]["success"])
        assert " is down" not in lb.log
        assert "ejected" not in lb.log


def pong(peer: Peer) -> None:
    if peer.read_first():
        peer.send(b"+PONG\r\n")
    peer.drain()


def test_the_last_descriptor_is_the_operators() -> None:
    """However low the limit is set at run time, also below what is open."""
    with Served(echo) as served, Balancer(config(served)) as lb, contextlib.ExitStack() as stack:
        address = lb.address("main")
        clients = [stack.enter_context(connect(address)) for _ in range(30)]
        for client in clients:
            client.send(b"a")
            assert client.receive(1) == b"a"
        for spare in (0, -20):
            limit_descriptors(lb.pid, spare)
            try:
                # More connections than there are descriptors in reserve, one after the other, and two at once.
                for _ in range(20):
                    assert lb.request("GET", "/healthz")[0] == 200
                    assert lb.request("GET", "/api/v1/status")[0] == 200
                    assert lb.fetch("GET", "/metrics")[0] == 200
                with contextlib.closing(UnixConnection(str(lb.socket_path), 10)) as held:
                    held.request("GET", "/healthz")
                    assert held.getresponse().read()
                    name = lb.status()["pools"]["main"]["backends"].popitem()[0]
                    change = {"state": "drain"}
                    assert lb.request("PATCH", f"/api/v1/pools/main/backends/{name}", change)[0] == 200
                assert_quiet(lb.pid, 0.5)
                clients[0].send(b"b")
                assert clients[0].receive(1) == b"b"
            finally:
                restore_descriptors(lb.pid)
            lb.reload()
        assert len(lb.log.splitlines()) < 100


def test_no_pipe_left_falls_back_to_copying(balance: MakeScene, backend: Backend) -> None:
    with Balancer(config(backend)) as lb, connect(lb.address("main")) as client, backend.accept() as server:
        address = lb.address("main")
        client.send(b"x")
        assert server.receive(1) == b"x"
        limit_descriptors(lb.pid, 0)
        # Fill the gaps below the highest descriptor, so that no number is left.
        fillers = [connect(address) for _ in range(8)] if _gaps(lb.pid) else []
        try:
            sending = Background(lambda: (client.send_pattern(1, 16 * MIB), client.finish()))
            assert server.drain(1) == Ended(16 * MIB, End.FIN)
            sending.result()
        finally:
            restore_descriptors(lb.pid)
            for filler in fillers:
                filler.close()


def _gaps(pid: int) -> int:
    numbers = [int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    return max(numbers) + 1 - len(numbers)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start it and have it change its user")
def test_unprivileged_pipe_allowance_is_no_limit_to_bulk_sessions() -> None:
    """Beyond the allowance pipes are small or missing; bytes are exact all the same."""
    sessions, each = 60, 2 * MIB
    settings = config_for_nobody()
    with Backend() as backend, Balancer(settings | config(backend)) as lb, contextlib.ExitStack() as stack:
        assert psutil.Process(lb.pid).uids().effective != 0
        pairs: list[tuple[Peer, Peer]] = []
        for _ in range(sessions):
            client = stack.enter_context(connect(lb.address("main"), receive_buffer=8192))
            pairs.append((client, stack.enter_context(backend.accept())))
        sending = [
            Background(lambda s=server, k=key: (s.send_pattern(k, each), s.finish()))  # type: ignore[misc]
            for key, (_, server) in enumerate(pairs)
        ]
        for key, (client, _) in enumerate(pairs):
            client.receive_pattern(key, 100_000)
        for key, (client, _) in enumerate(pairs):
            assert client.drain(key, 100_000) == Ended(each, End.FIN)
        for one in sending:
            one.result()


def config_for_nobody() -> dict[str, object]:
    return {"process": {"workers": 2, "user": "nobody"}}


def test_no_source_port_left_fails_those_sessions_and_recovers() -> None:
    with isolated() as network, network.entered():
        network.set("ipv4/ip_local_port_range", "40000 40019")
        with Served(named("b")) as served, Balancer(config(served, retries=0)) as lb, contextlib.ExitStack() as stack:
            address = lb.address("main")
            clients = [stack.enter_context(_connect_from(address, 50_000 + number)) for number in range(40)]
            names = [_try_name(client) for client in clients]
            assert 10 <= names.count("b") <= 20
            assert_quiet(lb.pid, 0.5)
            for client in clients:
                client.close()
            wait_until(lambda: lb.session_count() == 0)

            def served_again() -> bool:
                with _connect_from(address, 0) as client:
                    return _try_name(client) == "b"

            wait_until(served_again)


def _connect_from(address: object, port: int) -> Peer:
    sock = socket.socket()
    if port:
        sock.bind(("127.0.0.1", port))
    sock.settimeout(10)
    sock.connect(address)  # type: ignore[arg-type]
    return Peer(sock)


def _try_name(client: Peer) -> str | None:
    try:
        return read_name(client)
    except (AssertionError, OSError):
        return None


def test_blocked_access_log_does_not_stop_the_traffic() -> None:
    """Standard output has no reader: its pipe fills and the lines are dropped."""
    reading, writing = os.pipe()
    try:
        settings = {"log": {"access": {"to": "-", "format": "json", "events": ["open", "close"]}}}
        with Served(named("b")) as served, Balancer(settings | config(served), stdout=writing) as lb:
            address = lb.address("main")
            for _ in range(1500):
                with connect(address) as client:
                    assert read_name(client) == "b"
            status, _ = lb.request("GET", "/api/v1/status")
            assert status == 200
    finally:
        os.close(reading)
        os.close(writing)


def test_closed_standard_output_does_not_stop_the_traffic() -> None:
    reading, writing = os.pipe()
    settings = {"log": {"access": {"to": "-", "format": "json", "events": ["close"]}}}
    try:
        with Served(named("b")) as served, Balancer(settings | config(served), stdout=writing) as lb:
            os.close(reading)
            for _ in range(20):
                with connect(lb.address("main")) as client:
                    assert read_name(client) == "b"
    finally:
        os.close(writing)


@pytest.mark.parametrize("scope", ["process", "listener"])
def test_connection_limit_lets_clients_wait_in_the_backlog(scope: str) -> None:
    limit, number = 20, 60
    with Served(echo) as served:
        settings = config(served)
        if scope == "process":
            settings["process"] = {"workers": 2, "max_connections": limit}
        else:
            settings["listeners"]["main"]["max_connections"] = limit  # type: ignore[index]
        with Balancer(settings) as lb, contextlib.ExitStack() as stack:
            address = lb.address("main")
            clients = [stack.enter_context(connect(address)) for _ in range(number)]
            for client in clients:
                client.send(b"x")
            wait_until(lambda: lb.session_count() == limit, what=lb.sessions)
            assert_quiet(lb.pid, 0.5)
            assert lb.session_count() == limit
            wait_until(lambda: served.served == limit)
            answered = [client for client in clients if client.readable()]
            wait_until(lambda: sum(client.readable() for client in clients) == limit)
            answered = [client for client in clients if client.readable()]
            waiting = [client for client in clients if client not in answered]
            # Every one that leaves makes room for one that waits.
            for client in answered:
                client.close()
            wait_until(lambda: sum(client.readable() for client in waiting) == limit)
            assert lb.session_count() <= limit
            assert lb.status()["listeners"]["main"]["connections"] <= limit
            for client in waiting:
                if client.readable():
                    client.close()
            wait_until(lambda: served.served == number)
