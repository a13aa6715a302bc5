"""The end of an embedded balancer: sessions get their time, waiting calls return, and nothing is left behind."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import l4lb
from tests.embedding.build import config, spotless
from tests.embedding.traffic import busy
from tests.helpers.leaks import resident_bytes
from tests.helpers.peers import Backend, Background, Peer, Served, ask, connect, named
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.usefixtures("clean")

MEBIBYTE = 1 << 20


def test_live_sessions_are_closed_at_the_end() -> None:
    with Backend() as backend, l4lb.Balancer(config(backend)) as lb:
        client = connect(lb.address("web"))
        server = backend.accept()
    with client, server:
        client.ended()
        server.ended()


@pytest.mark.parametrize("how", ["argument", "configuration"])
def test_sessions_get_time_to_end_where_there_is_some(how: str) -> None:
    process = {"process": {"drain_timeout": "60s"}} if how == "configuration" else {}
    with Backend() as backend:
        lb = l4lb.Balancer(config(backend, **process))
        lb.start()
        with busy(lb, backend) as (client, server):
            address = lb.address("web")
            closing = Background(lambda: lb.close(60 if how == "argument" else None))
            wait_until(lambda: lb.status().stopping)
            server.send(b"answer")
            assert client.receive(6) == b"answer"
            client.finish()
            server.finish()
            closing.result()
        with pytest.raises(ConnectionRefusedError):
            connect(address)


def test_the_service_manager_of_the_program_hears_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        with l4lb.Balancer(config()) as lb:
            lb.reload()
            lb.close(60)
        with pytest.raises(BlockingIOError):
            manager.recv(1000)


def test_closing_again_does_not_wait_for_sessions() -> None:
    with Backend() as backend, l4lb.Balancer(config(backend)) as lb, busy(lb, backend) as (client, _):
        closing = Background(lambda: lb.close(60))
        wait_until(lambda: lb.status().stopping)
        lb.close()
        closing.result()
        client.ended()
        lb.close()


def test_what_the_block_raises_comes_out_without_a_wait_for_sessions() -> None:
    with Backend() as backend:
        clients: list[Peer] = []

        def program() -> None:
            with l4lb.Balancer(config(backend, process={"drain_timeout": 3600})) as lb:
                clients.append(connect(lb.address("web")))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            program()
        with clients[0] as client:
            client.ended()


def calls(lb: l4lb.Balancer) -> list[Callable[[], object]]:
    """Every method but start and close."""
    return [
        lambda: lb.address("web"),
        lambda: lb.addresses("web"),
        lb.admin_address,
        lb.status,
        lb.metrics,
        lambda: lb.drain("app/b0"),
        lambda: lb.ready("app/b0"),
        lambda: lb.maint("app/b0"),
        lambda: lb.weight("app/b0", 1),
        lambda: lb.add("app", "127.0.0.1:9"),
        lambda: lb.change("app/b0", max_busy=1),
        lambda: lb.remove("app/b0"),
        lambda: lb.drained("app/b0"),
        lb.sessions,
        lambda: lb.kill(1),
        lb.reload,
    ]


def test_a_balancer_that_does_not_run_says_so() -> None:
    lb = l4lb.Balancer(config())
    assert len(calls(lb)) + 2 == sum(not name.startswith("_") for name in dir(lb))
    for call in calls(lb):
        with pytest.raises(l4lb.ControlError, match="does not run yet; use it inside of `with`"):
            call()
    lb.close()
    with lb, pytest.raises(l4lb.ControlError, match="runs already"):
        lb.start()
    lb.close()
    for call in (*calls(lb), lb.start):
        with pytest.raises(l4lb.ControlError, match="is closed; make another one"):
            call()


def test_callers_that_wait_during_a_close_get_an_error() -> None:
    with Backend() as backend, l4lb.Balancer(config(backend)) as lb, busy(lb, backend):
        waiting = [Background(lambda: lb.drained("app/b0")) for _ in range(3)]
        wait_until(lambda: all(one.running() for one in waiting))
        lb.close()
        for one in waiting:
            with pytest.raises(l4lb.ControlError, match="is closed"):
                one.result()


def test_an_unreferenced_balancer_ends_with_a_warning() -> None:
    balancers = [l4lb.Balancer(config())]
    balancers[0].start()
    with pytest.warns(ResourceWarning, match="was never closed"):
        balancers.clear()


def test_two_hundred_leave_nothing() -> None:
    def cycle() -> None:
        with l4lb.Balancer(config(backend)) as lb:
            assert ask(lb.address("web")) == "one"

    with Served(named("one")) as backend:
        for _ in range(20):
            cycle()
        before = resident_bytes(os.getpid())
        with spotless():
            for _ in range(200):
                cycle()
        assert resident_bytes(os.getpid()) - before < 16 * MEBIBYTE
