"""How the process begins: ready means that clients are served."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from tests.helpers.balancer import ROOT, Balancer, Json
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


def test_it_is_not_ready_before_its_first_checks_are_over() -> None:
    health = {"type": "http", "interval": "10s", "timeout": "5s"}
    with Backend() as backend, Balancer() as lb:
        lb.stop()
        lb.write(config("127.0.0.1:0", backend, health))
        lb.spawn()
        with backend.accept() as check:
            check.receive(len(b"GET / HTTP/1.1\r\n"))
            status, body = lb.request("GET", "/readyz")
            assert (status, body["problems"]) == (503, ["l4lb is starting: backends are checked for the first time"])
            check.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            lb.wait_notified("READY=1")
            assert lb.request("GET", "/readyz?pools=all")[0] == 200


def test_the_admin_socket_of_the_environment_may_be_relative(tmp_path: Path) -> None:
    with Served(named("only")) as served:
        lb = Balancer(env={"L4LB_SOCKET": os.path.relpath(tmp_path / "new" / "admin.sock", ROOT)})
        lb.write(config("127.0.0.1:0", served, {"type": "tcp"}) | {"admin": {"socket": None}})
        lb.socket_path = tmp_path / "new" / "admin.sock"
        with lb:
            assert ask(lb.address("main")) == "only"


def test_a_byte_order_mark_at_the_beginning_of_the_file_is_passed_over() -> None:
    with Served(named("only")) as served:
        lb = Balancer(config("127.0.0.1:0", served, {"type": "tcp"}))
        lb.file.write_bytes(b"\xef\xbb\xbf" + lb.file.read_bytes())
        with lb:
            assert ask(lb.address("main")) == "only"
