"""Load and slow start with traffic, through the real data plane."""

from __future__ import annotations

import contextlib
from collections import Counter

import pytest

from tests.conftest import MakeScene
from tests.helpers.peers import Backend, Peer, Served, connect, named
from tests.helpers.scene import Scene
from tests.helpers.waiting import wait_until
from tests.load.servers import ModelServer

QUEUE = "vllm:num_requests_waiting"
SIGNALS = {"queue": QUEUE}
FAST = {"signals": SIGNALS, "interval": "50ms", "timeout": "500ms", "stale_after": "1s"}


def served(scene: Scene, number: int) -> Counter[str]:
    """Which backends serve so many new sessions."""
    found: Counter[str] = Counter()
    for _ in range(number):
        with connect(scene.address) as client:
            found[client.read_first().decode().strip()] += 1
    return found


def weight(scene: Scene, name: str) -> float:
    return float(scene.backend_status(name)["effective_weight"])


@pytest.mark.slow
def test_a_server_that_is_full_gets_little(balance: MakeScene) -> None:
    with ModelServer("full", f"{QUEUE} 40\n") as full, ModelServer("idle", f"{QUEUE} 0\n") as idle:
        scene = balance(
            {"address": full.address, "name": "full"}, {"address": idle.address, "name": "idle"}, pool={"load": FAST}
        )
        wait_until(lambda: weight(scene, "full") <= 4 / 16, deadline=20, what=scene.pool_status)
        assert weight(scene, "idle") == 1
        found = served(scene, 20)
        assert found["idle"] >= 15 > 0 < found["full"]


@pytest.mark.slow
def test_a_server_that_hangs_is_average_and_delays_no_other(balance: MakeScene) -> None:
    with ModelServer("a", f"{QUEUE} 4\n") as a, ModelServer("b", f"{QUEUE} 0\n") as b:
        scene = balance({"address": a.address, "name": "a"}, {"address": b.address, "name": "b"}, pool={"load": FAST})
        wait_until(lambda: weight(scene, "a") <= 0.25 and weight(scene, "b") == 1, deadline=20)
        b.hanging.set()
        wait_until(lambda: scene.backend_status("b")["load"]["stale"])
        # Nothing is known but of `a`: both are worth the same.
        wait_until(lambda: weight(scene, "b") == weight(scene, "a"), deadline=20, what=scene.pool_status)
        assert scene.backend_status("a")["load"]["stale"] is False
        b.hanging.clear()


def test_the_load_is_shown(balance: MakeScene) -> None:
    with ModelServer("a", f'{QUEUE}{{engine="0"}} 1\n{QUEUE}{{engine="1"}} 1\n') as a:
        scene = balance({"address": a.address, "name": "a"}, pool={"load": FAST})
        wait_until(lambda: scene.backend_status("a")["load"]["utilisation"] == 0.4)
        load = scene.backend_status("a")["load"]
        assert (load["signals"], load["stale"], load["message"]) == ({"queue": 2}, False, "queue 2")
        assert 0 <= load["age_s"] < 5


def test_the_batch_of_a_server_becomes_its_limit(balance: MakeScene) -> None:
    """Clients beyond it wait in the queue, and the limit is shown with its reason."""
    signals = {"running": "vllm:num_requests_running", "queue": QUEUE}
    with ModelServer("a", f"vllm:num_requests_running 2\n{QUEUE} 1\n") as a:
        backend = {"address": a.address, "name": "a", "max_busy": "auto"}
        scene = balance(backend, pool={"load": FAST | {"signals": signals}, "queue": {"size": 10}})
        assert scene.backend_status("a")["max_busy_message"] == "not known yet: no request has waited in the server"
        wait_until(lambda: scene.backend_status("a")["max_busy"] == 3)
        assert scene.backend_status("a")["max_busy_message"] == "learnt: 2 run at once"
        _, metrics = scene.lb.fetch("GET", "/metrics")
        assert f'l4lb_backend_busy_limit{{pool="{scene.pool}",backend="a"}} 3' in metrics.decode()


def test_a_backend_that_joins_is_cold_until_it_has_responded(balance: MakeScene) -> None:
    """In a pool of plain sessions: its limit decides about new clients, its responses are those that are recognised."""
    with Backend() as a, Backend() as b:
        scene = balance(a, pool={"balance": "least_busy"})
        ask = b"q" * 100

        def asking(server: Backend) -> tuple[Peer, Peer]:
            client, answerer = scene.pair(server)
            client.send(ask)
            assert answerer.receive(len(ask)) == ask
            return client, answerer

        held = [asking(a) for _ in range(4)]
        scene.reload(backends=[a, b], pool={"slow_start": {"turns": 2, "responses": 2}})
        assert [scene.backend_status(name)["cold_left"] for name in ("b0", "b1")] == [0, 2]
        spared = [asking(b) for _ in range(2)]
        held.append(asking(a))
        for number, (client, answerer) in enumerate(spared):
            wait_until(lambda left=2 - number: scene.backend_status("b1")["cold_left"] == left)
            answerer.send(b"a" * 100)
            assert client.receive(100) == b"a" * 100
            client.send(ask)  # proves that the response was complete
        wait_until(lambda: scene.backend_status("b1")["cold_left"] == 0)
        for _ in range(3):
            asking(b)


def test_a_backend_that_joins_starts_slowly(balance: MakeScene) -> None:
    with contextlib.ExitStack() as stack:
        a, b = (stack.enter_context(Served(named(name))) for name in "ab")
        both = [{"address": a.address, "name": "a"}, {"address": b.address, "name": "b"}]
        scene = balance(both[0], pool={"slow_start": "1h"})
        scene.reload(backends=both)
        assert weight(scene, "b") == 2 / 16
        scene.reload(pool={"slow_start": "500ms"})
        wait_until(lambda: weight(scene, "b") == 1)
        assert served(scene, 10) == {"a": 5, "b": 5}
