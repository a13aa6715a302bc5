"""Which backend gets the next session, as clients and backends see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.conftest import MakeScene
from tests.helpers.algorithms import ALGORITHMS
from tests.helpers.peers import Address, Background, Peer, Served, ask, connect, named, read_name
from tests.helpers.scene import BackendLike, Scene
from tests.helpers.waiting import wait_until

SOURCES = [f"127.0.{third}.{fourth}" for third in (1, 2) for fourth in range(1, 61)]


@pytest.fixture
def servers() -> Iterator[list[Served]]:
    """Four backends that say their names: b0, b1, b2, b3."""
    with ExitStack() as stack:
        yield [stack.enter_context(Served(named(f"b{number}"))) for number in range(4)]


def weighted(servers: list[Served], *weights: int) -> list[BackendLike]:
    return [{"address": server, "weight": weight} for server, weight in zip(servers, weights, strict=False)]


def hold(scene: Scene, number: int) -> list[tuple[str, Peer]]:
    """New sessions that stay, each with the name of its backend."""
    held = []
    for _ in range(number):
        peer = scene.connect()
        held.append((read_name(peer), peer))
    return held


def ask_all(address: Address, sources: list[str]) -> dict[str, str]:
    return {source: ask(address, source=source) for source in sources}


def test_round_robin_is_exact_across_workers(balance: MakeScene, servers: list[Served]) -> None:
    """Clients of both workers draw from one sequence, also when they come at the same time."""
    scene = balance(*servers[:3])
    askers = [Background(lambda: Counter(ask(scene.address) for _ in range(30))) for _ in range(6)]
    counted: Counter[str] = Counter()
    for asking in askers:
        result = asking.result()
        assert isinstance(result, Counter)
        counted += result
    assert counted == {"b0": 60, "b1": 60, "b2": 60}


def test_round_robin_spreads_weights_evenly_over_time(balance: MakeScene, servers: list[Served]) -> None:
    scene = balance(*weighted(servers, 3, 1, 1), pool={"balance": "round_robin"})
    order = [ask(scene.address) for _ in range(40)]
    assert Counter(order) == {"b0": 24, "b1": 8, "b2": 8}
    # Smooth: any stretch of ten holds the weights' share, not thirty of one and then ten of the others.
    for start in range(30):
        assert 5 <= order[start : start + 10].count("b0") <= 7


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_weight_zero_takes_no_new_session(balance: MakeScene, servers: list[Served], algorithm: str) -> None:
    scene = balance(*weighted(servers, 0, 1), pool={"balance": algorithm})
    assert {ask(scene.address, source=source) for source in SOURCES[:30]} == {"b1"}


def test_least_connections_fills_the_emptiest(balance: MakeScene, servers: list[Served]) -> None:
    scene = balance(*servers[:3], pool={"balance": "least_connections"})
    held = hold(scene, 9)
    assert Counter(name for name, _ in held) == {"b0": 3, "b1": 3, "b2": 3}
    for name, peer in held:
        if name == "b1":
            peer.close()
    wait_until(lambda: scene.backend_status("b1")["connections"] == 0)
    assert [name for name, _ in hold(scene, 3)] == ["b1"] * 3


def test_least_connections_honours_weights(balance: MakeScene, servers: list[Served]) -> None:
    scene = balance(*weighted(servers, 3, 1), pool={"balance": "least_connections"})
    assert Counter(name for name, _ in hold(scene, 16)) == {"b0": 12, "b1": 4}


def test_power_of_two_keeps_the_load_close(balance: MakeScene, servers: list[Served]) -> None:
    scene = balance(*servers, pool={"balance": "power_of_two"})
    counted = Counter(name for name, _ in hold(scene, 80))
    assert len(counted) == 4
    assert max(counted.values()) - min(counted.values()) <= 10


def test_random_reaches_every_backend_by_weight(balance: MakeScene, servers: list[Served]) -> None:
    scene = balance(*weighted(servers, 6, 1, 1), pool={"balance": "random"})
    counted = Counter(ask(scene.address) for _ in range(200))
    assert set(counted) == {"b0", "b1", "b2"}
    assert counted["b0"] > 100


def test_first_fills_one_backend_before_the_next(balance: MakeScene, servers: list[Served]) -> None:
    limited = [{"address": server, "max_connections": 2} for server in servers[:3]]
    scene = balance(*limited, pool={"balance": "first"})
    held = hold(scene, 5)
    assert [name for name, _ in held] == ["b0", "b0", "b1", "b1", "b2"]
    held[0][1].close()
    wait_until(lambda: scene.backend_status("b0")["connections"] == 1)
    assert hold(scene, 1)[0][0] == "b0"


@pytest.mark.parametrize("algorithm", ["maglev", "source_hash"])
def test_same_source_reaches_the_same_backend(balance: MakeScene, servers: list[Served], algorithm: str) -> None:
    scene = balance(*servers, pool={"balance": algorithm})
    first = ask_all(scene.address, SOURCES)
    assert set(first.values()) == {"b0", "b1", "b2", "b3"}
    assert ask_all(scene.address, SOURCES) == first
    scene.reload(pool={"retries": 2})
    assert ask_all(scene.address, SOURCES) == first, "a reload moved clients though no backend changed"


def test_maglev_ignores_the_order_of_the_file(balance: MakeScene, servers: list[Served]) -> None:
    entries: list[BackendLike] = [{"name": f"n{i}", "address": server} for i, server in enumerate(servers)]
    scene = balance(*entries, pool={"balance": "maglev"})
    first = ask_all(scene.address, SOURCES)
    scene.reload(backends=entries[::-1])
    assert ask_all(scene.address, SOURCES) == first


def test_removing_a_maglev_backend_moves_few_other_clients(balance: MakeScene, servers: list[Served]) -> None:
    entries: list[BackendLike] = [{"name": f"n{i}", "address": server} for i, server in enumerate(servers)]
    scene = balance(*entries, pool={"balance": "maglev"})
    before = ask_all(scene.address, SOURCES)
    scene.reload(backends=entries[:2] + entries[3:])
    after = ask_all(scene.address, SOURCES)
    assert "b2" not in after.values()
    stayed = [source for source in SOURCES if before[source] != "b2"]
    moved = [source for source in stayed if after[source] != before[source]]
    assert len(moved) <= len(stayed) // 8
    scene.reload(backends=entries)
    assert ask_all(scene.address, SOURCES) == before


def test_a_dead_maglev_backend_is_left_by_its_clients_only_while_it_is_dead(
    balance: MakeScene, servers: list[Served]
) -> None:
    scene = balance(*servers, pool={"balance": "maglev"})
    before = ask_all(scene.address, SOURCES[:40])
    path = f"/api/v1/pools/{scene.pool}/backends/b1"
    assert scene.lb.request("PATCH", path, {"state": "maint"})[0] == 200
    during = ask_all(scene.address, SOURCES[:40])
    assert "b1" not in during.values()
    assert scene.lb.request("PATCH", path, {"state": "ready"})[0] == 200
    assert ask_all(scene.address, SOURCES[:40]) == before


def test_runtime_weight_changes_the_share_at_once(balance: MakeScene, servers: list[Served]) -> None:
    scene = balance(*servers[:2])
    status, body = scene.lb.request("PATCH", f"/api/v1/pools/{scene.pool}/backends/b1", {"weight": 3})
    assert (status, body["weight"], body["effective_weight"]) == (200, 3, 3)
    assert Counter(ask(scene.address) for _ in range(20)) == {"b0": 5, "b1": 15}


def test_draining_backend_keeps_its_sessions_and_takes_no_new_one(balance: MakeScene, servers: list[Served]) -> None:
    scene = balance(*servers[:2])
    held = dict(hold(scene, 2))
    path = f"/api/v1/pools/{scene.pool}/backends/b0"
    status, body = scene.lb.request("PATCH", path, {"state": "drain"})
    assert (status, body["state"], body["effective_weight"]) == (200, "drain", 0)
    assert [ask(scene.address) for _ in range(6)] == ["b1"] * 6
    held["b0"].send(b"still here")
    assert held["b0"].receive(10) == b"still here"
    assert scene.lb.request("PATCH", path, {"state": "ready"})[0] == 200
    assert {ask(scene.address) for _ in range(6)} == {"b0", "b1"}


def test_unknown_backend_and_bad_weight_are_refused(balance: MakeScene, servers: list[Served]) -> None:
    scene = balance(servers[0])
    pool = f"/api/v1/pools/{scene.pool}/backends"
    assert scene.lb.request("PATCH", f"{pool}/unknown", {"weight": 1})[0] == 404
    for body in ({"weight": -1}, {"weight": 257}, {"weight": "much"}, {"state": "asleep"}, {"colour": "red"}):
        status, answer = scene.lb.request("PATCH", f"{pool}/b0", body)
        assert status == 400
        assert answer["error"]
    assert ask(scene.address) == "b0"


def test_checked_backend_is_used_only_while_it_passes(balance: MakeScene) -> None:
    with Served(named("always")) as always, Served(named("sometimes")) as sometimes:
        address = sometimes.address
        health = {"type": "tcp", "interval": "50ms", "timeout": "500ms", "rise": 1, "fall": 2}
        scene = balance(always, sometimes, pool={"health": health})
        wait_until(lambda: {scene.backend_status(name)["health"] for name in ("b0", "b1")} == {"up"})
        sometimes.close()
        wait_until(lambda: scene.backend_status("b1")["health"] == "down")
        assert [ask(scene.address) for _ in range(6)] == ["always"] * 6
        assert scene.backend_status("b1")["connect_failures_total"] == 0
        with Served(named("sometimes"), *_parts(address)):
            wait_until(lambda: scene.backend_status("b1")["health"] == "up")
            assert {ask(scene.address) for _ in range(6)} == {"always", "sometimes"}


def _parts(address: Address) -> tuple[str, int]:
    assert isinstance(address, tuple)
    return address


def test_every_client_is_served_when_many_come_at_once(balance: MakeScene, servers: list[Served]) -> None:
    scene = balance(*servers)
    clients = [connect(scene.address) for _ in range(300)]
    names = Counter(read_name(client) for client in clients)
    for client in clients:
        client.close()
    assert names == {f"b{number}": 75 for number in range(4)}
