"""Checks and traffic together: a backend that fails gets no new session, one that recovers does."""

from __future__ import annotations

import contextlib
import itertools
import threading
from typing import Any

import pytest

from tests.conftest import MakeScene
from tests.helpers.peers import Address, Backend, Background, Peer, Served, blackhole, connect, named
from tests.helpers.scene import Scene
from tests.helpers.waiting import wait_until
from tests.load.servers import ModelServer

FAST = {"type": "tcp", "interval": "30ms", "timeout": "1s", "rise": 2, "fall": 2}


def health(scene: Scene, name: str) -> str:
    return str(scene.backend_status(name)["health"])


def wait_serving(scene: Scene, *names: str) -> None:
    """Wait until new sessions go to exactly these. Changes within milliseconds of each other take effect together."""

    def serving() -> set[str]:
        found = set()
        for _ in range(4):
            with connect(scene.address) as client:
                found.add(client.read_first().decode().strip())
        return found

    wait_until(lambda: serving() == set(names))


class Switched(Served):
    """Answers a check of its health with `status`, and every other client with its name."""

    def __init__(self, name: str) -> None:
        self.status = 200

        def handle(peer: Peer) -> None:
            peer.sock.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                if peer.sock.recv(4096).startswith(b"GET /health "):
                    peer.send(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % self.status)
                    return
            peer.sock.settimeout(60)
            named(name)(peer)

        super().__init__(handle)


def test_backend_that_dies_gets_no_session_until_it_is_back(balance: MakeScene) -> None:
    with Served(named("b")) as b:
        a = Served(named("a"))
        scene = balance({"address": a.address, "name": "a"}, {"address": b.address, "name": "b"}, pool={"health": FAST})
        wait_until(lambda: health(scene, "a") == health(scene, "b") == "up")
        wait_serving(scene, "a", "b")
        assert isinstance(a.address, tuple)
        host, port = a.address
        a.close()
        wait_until(lambda: health(scene, "a") == "down")
        assert scene.backend_status("a")["effective_weight"] == 0
        assert scene.backend_status("a")["health_message"] == "Connection refused"
        wait_serving(scene, "b")
        with Served(named("a"), host, port):
            wait_until(lambda: health(scene, "a") == "up")
            wait_serving(scene, "a", "b")


def test_http_status_decides(balance: MakeScene) -> None:
    with Switched("a") as a, Switched("b") as b:
        pool: dict[str, Any] = {"health": FAST | {"type": "http", "path": "/health", "status": [200]}}
        scene = balance({"address": a.address, "name": "a"}, {"address": b.address, "name": "b"}, pool=pool)
        wait_until(lambda: health(scene, "a") == health(scene, "b") == "up")
        a.status = 503
        wait_until(lambda: health(scene, "a") == "down")
        assert scene.backend_status("a")["health_message"] == "HTTP 503"
        wait_serving(scene, "b")
        a.status = 200
        wait_until(lambda: health(scene, "a") == "up")


def test_backend_that_never_answers_gets_no_session_and_is_reported(balance: MakeScene) -> None:
    with Served(named("b")) as b:
        dead = _closed_address()
        scene = balance({"address": dead, "name": "a"}, {"address": b.address, "name": "b"}, pool={"health": FAST})
        wait_until(lambda: health(scene, "a") == "down" and health(scene, "b") == "up")
        wait_serving(scene, "b")
        assert scene.backend_status("a")["connect_failures_total"] == 0
        assert f"{scene.pool}/a is down: Connection refused" in scene.lb.log


@pytest.mark.slow
def test_established_session_outlives_the_health_of_its_backend(balance: MakeScene) -> None:
    with Switched("a") as a:
        scene = balance(
            {"address": a.address, "name": "a"}, pool={"health": FAST | {"type": "http", "path": "/health"}}
        )
        wait_serving(scene, "a")
        client = scene.connect()
        assert client.receive(2) == b"a\n"
        a.status = 500
        wait_until(lambda: health(scene, "a") == "down")
        client.send(b"still here")
        assert client.receive(10) == b"still here"
        assert scene.connect().read_all() == b""


@pytest.mark.parametrize("state", ["drain", "maint"])
def test_operator_and_checks_agree(balance: MakeScene, state: str) -> None:
    """A backend in maintenance is not checked; one that is ready again has to pass a check first."""
    with Served(named("a")) as a, Served(named("b")) as b:
        scene = balance({"address": a.address, "name": "a"}, {"address": b.address, "name": "b"}, pool={"health": FAST})
        wait_until(lambda: health(scene, "a") == health(scene, "b") == "up")
        path = f"/api/v1/pools/{scene.pool}/backends/a"
        assert scene.lb.request("PATCH", path, {"state": state})[0] == 200
        assert health(scene, "a") == ("up" if state == "drain" else "pending")
        wait_serving(scene, "b")
        assert scene.lb.request("PATCH", path, {"state": "ready"})[0] == 200
        wait_until(lambda: health(scene, "a") == "up")
        wait_serving(scene, "a", "b")


@pytest.mark.parametrize(("start", "serves"), [("up", True), ("down", False), ("pending", False)])
def test_state_before_the_first_checks(balance: MakeScene, start: str, serves: bool) -> None:
    """No check is over before the first client: the ones of this pool are not answered."""
    with blackhole() as hole, Served(named("a")) as a:
        assert isinstance(hole, tuple)
        checks = {"type": "tcp", "start": start, "timeout": "1h", "interval": "1h", "port": hole[1]}
        scene = balance({"address": a.address, "name": "a"}, pool={"health": checks})
        assert health(scene, "a") == start
        assert (scene.connect().read_first() == b"a\n") is serves


def test_exec_check_knows_its_backend(balance: MakeScene) -> None:
    with Served(named("a")) as a, Served(named("b")) as b:
        script = 'test "$L4LB_BACKEND" = a || { echo "not this one"; exit 1; }'
        checks = FAST | {"type": "exec", "command": ["/bin/sh", "-c", script], "timeout": "10s"}
        scene = balance(
            {"address": a.address, "name": "a"}, {"address": b.address, "name": "b"}, pool={"health": checks}
        )
        wait_until(lambda: health(scene, "a") == "up" and health(scene, "b") == "down")
        assert scene.backend_status("b")["health_message"] == "exit status 1: 'not this one'"
        wait_serving(scene, "a")


def test_backend_that_answers_clients_and_no_check_is_busy_and_goes_on_serving(balance: MakeScene) -> None:
    stop = threading.Event()

    def handle(peer: Peer) -> None:
        """Silence for a check, and a stream for a client."""
        if peer.receive(1) == b"s":
            while not stop.wait(0.01):
                peer.send(b"x")
        peer.drain()

    with Served(handle) as a:
        checks = FAST | {"type": "send_expect", "script": {"send": "check", "expect": "ok"}, "timeout": "100ms"}
        scene = balance({"address": a.address, "name": "a"}, pool={"health": checks | {"start": "up", "fall": 3}})
        client = Background(lambda: scene_stream(scene))
        wait_until(lambda: scene.backend_status("a")["health_checks_total"]["inconclusive"] > 4)
        assert health(scene, "a") == "up"
        assert scene.backend_status("a")["health_message"].startswith("busy: no answer to step 1 ('check')")
        stop.set()
        wait_until(lambda: health(scene, "a") == "down")
    client.result()


def scene_stream(scene: Scene) -> None:
    with connect(scene.address) as client:
        client.send(b"s")
        client.read_first()
        client.drain()


@pytest.mark.slow
def test_server_that_has_requests_and_gets_nowhere_is_down_until_it_goes_on(balance: MakeScene) -> None:
    with ModelServer("a", "running 2\ntokens_total 7\n") as a, ModelServer("b", "running 0\ntokens_total 7\n") as b:
        pool = {
            "health": FAST | {"progress": {"counter": "tokens_total", "stalled": "300ms"}},
            "load": {"interval": "30ms", "signals": {"running": "running"}},
        }
        scene = balance({"address": a.address, "name": "a"}, {"address": b.address, "name": "b"}, pool=pool)
        wait_until(lambda: health(scene, "a") == "down")
        assert scene.backend_status("a")["health_message"].startswith("tokens_total stands still for 0.3s or more")
        assert scene.backend_status("a")["stalled"]
        assert scene.lb.metric("l4lb_backend_stalled", pool=scene.pool, backend="a") == 1
        wait_serving(scene, "b")
        stop = threading.Event()

        def go_on() -> None:
            for number in itertools.count(8):
                if stop.wait(0.02):
                    return
                a.metrics = f"running 2\ntokens_total {number}\n"

        going_on = Background(go_on)
        wait_until(lambda: health(scene, "a") == "up")
        wait_serving(scene, "a", "b")
        stop.set()
        going_on.result()


def test_stalled_server_is_up_again_once_progress_is_no_longer_checked(balance: MakeScene) -> None:
    with ModelServer("a", "running 2\ntokens_total 7\n") as a:
        load = {"interval": "30ms", "signals": {"running": "running"}}
        checks = FAST | {"progress": {"counter": "tokens_total", "stalled": "100ms"}}
        scene = balance({"address": a.address, "name": "a"}, pool={"health": checks, "load": load})
        wait_until(lambda: health(scene, "a") == "down")
        scene.reload(pool={"health": FAST})
        assert health(scene, "a") == "up"


def _closed_address() -> Address:
    with Backend() as backend:
        return backend.address
