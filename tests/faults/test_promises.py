"""What the README promises, all at once and for as long as one likes: no byte is lost, drains end, one pool's fault is
its own.

`STORM_SECONDS=600` makes it as long as it takes to believe it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.balancer import Balancer, Json
from tests.helpers.keepalive import BULK, BUSY, LATE, SLOW, THINKING, crowd, repeat, respond
from tests.helpers.leaks import holdings
from tests.helpers.peers import Peer, Served, refused, spelled
from tests.helpers.waiting import settled, wait_until

SECONDS = float(os.environ.get("STORM_SECONDS", "12"))
DRAIN_DEADLINE = 60.0
"""Seconds for a backend to be left by all clients: the slowest reads its response first, on a machine that is busy."""

FOLLOW_DEADLINE = 30.0
"""Seconds until what a healthy source says is in use."""

GARBAGE = [
    "",
    "{",
    "[1, 2, 3]",
    "null",
    json.dumps([{"targets": ["[fe80::1%nosuchinterface]:80"]}]),
    json.dumps([{"targets": ["10.0.0.1:99999"]}]),
    json.dumps([{"targets": ["x" * 300 + ":80"]}]),
    json.dumps([{"targets": None, "labels": {"weight": "much"}}]),
    "[" * 50_000,
    "\0\xff\xfe",
]
"""What a source should never say: not readable, not a list, and endpoints that cannot be used."""


def endless_interim(peer: Peer) -> None:
    """Answer every request with interim responses and nothing else, for as long as they are read."""
    peer.sock.recv(4096)
    while True:
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 2000)


def quadratic_metrics(peer: Peer) -> None:
    """A page whose one line costs a careless parser the square of its length."""
    peer.sock.recv(4096)
    body = b"q{" + b"a" * 60_000 + b"} 1\n"
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


class Sources:
    """Files that sources of backends read: one that tells nonsense, and one that is always right."""

    def __init__(self, folder: Path, backend: str) -> None:
        self.bad, self.good = folder / "bad.json", folder / "good.json"
        self._backend = backend
        self._weights = itertools.cycle(range(2, 250))
        self._nonsense = itertools.cycle(GARBAGE)
        self._tell(self.bad, 1)
        self._tell(self.good, 1)

    def _tell(self, file: Path, weight: int) -> None:
        _replace(file, json.dumps([{"targets": [self._backend], "labels": {"weight": str(weight)}}]))

    def follow(self, lb: Balancer) -> None:
        """While one source tells nonsense, what the other tells is used."""
        _replace(self.bad, next(self._nonsense))
        weight = next(self._weights)
        self._tell(self.good, weight)
        wait_until(
            lambda: weight in [one["weight"] for one in lb.status()["pools"]["good"]["backends"].values()],
            FOLLOW_DEADLINE,
            what=lambda: lb.status()["pools"]["good"],
        )


def _replace(file: Path, text: str) -> None:
    temporary = file.with_suffix(".new")
    temporary.write_text(text, encoding="latin-1")
    temporary.replace(file)


class Operator:
    """Drains and reloads at random, and fails when one of them does not come to its end."""

    def __init__(self, lb: Balancer, config: Json, names: list[str], seed: int) -> None:
        self._lb, self._config, self._names, self._random = lb, config, names, random.Random(seed)
        self._reloading = threading.Lock()
        self.drains = self.reloads = 0

    def drain(self) -> None:
        name = self._random.choice(self._names)
        self._set(name, "drain")
        wait_until(
            lambda: self._lb.status()["pools"]["web"]["backends"][name]["connections"] == 0,
            DRAIN_DEADLINE,
            what=lambda: [one for one in self._lb.sessions() if one["pool"] == "web" and one["backend"] == name],
        )
        self._set(name, "ready")
        self.drains += 1

    def _set(self, name: str, state: str) -> None:
        status, body = self._lb.request("PATCH", f"/api/v1/pools/web/backends/{name}", {"state": state})
        assert status == 200, body

    def reload(self) -> None:
        """Change the way to balance, and let a backend come and go. The others stay as they are in the file: a change
        there counts for more than a drain before it."""
        web = self._config["pools"]["web"]
        web["balance"] = self._random.choice(["round_robin", "least_busy", "least_connections", "power_of_two"])
        web["backends"] = web["backends"][: len(self._names)]
        if self._random.random() < 0.5:
            web["backends"].append({"name": "guest", "address": web["backends"][0]["address"]})
        if self._random.random() < 0.3:
            self._lb.write(self._config)
            self._lb.signal(signal.SIGHUP)
            return
        self._lb.reload(self._config)
        self.reloads += 1


@pytest.fixture
def deadline() -> Iterator[threading.Event]:
    """Set when the storm has lasted long enough."""
    over = threading.Event()
    timer = threading.Timer(SECONDS, over.set)
    timer.start()
    yield over
    timer.cancel()
    timer.join()


@pytest.mark.slow
@pytest.mark.timeout(300 + 2 * SECONDS)
def test_no_byte_is_lost_drains_end_and_a_fault_stays_in_its_pool(deadline: threading.Event, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        backends = [stack.enter_context(Served(respond)) for _ in range(4)]
        hostile = [stack.enter_context(Served(handler)) for handler in (endless_interim, quadratic_metrics)]
        dead = spelled(stack.enter_context(refused()))
        sources = Sources(tmp_path, str(backends[0]))
        config = _config(sources, [str(backend) for backend in backends], [str(one) for one in hostile], dead)
        lb = stack.enter_context(Balancer(config))
        before = settled(lambda: holdings(lb.pid).threads)
        operator = Operator(lb, config, [f"b{index}" for index in range(4)], seed=int(time.time()))
        habits = [BUSY] * 6 + [THINKING] * 4 + [BULK] * 2 + [SLOW] * 2 + [LATE] * 2
        with crowd(lb.address("web"), *habits) as clients:
            running = [
                repeat(action, deadline) for action in (operator.drain, operator.reload, lambda: sources.follow(lb))
            ]
            while not deadline.wait(0.5):
                clients.check()
                assert all(one.running() for one in running), [one.result() for one in running if not one.running()]
            for one in running:
                one.result(DRAIN_DEADLINE + 30)
        assert all(client.requests > 0 for client in clients.clients)
        assert operator.drains > 0
        assert operator.reloads > 0
        wait_until(lambda: not [one for one in lb.sessions() if one["pool"] == "web"], what=lb.sessions)
        lines = [line for line in lb.access() if line["pool"] == "web"]
        assert {line["reason"] for line in lines} <= {"normal", "drained", "client_abort"}, lines[:3]
        wait_until(lambda: holdings(lb.pid).threads <= before + 16)


def _config(sources: Sources, backends: list[str], hostile: list[str], dead: str) -> Json:
    def found(file: Path) -> Json:
        return {"discover": {"file": {"path": str(file)}}, "health": {"type": "tcp", "interval": "100ms"}}

    interim, quadratic = hostile
    scrape = {"interval": "100ms", "timeout": "100ms", "signals": {"queue": "q"}}
    pools: Json = {
        "web": {"backends": [{"name": f"b{index}", "address": address} for index, address in enumerate(backends)]},
        "bad": found(sources.bad),
        "good": found(sources.good),
        "interim": {
            "backends": [interim],
            "health": {"type": "http", "interval": "100ms", "timeout": "100ms"},
            "load": {"url": "http://{host}:{port}/metrics"} | scrape,
        },
        "quadratic": {"backends": [quadratic], "load": {"url": "http://{host}:{port}/metrics"} | scrape},
        "dead": {"backends": [dead], "health": {"type": "tcp", "interval": "50ms"}},
    }
    listeners = {name: {"bind": "127.0.0.1:0", "pool": name} for name in pools}
    return {"process": {"drain_timeout": "10s"}, "listeners": listeners, "pools": pools}
