"""Passive health over real connections: failing backends are ejected, come back, and never take the pool along."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conftest import MakeScene
from tests.helpers.peers import Address, Peer, Served, connect, echo, refused
from tests.helpers.scene import Scene
from tests.helpers.waiting import wait_until

PASSIVE = {"failures": 3, "eject": "1h", "max_ejected": "50%", "black_hole": "off"}


def ask(scene: Scene) -> bytes:
    """The answer to one question; nothing when the connection is broken."""
    with connect(scene.address) as client:
        with contextlib.suppress(OSError):
            client.send(b"question")
        return client.read_first()


def ejected(scene: Scene) -> set[str]:
    backends = scene.pool_status()["backends"]
    return {name for name, backend in backends.items() if backend["ejection"]["cause"]}


def ask_until(scene: Scene, *names: str) -> None:
    """Ask until exactly these are ejected."""

    def done() -> bool:
        ask(scene)
        return ejected(scene) == set(names)

    wait_until(done)


def reset_on_question(peer: Peer) -> None:
    peer.read_first()
    peer.reset()


def answering(name: str) -> Any:
    def handle(peer: Peer) -> None:
        while peer.read_first():
            peer.send(name.encode())

    return handle


def at(address: object, name: str) -> dict[str, Any]:
    return {"address": getattr(address, "address", address), "name": name}


def test_backend_that_passes_its_checks_and_resets_clients_is_ejected(balance: MakeScene) -> None:
    with Served(reset_on_question) as a, Served(answering("b")) as b:
        pool = {"passive": PASSIVE, "health": {"type": "tcp", "interval": "30ms"}}
        scene = balance(at(a, "a"), at(b, "b"), pool=pool)
        ask_until(scene, "a")
        assert {ask(scene) for _ in range(6)} == {b"b"}
        status = scene.backend_status("a")
        assert (status["health"], status["effective_weight"], status["ejection"]["cause"]) == ("up", 0, "failures")
        assert status["resets_total"] >= 3
        assert status["health_message"].startswith("ejected for another 3")
        assert 0 < status["ejection"]["left_s"] <= 3600
        assert scene.lb.metric("l4lb_backend_ejected", pool=scene.pool, backend="a") == 1
        assert scene.lb.metric("l4lb_backend_ejections_total", pool=scene.pool, backend="a", cause="failures") == 1
        scene.lb.wait_log(f"{scene.pool}/a is ejected for 3.6e+03 s: connections to it fail")


def test_backend_that_refuses_connections_is_ejected_without_any_check(balance: MakeScene) -> None:
    with refused() as a, Served(answering("b")) as b:
        scene = balance(at(a, "a"), at(b, "b"), pool={"passive": PASSIVE})
        ask_until(scene, "a")
        before = scene.backend_status("a")["connect_failures_total"]
        assert {ask(scene) for _ in range(6)} == {b"b"}
        assert scene.backend_status("a")["connect_failures_total"] == before


def test_ejected_backend_is_back_after_its_time_and_starts_slowly(balance: MakeScene) -> None:
    with Served(reset_on_question) as a, Served(answering("b")) as b:
        pool = {"passive": PASSIVE | {"eject": "500ms"}, "slow_start": "1h"}
        scene = balance(at(a, "a"), at(b, "b"), pool=pool)
        wait_until(lambda: scene.backend_status("a")["effective_weight"] > 0)
        ask_until(scene, "a")
        a.handler = answering("a")
        wait_until(lambda: ejected(scene) == set())
        wait_until(lambda: 0 < scene.backend_status("a")["effective_weight"] < 0.2)
        scene.lb.wait_log(f"{scene.pool}/a is back after its ejection")


def test_when_all_fail_some_stay_and_that_is_told(balance: MakeScene) -> None:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Served(reset_on_question)) for _ in range(4)]
        backends = [at(server, name) for server, name in zip(servers, "abcd", strict=True)]
        scene = balance(*backends, pool={"passive": PASSIVE})

        def all_found_out() -> bool:
            ask(scene)
            return scene.pool_status()["ejections_withheld_total"] == 2

        wait_until(all_found_out)
        assert len(ejected(scene)) == 2
        assert scene.lb.metric("l4lb_pool_ejections_withheld_total", pool=scene.pool) == 2
        scene.lb.wait_log("should be ejected and is not: 2 of 4 are")
        for server in servers:
            server.handler = answering("x")
        assert ask(scene) == b"x"


def test_ejection_ends_when_checks_take_out_the_others(balance: MakeScene) -> None:
    with Served(reset_on_question) as a:
        b = Served(answering("b"))
        checks = {"type": "tcp", "interval": "30ms", "fall": 1}
        scene = balance(at(a, "a"), at(b, "b"), pool={"passive": PASSIVE, "health": checks})
        ask_until(scene, "a")
        a.handler = answering("a")
        b.close()
        wait_until(lambda: ejected(scene) == set())
        wait_until(lambda: ask(scene) == b"a")
        scene.lb.wait_log(f"{scene.pool}/a is back before its time")
        assert f"pool {scene.pool} has no usable backend" not in scene.lb.log


def test_ejection_survives_a_reload_and_ends_with_the_section(balance: MakeScene) -> None:
    with Served(reset_on_question) as a, Served(answering("b")) as b:
        scene = balance(at(a, "a"), at(b, "b"), pool={"passive": PASSIVE})
        ask_until(scene, "a")
        scene.reload([at(a, "a") | {"weight": 3}, at(b, "b")])
        assert scene.backend_status("a")["effective_weight"] == 0
        scene.reload(pool={"passive": PASSIVE | {"failures": 9}})
        assert ejected(scene) == {"a"}
        scene.reload(pool={"passive": PASSIVE | {"failures": 9}, "retries": 1})
        with Served(answering("new")) as new:
            scene.reload([at(new, "a"), at(b, "b")])
            wait_until(lambda: {ask(scene) for _ in range(4)} == {b"new", b"b"})


def test_backends_that_fail_now_and_then_stay(balance: MakeScene) -> None:
    turns = iter(range(1_000_000))

    def every_other(peer: Peer) -> None:
        (reset_on_question if next(turns) % 2 else answering("a"))(peer)

    with Served(every_other) as a, Served(answering("b")) as b:
        scene = balance(at(a, "a"), at(b, "b"), pool={"passive": PASSIVE | {"failures": 5}})
        for _ in range(60):
            ask(scene)
        assert scene.backend_status("a")["resets_total"] > 5
        assert ejected(scene) == set()


def test_backend_that_breaks_off_its_answers_is_not_what_this_is_about(balance: MakeScene) -> None:
    """A backend that sent a byte works, as far as can be told from outside."""

    def handle(peer: Peer) -> None:
        peer.read_first()
        peer.send(b"x")
        peer.wait_acknowledged()
        peer.reset()

    with Served(handle) as a, Served(answering("b")) as b:
        scene = balance(at(a, "a"), at(b, "b"), pool={"passive": PASSIVE})
        for _ in range(20):
            ask(scene)
        wait_until(lambda: scene.closed().get("SD server_abort", 0) >= 10)
        assert scene.backend_status("a")["resets_total"] == 0
        assert ejected(scene) == set()


# ---- a black hole ----------------------------------------------------------------------------------------------------

ECHO = """
import socket, threading
def serve(peer):
    while data := peer.recv(65536):
        peer.sendall(data)
sock = socket.create_server(("127.0.0.1", 0))
print(sock.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(sock.accept()[0],), daemon=True).start()
"""


@dataclass
class Server:
    """An echo server in a process of its own, which can be stopped."""

    process: subprocess.Popen[str]
    address: Address

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@pytest.fixture
def server() -> Iterator[Server]:
    process = subprocess.Popen([sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        yield Server(process, ("127.0.0.1", int(process.stdout.readline())))
        process.kill()


@pytest.mark.slow
def test_backend_that_takes_questions_and_never_answers_is_ejected(balance: MakeScene, server: Server) -> None:
    with Served(echo) as b:
        pool = {"passive": PASSIVE | {"black_hole": "300ms", "eject": "1s"}, "timeouts": {"idle": "1m"}}
        scene = balance(at(server.address, "a"), at(b, "b"), pool=pool)
        assert {ask(scene) for _ in range(4)} == {b"question"}
        server.stop()
        try:
            # Every other client finds it; the ones that wait there are what it owes.
            clients = [scene.connect() for _ in range(12)]

            def found_out() -> bool:
                for client in clients:
                    client.send(b"?")
                return ejected(scene) == {"a"}

            wait_until(found_out)
            assert scene.backend_status("a")["ejection"]["cause"] == "black_hole"
            assert {ask(scene) for _ in range(4)} == {b"question"}
            scene.lb.wait_log("it owes answers and is silent, while others answer")
        finally:
            server.go_on()
        wait_until(lambda: ejected(scene) == set())
