"""Clients come back to the backend they were given, for as long as that makes sense."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.conftest import MakeScene
from tests.helpers.algorithms import ALGORITHMS
from tests.helpers.balancer import Json
from tests.helpers.peers import Backend, Peer, Served, ask, named, read_name, refused
from tests.helpers.proxy_header import v1
from tests.helpers.scene import BackendLike, Scene
from tests.helpers.waiting import wait_until

SOURCES = [f"127.0.3.{number}" for number in range(1, 31)]
STICKY = {"sticky": {"ttl": "10m", "entries": 1000}}


@pytest.fixture
def servers() -> Iterator[list[Served]]:
    """Four backends that say their names: b0, b1, b2, b3."""
    with ExitStack() as stack:
        yield [stack.enter_context(Served(named(f"b{number}"))) for number in range(4)]


def entries_of(servers: list[Served], **values: object) -> list[BackendLike]:
    return [{"name": f"b{number}", "address": str(server)} | values for number, server in enumerate(servers)]


def sticky(scene: Scene) -> Json:
    found: Json = scene.pool_status()["sticky"]
    return found


def totals(scene: Scene) -> tuple[int, int, int, int]:
    """Hits, misses, moved, passed."""
    found = sticky(scene)
    return (found["hits_total"], found["misses_total"], found["moved_total"], found["passed_total"])


def ask_all(scene: Scene, sources: list[str] = SOURCES) -> dict[str, str]:
    return {source: ask(scene.address, source=source) for source in sources}


def stay(scene: Scene, source: str) -> tuple[str, Peer]:
    """A session that stays, and the name of its backend."""
    peer = scene.connect(source=source)
    return read_name(peer), peer


def set_state(scene: Scene, backend: str, state: str) -> None:
    assert scene.lb.request("PATCH", f"/api/v1/pools/{scene.pool}/backends/{backend}", {"state": state})[0] == 200


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_client_comes_back_to_its_backend(balance: MakeScene, servers: list[Served], algorithm: str) -> None:
    scene = balance(*servers, pool=STICKY | {"balance": algorithm})
    first = ask_all(scene)
    assert totals(scene) == (0, len(SOURCES), 0, 0)
    assert sticky(scene)["entries"] == len(SOURCES)
    # In another order, so that no turn taken explains it.
    assert ask_all(scene, SOURCES[::-1]) == first
    assert totals(scene) == (len(SOURCES), len(SOURCES), 0, 0)
    assert scene.lb.metric("l4lb_pool_sticky_hits_total", pool=scene.pool) == len(SOURCES)
    assert scene.lb.metric("l4lb_pool_sticky_entries", pool=scene.pool) == len(SOURCES)


def test_without_sticky_no_client_is_remembered(balance: MakeScene, servers: list[Served]) -> None:
    scene = balance(*servers)
    assert len({ask(scene.address, source=SOURCES[0]) for _ in range(4)}) == 4
    assert scene.pool_status()["sticky"] is None
    assert scene.lb.metric("l4lb_pool_sticky_entries", pool=scene.pool) == 0


def test_clients_behind_a_proxy_are_told_apart(balance: MakeScene, servers: list[Served]) -> None:
    scene = balance(*servers, pool=STICKY, listener={"proxy_protocol": {"from": ["127.0.0.0/8"]}})

    def ask_as(address: str) -> str:
        with scene.connect() as peer:
            peer.send(v1((address, 4000), ("2001:db8::80" if ":" in address else "192.0.2.80", 80)))
            return read_name(peer)

    sources = ["10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2"]
    first = [ask_as(source) for source in sources]
    assert len(set(first)) == 4
    assert [ask_as(source) for source in sources] == first


# ---- reloads ---------------------------------------------------------------------------------------------------------


def test_a_reload_keeps_what_is_known(balance: MakeScene, servers: list[Served]) -> None:
    scene = balance(*entries_of(servers), pool=STICKY)
    first = ask_all(scene)
    scene.reload(pool={"balance": "random", "retries": 1})
    assert ask_all(scene) == first
    # Another order, another size, another time.
    scene.reload(entries_of(servers)[::-1], pool={"sticky": {"ttl": "5m", "entries": 500}})
    assert ask_all(scene) == first
    assert totals(scene) == (2 * len(SOURCES), len(SOURCES), 0, 0)


def test_clients_of_a_backend_that_left_move_and_no_others(balance: MakeScene, servers: list[Served]) -> None:
    entries = entries_of(servers)
    scene = balance(*entries, pool=STICKY)
    first = ask_all(scene)
    scene.reload(entries[1:])
    after = ask_all(scene)
    assert {source: name for source, name in after.items() if first[source] != "b0"} == {
        source: name for source, name in first.items() if name != "b0"
    }
    assert "b0" not in after.values()
    # Back under its name, it is a new backend: no client is bound to it.
    scene.reload(entries)
    assert ask_all(scene) == after


def test_a_backend_that_moves_to_another_address_takes_its_clients_along(
    balance: MakeScene, servers: list[Served]
) -> None:
    scene = balance(*entries_of(servers[:2]), pool=STICKY)
    first = ask_all(scene)
    scene.reload([{"name": "b0", "address": str(servers[2])}, {"name": "b1", "address": str(servers[1])}])
    assert ask_all(scene) == {source: {"b0": "b2", "b1": "b1"}[name] for source, name in first.items()}


def test_sticky_can_be_turned_on_and_off(balance: MakeScene, servers: list[Served]) -> None:
    scene = balance(*servers)
    name, _ = stay(scene, SOURCES[0])
    scene.reload(pool=STICKY)
    # Clients that are connected at that moment are remembered.
    assert sticky(scene)["entries"] == 1
    assert {ask(scene.address, source=SOURCES[0]) for _ in range(4)} == {name}
    scene.reload(pool={"sticky": None})
    assert scene.pool_status()["sticky"] is None
    assert len({ask(scene.address, source=SOURCES[0]) for _ in range(4)}) == 4


# ---- backends that take no new sessions ------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["drain", "maint"])
def test_clients_leave_a_backend_that_is_taken_out_and_stay_away(
    balance: MakeScene, servers: list[Served], state: str
) -> None:
    scene = balance(*servers, pool=STICKY)
    first = ask_all(scene)
    of_b0 = [source for source in SOURCES if first[source] == "b0"]
    set_state(scene, "b0", state)
    after = ask_all(scene)
    assert "b0" not in after.values()
    assert all(after[source] == first[source] for source in SOURCES if source not in of_b0)
    assert totals(scene)[2] == len(of_b0) > 0
    # The backend is back; its clients stay away.
    set_state(scene, "b0", "ready")
    assert ask_all(scene) == after
    assert totals(scene)[2] == len(of_b0)


def test_clients_of_a_backend_without_weight_move(balance: MakeScene, servers: list[Served]) -> None:
    scene = balance(*servers[:2], pool=STICKY)
    first = ask_all(scene)
    path = f"/api/v1/pools/{scene.pool}/backends/b0"
    assert scene.lb.request("PATCH", path, {"weight": 0})[0] == 200
    assert set(ask_all(scene).values()) == {"b1"}
    assert totals(scene)[2] == Counter(first.values())["b0"]


def test_clients_of_a_backend_that_is_down_move_and_do_not_flap_back(balance: MakeScene) -> None:
    checks = {"health": {"type": "tcp", "interval": "20ms", "rise": 1, "fall": 1}}
    with Served(named("b1")) as second:
        first = Served(named("b0"))
        address = str(first)
        scene = balance({"address": address}, second, pool=STICKY | checks)
        wait_until(lambda: all(scene.backend_status(name)["health"] == "up" for name in ("b0", "b1")))
        # What the checks say is in force by now.
        scene.reload()
        before = ask_all(scene)
        assert set(before.values()) == {"b0", "b1"}
        first.close()
        wait_until(lambda: scene.backend_status("b0")["health"] == "down")
        assert set(ask_all(scene).values()) == {"b1"}
        assert totals(scene)[2] == Counter(before.values())["b0"]
        with Served(named("b0"), port=int(address.rpartition(":")[2])):
            wait_until(lambda: scene.backend_status("b0")["health"] == "up")
            assert set(ask_all(scene).values()) == {"b1"}
            assert "b0" in ask_all(scene, [f"127.0.5.{number}" for number in range(1, 5)]).values()


def test_a_client_insists_on_its_backend_and_moves_with_the_last_retry(balance: MakeScene) -> None:
    with Served(named("b1")) as second:
        first = Served(named("b0"))
        scene = balance(first, second, pool=STICKY | {"balance": "first", "retries": 2})
        assert ask(scene.address, source=SOURCES[0]) == "b0"
        first.close()
        assert ask(scene.address, source=SOURCES[0]) == "b1"
        assert scene.backend_status("b0")["retries_total"] == 2
        assert totals(scene) == (0, 1, 1, 0)
        # From now on at once.
        assert ask(scene.address, source=SOURCES[0]) == "b1"
        assert scene.backend_status("b0")["retries_total"] == 2
        assert totals(scene) == (1, 1, 1, 0)


def test_without_retries_the_next_session_of_the_client_goes_elsewhere(balance: MakeScene) -> None:
    with Served(named("b1")) as second:
        first = Served(named("b0"))
        scene = balance(first, second, pool=STICKY | {"retries": 0})
        assert ask(scene.address, source=SOURCES[0]) == "b0"
        first.close()
        with scene.connect(source=SOURCES[0]) as client:
            assert client.read_all() == b""
        # It is free now, and the turn is that of b1.
        assert ask(scene.address, source=SOURCES[0]) == "b1"
        assert totals(scene) == (0, 1, 1, 0)


def test_a_client_is_remembered_only_where_it_was_connected(balance: MakeScene, servers: list[Served]) -> None:
    with refused() as address:
        scene = balance({"name": "dead", "address": address}, servers[0], pool=STICKY | {"balance": "first"})
        assert ask(scene.address, source=SOURCES[0]) == "b0"
        assert totals(scene) == (0, 1, 0, 0)
        before = scene.backend_status("dead")["connections_total"]
        assert ask(scene.address, source=SOURCES[0]) == "b0"
        assert scene.backend_status("dead")["connections_total"] == before
        assert totals(scene) == (1, 1, 0, 0)


# ---- full backends ---------------------------------------------------------------------------------------------------


def test_a_full_backend_is_passed_over_and_still_remembered(balance: MakeScene, servers: list[Served]) -> None:
    scene = balance(*entries_of(servers[:2], max_connections=1), pool=STICKY | {"balance": "first"})
    name, peer = stay(scene, SOURCES[0])
    assert name == "b0"
    assert ask(scene.address, source=SOURCES[0]) == "b1"
    assert totals(scene) == (0, 1, 0, 1)
    peer.close()
    wait_until(lambda: scene.backend_status("b0")["connections"] == 0)
    assert ask(scene.address, source=SOURCES[0]) == "b0"
    assert totals(scene) == (1, 1, 0, 1)


def test_no_limit_is_passed_by_clients_that_come_back(balance: MakeScene, servers: list[Served]) -> None:
    scene = balance(*entries_of(servers[:2], max_connections=3), pool=STICKY | {"balance": "first"})
    held = [stay(scene, SOURCES[0]) for _ in range(6)]
    assert Counter(name for name, _ in held) == {"b0": 3, "b1": 3}
    assert scene.connect(source=SOURCES[0]).read_all() == b""


def test_a_client_of_a_full_backend_waits_where_everybody_is_full(balance: MakeScene, backend: Backend) -> None:
    room = {"queue": {"size": 10, "timeout": "30s"}}
    scene = balance({"address": backend.address, "max_connections": 1}, pool=STICKY | room)
    first, server = scene.connect(source=SOURCES[0]), backend.accept()
    second = scene.connect(source=SOURCES[0])
    second.send(b"here")
    wait_until(lambda: scene.pool_status()["queued"] == 1)
    first.close()
    server.close()
    with backend.accept() as next_server:
        assert next_server.receive(4) == b"here"
    wait_until(lambda: totals(scene) == (1, 1, 0, 0))


# ---- time and room ---------------------------------------------------------------------------------------------------


def test_a_client_is_forgotten_after_its_time_but_not_while_it_is_connected(
    balance: MakeScene, servers: list[Served]
) -> None:
    scene = balance(*servers, pool={"sticky": {"ttl": "50ms", "entries": 1000}})
    name, peer = stay(scene, SOURCES[0])
    for _ in range(3):
        # A client that came later is forgotten already.
        ask(scene.address, source=SOURCES[1])
        wait_until(lambda: sticky(scene)["entries"] == 1)
        assert ask(scene.address, source=SOURCES[0]) == name
    peer.close()
    wait_until(lambda: sticky(scene)["entries"] == 0)
    before = totals(scene)
    ask(scene.address, source=SOURCES[0])
    assert totals(scene)[1] == before[1] + 1


def test_a_session_that_lives_across_a_reload_keeps_its_entry(balance: MakeScene, servers: list[Served]) -> None:
    scene = balance(*servers, pool={"sticky": {"ttl": "50ms", "entries": 1000}})
    name, peer = stay(scene, SOURCES[0])
    for entries in (900, 2000):
        scene.reload(pool={"sticky": {"ttl": "50ms", "entries": entries}})
        ask(scene.address, source=SOURCES[1])
        wait_until(lambda: sticky(scene)["entries"] == 1)
        assert ask(scene.address, source=SOURCES[0]) == name
    peer.close()
    wait_until(lambda: sticky(scene)["entries"] == 0)


def test_no_more_clients_are_remembered_than_there_is_room_for(balance: MakeScene, servers: list[Served]) -> None:
    scene = balance(*servers, pool={"sticky": {"entries": 6}})
    sources = [f"127.0.4.{number}" for number in range(1, 61)]
    names = {}
    for source in sources:
        names[source] = ask(scene.address, source=source)
        # The last to disconnect must be the last that connected.
        wait_until(lambda: scene.lb.session_count() == 0)
        assert sticky(scene)["entries"] <= 6
    assert sticky(scene)["entries"] == 6
    assert ask_all(scene, sources[-6:]) == {source: names[source] for source in sources[-6:]}
    assert totals(scene) == (6, 60, 0, 0)


def test_rebalancing_moves_clients_that_are_remembered(balance: MakeScene, servers: list[Served]) -> None:
    scene = balance(
        *entries_of(servers[:1]),
        pool=STICKY | {"balance": "least_connections", "rebalance": {"rate": "1000/s", "quiet": "10ms"}},
    )
    held = {source: stay(scene, source)[1] for source in SOURCES[:10]}
    scene.reload(entries_of(servers[:2]))

    def come_back() -> bool:
        for source, peer in held.items():
            if peer.readable():
                peer.close()
                held[source] = stay(scene, source)[1]
        return bool(scene.backend_status("b1")["connections"] >= 4)

    wait_until(come_back)
    assert totals(scene)[2] >= 4
