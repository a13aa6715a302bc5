"""How the process begins: ready means that clients are served."""

from __future__ import annotations

import contextlib

from tests.helpers.balancer import Balancer, Json
from tests.helpers.peers import Backend, Served, ask, blackhole, connect, named, spelled
from tests.helpers.waiting import wait_until


def config(bind: str, backend: object, health: Json) -> Json:
    return {
        "listeners": {"main": {"bind": bind, "pool": "main"}},
        "pools": {"main": {"backends": [str(backend)], "health": health}},
    }


def test_first_client_after_ready_is_served_though_backends_are_checked() -> None:
    health = {"type": "tcp", "interval": "10s"}
    with Served(named("only")) as served, Balancer(config("127.0.0.1:0", served, health)) as lb:
        assert ask(lb.address("main")) == "only"
        assert not lb.status()["pools"]["main"]["closed_total"]["no_backend"]["SC"]


def test_client_that_comes_before_the_first_check_waits_for_it() -> None:
    health = {"type": "http", "interval": "10s", "timeout": "5s"}
    with Backend() as backend, Balancer() as lb, contextlib.ExitStack() as stack:
        bind = f"unix:{lb.directory}/listener"
        lb.stop()
        lb.write(config(bind, backend, health))
        lb.spawn()
        check = stack.enter_context(backend.accept())
        client = stack.enter_context(connect(f"{lb.directory}/listener"))
        client.send(b"early")
        check.receive(len(b"GET / HTTP/1.1\r\n"))
        check.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        server = stack.enter_context(backend.accept())
        assert server.receive(5) == b"early"
        lb.wait_notified("READY=1")


def test_check_without_an_answer_does_not_keep_the_process_from_starting() -> None:
    health = {"type": "tcp", "interval": "10s", "timeout": "300ms", "fall": 1}
    with blackhole() as address, Balancer(config("127.0.0.1:0", spelled(address), health)) as lb:
        wait_until(lambda: lb.status()["pools"]["main"]["backends"][spelled(address)]["health"] == "down")
        with connect(lb.address("main")) as client:
            client.ended()
