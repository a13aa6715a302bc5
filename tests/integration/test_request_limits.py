"""Limits of requests in flight that are learnt, or of a cold backend, in the servers' own count."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.conftest import MakeScene
from tests.helpers.keepalive import repeat
from tests.helpers.peers import Background, Peer, Served, connect
from tests.helpers.scene import Scene
from tests.helpers.waiting import wait_until

POOL = {"protocol": "http1", "balance": "least_busy", "queue": {"size": 100, "timeout": "1m"}}
CLIENTS = 12
BUSY_SECONDS = 0.02
"""How long a request takes, so that clients overlap."""


@dataclass
class ModelServer:
    """Works on `batch` requests at once; the others wait inside. Its metrics say how many run and wait."""

    batch: int
    responses: int = 0
    inside: int = 0
    running: int = 0
    most: int = 0
    most_when_cold: int = 0
    """Requests inside at once, before the third response."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _places: threading.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._places = threading.Semaphore(self.batch)

    def serve(self, peer: Peer) -> None:
        while request := peer.read_first():
            while not request.endswith(b"\r\n\r\n"):
                request += peer.receive(1)
            if request.startswith(b"GET /metrics"):
                with self._lock:
                    text = f"running {self.running}\nwaiting {self.inside - self.running}\n"
                respond(peer, text.encode())
            else:
                self._work(peer)

    def _work(self, peer: Peer) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            if self.responses < 3:
                self.most_when_cold = max(self.most_when_cold, self.inside)
        with self._places:
            with self._lock:
                self.running += 1
            threading.Event().wait(BUSY_SECONDS)
            with self._lock:
                self.running -= 1
                self.inside -= 1
                self.responses += 1
            respond(peer, b"done")


def respond(peer: Peer, body: bytes) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


@contextlib.contextmanager
def clients(scene: Scene, number: int) -> Iterator[None]:
    """Clients that ask again and again on connections that they keep."""
    stop, peers = threading.Event(), [connect(scene.address) for _ in range(number)]

    def asking(peer: Peer) -> Background:
        def ask() -> None:
            peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert peer.receive(len(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")).endswith(b"done")

        return repeat(ask, stop)

    running = [asking(peer) for peer in peers]
    try:
        yield
    finally:
        stop.set()
        for each in running:
            each.result()
        for peer in peers:
            peer.close()


def test_a_server_has_no_more_requests_than_its_batch_and_a_few_once_that_is_learnt(balance: MakeScene) -> None:
    server = ModelServer(batch=3)
    load = {"signals": {"running": "running", "queue": "waiting"}, "interval": "50ms"}
    with Served(server.serve) as served:
        scene = balance({"address": str(served), "max_busy": "auto"}, pool=POOL | {"load": load})
        with clients(scene, CLIENTS):
            # One or, while more is tried, two above the batch.
            wait_until(lambda: scene.backend_status()["max_busy"] in (4, 5))
            assert server.most == CLIENTS
            wait_until(lambda: server.inside <= 5)
            server.most = 0
            served_before = server.responses
            wait_until(lambda: server.responses > served_before + 300)
            assert server.most <= 5
            assert scene.backend_status()["max_busy_message"] == "learnt: 3 run at once"


def test_a_cold_server_has_few_requests_until_it_has_responded(balance: MakeScene) -> None:
    warm, cold = ModelServer(batch=CLIENTS), ModelServer(batch=CLIENTS)
    with Served(warm.serve) as a, Served(cold.serve) as b:
        scene = balance(a, pool=POOL)
        with clients(scene, CLIENTS):
            wait_until(lambda: warm.responses > CLIENTS)
            scene.reload(backends=[a, b], pool={"slow_start": {"turns": 2, "responses": 3}})
            wait_until(lambda: cold.responses > 10 * CLIENTS)
            assert 1 <= cold.most_when_cold <= 2
            assert cold.most > 2
            assert scene.backend_status("b1")["cold_left"] == 0
